//! Reading from the outside: places, batches, waiting at the tail.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use vault_format::header::Header;
use vault_format::ids::{Offset, StreamId, Timestamp};

use crate::limits::{FEED_AGAIN, FOLLOW_EVERY, SIZE_PATIENCE};
use crate::log::blocks::Batches;
use crate::log::error::{ReadError, StreamFault, Unusable};
use crate::log::reader::{Cursor, Reader};
use crate::log::retention::overtaken::forget_deleted;
use crate::log::segments::{SegmentExtent, extents};
use crate::log::store::Segment;
use crate::log::stream::{Freshness, OpenStream, Stream};
use crate::log::tail::Tail;
use crate::metrics::log::Reading;

/// Waits for a read as long as a request may, and takes note of damage. A read that comes upon a segment which retention
/// has deleted begins anew: what it finds then tells. Retention may delete faster than a read looks, but not for longer
/// than there are segments. A macro, since a closure that reads on from a cursor could not be sent from thread to thread.
macro_rules! bounded {
    ($reader:expr, $read:expr) => {{
        let clock = &$reader.stream.env().clock;
        let end = clock.monotonic() + $reader.stream.patience();
        loop {
            let first = $reader.first_offset();
            match $reader.patiently($read).await {
                // What was deleted may be there again, blank, made by a request that came late.
                Err(ReadError::Unusable(
                    Unusable::NotFound | Unusable::Fault(StreamFault::Corrupt { .. }),
                )) if $reader.is_overtaken(first).await => {
                    if clock.monotonic() >= end {
                        break Err(Unusable::TimedOut.into());
                    }
                }
                read => break $reader.noting_damage(read).await,
            }
        }
    }};
}

/// Reads a stream. What it reads is a prefix of the log.
#[derive(Debug)]
pub struct StreamReader {
    stream: Arc<Stream>,
    open: Arc<OpenStream>,
    _reading: Option<Reading>,
}

impl Clone for StreamReader {
    /// Of the clones of a reader the first alone counts as a read that goes on.
    fn clone(&self) -> Self {
        Self { stream: Arc::clone(&self.stream), open: Arc::clone(&self.open), _reading: None }
    }
}

impl StreamReader {
    pub(crate) fn new(stream: Arc<Stream>, open: Arc<OpenStream>) -> Self {
        let reading = Some(stream.begin_reading());
        Self { stream, open, _reading: reading }
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The id of what is read: a stream that is made anew under the same name has another.
    #[must_use]
    pub fn stream_id(&self) -> StreamId {
        self.open.reader.store.id
    }

    /// The tail as it is now.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.open.reader.tail()
    }

    /// The first offset that is kept.
    #[must_use]
    pub fn first_offset(&self) -> Offset {
        self.open.reader.first_offset()
    }

    /// How many segments there are, and the bytes in them up to the tail. How far sealed segments go is looked up where
    /// it is not known; one counts as full whose end cannot be found out within [`SIZE_PATIENCE`].
    pub async fn size(&self) -> (usize, u64) {
        let reader = &self.open.reader;
        let (sealed, _) = reader.sealed();
        let finding = reader.shown.ends.find(&reader.store, &sealed);
        match self.stream.env().timeout(SIZE_PATIENCE, finding).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, stream = %self.stream.name(), "sizes are not known"),
            Err(_) => tracing::debug!(stream = %self.stream.name(), "sizes are not known yet"),
        }
        reader.size()
    }

    /// Where the messages from `from` on stand, or from the first that is kept: segment by segment, at most `limit` of them,
    /// up to the tail or without the segment that still grows. And the first offset kept, of the same moment.
    pub async fn segments(
        &self,
        from: Option<Offset>,
        live: bool,
        limit: usize,
    ) -> Result<(Offset, Vec<SegmentExtent>), ReadError> {
        bounded!(self, self.extents(from, live, limit))
    }

    async fn extents(
        &self,
        from: Option<Offset>,
        live: bool,
        limit: usize,
    ) -> Result<(Offset, Vec<SegmentExtent>), ReadError> {
        let reader = &self.open.reader;
        // The tail first: segments that are older than it are all listed by then.
        let tail = reader.tail();
        let segments = reader.segments();
        let first_offset = segments.first().map_or(Offset::ZERO, |segment| segment.base);
        let from = from.unwrap_or(first_offset);
        if from < first_offset {
            return Err(ReadError::BelowFirst { first_offset });
        }
        let name = |base| reader.store.blob(base).name;
        let mut found: Vec<_> = extents(&segments, &tail, from, live, name).take(limit).collect();
        let sealed: Vec<_> = found
            .iter()
            .filter(|extent| extent.sealed)
            .map(|extent| Segment { base: extent.first_offset, bytes: extent.end.0 })
            .collect();
        let ends = &reader.shown.ends;
        ends.find(&reader.store, &sealed).await?;
        for extent in found.iter_mut().filter(|extent| extent.sealed) {
            // One that is gone by now is not there to be read.
            extent.end = ends.get(extent.first_offset).ok_or(Unusable::NotFound)?;
        }
        Ok((first_offset, found))
    }

    /// The place in front of the batch that holds `offset`, or of the tail.
    pub async fn seek(&self, offset: Offset) -> Result<Cursor, ReadError> {
        bounded!(self, self.open.reader.seek_offset(offset))
    }

    /// The same for who takes batches as they are stored: where a segment begins with `offset`, the place in front of its
    /// first batch, a snapshot.
    pub async fn seek_stored(&self, offset: Offset) -> Result<Cursor, ReadError> {
        bounded!(self, self.open.reader.seek_stored(offset))
    }

    /// The offset of the first message that was appended at `time` or later; the tail's where there is none.
    pub async fn offset_at(&self, time: Timestamp) -> Result<Offset, ReadError> {
        bounded!(self, self.open.reader.offset_at(time))
    }

    /// The offset at the last border between blocks that is at most `bytes` further on than the cursor; the cursor's
    /// own where there is none, the tail's where that comes first. Segments count as full.
    pub async fn offset_within(&self, cursor: &Cursor, bytes: u64) -> Result<Offset, ReadError> {
        bounded!(self, self.open.reader.offset_within(cursor, bytes))
    }

    /// The batches at the cursor, at most to the end of their block, and moves past them. `None` at the tail.
    pub async fn next(&self, cursor: &mut Cursor) -> Result<Option<Batches>, ReadError> {
        match bounded!(self, self.open.reader.next(cursor))? {
            Some(batches) => Ok(Some(batches)),
            // Damage is not a tail: whoever comes to it must not believe that he has read everything.
            None => self.check_end().map(|()| None),
        }
    }

    /// Whether the tail is where the log ends, and not where it can no longer be read.
    pub fn check_end(&self) -> Result<(), ReadError> {
        self.open.fault().map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// What to answer who asks for an offset beyond the tail at `end_offset`. Where damage hides what comes, that is no
    /// mistake of his.
    #[must_use]
    pub fn beyond_tail(&self, end_offset: Offset) -> ReadError {
        self.check_end().err().unwrap_or(ReadError::BeyondTail { end_offset })
    }

    /// Whether this server has sent the message at `offset` to storage. It may be stored before the tail is beyond it.
    #[must_use]
    pub fn is_on_its_way(&self, offset: Offset) -> bool {
        offset.0 < self.open.reader.shown.sent.load(Ordering::Acquire)
    }

    /// Makes a piece of an answer count against the readers' memory for as long as it waits to be sent.
    pub async fn counted(&self, piece: Vec<u8>) -> Result<Bytes, ReadError> {
        self.open.reader.blocks.counted(&self.open.reader.store, piece).await
    }

    /// The records of the batch of messages that begins at `at` in `batches`, uncompressed. They count against the
    /// readers' memory for as long as somebody holds them.
    pub async fn records(&self, batches: &Batches, at: usize, header: &Header) -> Result<Bytes, ReadError> {
        let reader = &self.open.reader;
        reader.blocks.records(&reader.store, batches, at, header).await
    }

    /// Loads what comes after the cursor while its reader is busy with what came before.
    #[must_use]
    pub fn read_ahead(&self, cursor: &Cursor) -> ReadAhead {
        let (segment, chain) = Reader::ahead_of(cursor);
        let reader = self.open.reader.clone();
        ReadAhead(tokio::spawn(async move { reader.read_ahead(segment, chain).await }))
    }

    /// Waits until the tail is beyond `offset`, at most for `patience`.
    pub async fn wait_beyond(&self, offset: Offset, patience: Duration) -> Result<(), ReadError> {
        let looking = async {
            while self.open.is_followed() {
                self.stream.env().clock.sleep(FOLLOW_EVERY).await;
                self.stream.freshen(&self.open, Freshness::Recent).await?;
            }
            std::future::pending().await
        };
        tokio::select! {
            waited = self.wait_for_tail(offset, patience) => waited,
            failed = looking => failed,
        }
    }

    /// Whether both read the stream as it was opened once, and so see the same tail.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.open, &other.open)
    }

    /// Waits until the tail is beyond `offset`, however long that takes. Storage that does not answer is waited for.
    /// Fails when the tail will not move any more: the stream was deleted or is damaged, or another server leads, or this
    /// one does by now.
    pub async fn until_beyond(&self, offset: Offset) -> Result<(), ReadError> {
        self.check_end()?;
        let mut tail = self.open.reader.shown.tail.subscribe();
        tokio::select! {
            biased;
            _ = tail.wait_for(|tail| tail.next_offset() > offset) => Ok(()),
            () = self.stream.until_closed(&self.open) => {
                Err(self.stream.why_not_leading(&self.open).into())
            }
            failed = self.looking() => Err(failed),
        }
    }

    /// Looks for what another server appends until that makes no sense any more.
    async fn looking(&self) -> ReadError {
        if !self.open.is_followed() {
            return std::future::pending().await;
        }
        let clock = &self.stream.env().clock;
        loop {
            clock.sleep(FOLLOW_EVERY).await;
            match self.stream.freshen(&self.open, Freshness::Recent).await {
                Ok(()) => {}
                Err(Unusable::Storage(_) | Unusable::TimedOut) => clock.sleep(FEED_AGAIN).await,
                Err(error) => return error.into(),
            }
            if let Err(error) = self.check_end() {
                return error;
            }
        }
    }

    async fn wait_for_tail(&self, offset: Offset, patience: Duration) -> Result<(), ReadError> {
        self.check_end()?;
        let mut tail = self.open.reader.shown.tail.subscribe();
        let arrives = tail.wait_for(|tail| tail.next_offset() > offset);
        let ends = self.stream.until_closed(&self.open);
        let waited = self.stream.env().timeout(patience, async {
            tokio::select! {
                _ = arrives => true,
                () = ends => false,
            }
        });
        match waited.await {
            // What was followed is led now, or the other way round: whoever waits asks again.
            Ok(false) if self.open.is_followed() => Ok(()),
            Ok(false) => Err(self.stream.why_not_leading(&self.open).into()),
            Ok(true) | Err(_) => Ok(()),
        }
    }

    /// Waits for storage as long as a request may.
    async fn patiently<T>(&self, read: impl Future<Output = Result<T, ReadError>>) -> Result<T, ReadError> {
        let read = self.stream.env().timeout(self.stream.patience(), read).await;
        read.unwrap_or(Err(Unusable::TimedOut.into()))
    }

    /// Whether what is gone was deleted by retention since the first offset kept was `first`.
    async fn is_overtaken(&self, first: Offset) -> bool {
        let reader = &self.open.reader;
        let moved = || reader.first_offset() > first;
        if moved() || forget_deleted(reader).await.is_ok_and(|forgot| forgot) {
            return true;
        }
        // All that this server knows of may be gone.
        self.open.is_followed() && self.stream.freshen(&self.open, Freshness::Strong).await.is_ok() && moved()
    }

    /// Damage that a read comes upon holds the stream back; a missing container does as well.
    async fn noting_damage<T>(&self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        let error = match result {
            Err(ReadError::Unusable(Unusable::NotFound)) if self.open.is_followed() => {
                // Deleted, and perhaps made anew: the next one who reads finds out.
                self.stream.close_followed(&self.open);
                return Err(Unusable::NotFound.into());
            }
            Err(ReadError::Unusable(Unusable::NotFound)) => match self.stream.why_not_leading(&self.open) {
                deleted @ Unusable::NotFound => return Err(deleted.into()),
                _ => {
                    // A leader of whom nobody knows yet may have let retention delete all that this one knew.
                    let reign = self.stream.check_reign(&self.open);
                    self.patiently(async { Ok(reign.await?) }).await?;
                    StreamFault::DataMissing("a segment that was read from is gone".to_owned()).into()
                }
            },
            Err(ReadError::BeyondTail { end_offset }) => return Err(self.beyond_tail(end_offset)),
            other => return other.inspect_err(|error| self.note(error)),
        };
        self.note(&error);
        Err(error)
    }

    fn note(&self, error: &ReadError) {
        if let ReadError::Unusable(Unusable::Fault(fault)) = error
            && self.open.fault().is_none()
        {
            self.stream.record_in(&self.open, fault.clone());
        }
    }
}

/// A load on its way, given up when this is dropped.
#[derive(Debug)]
pub struct ReadAhead(JoinHandle<()>);

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.0.abort();
    }
}
