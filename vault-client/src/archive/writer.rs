//! Writes a stream, batch by batch, in the stored format: what a server would have written that took all of it in one
//! go.
//!
//! One put is on its way at a time, so that all before it is final when it is sent, and what a broken-off copy leaves is a
//! prefix of the stream and at most one torn put behind it.
//!
//! Here batches are put into blocks and segments; `storing` finds, claims and makes segments, and sends what was built.

mod storing;

use std::pin::pin;

use bytes::Bytes;
use futures::future::{Either, select};
use vault_format::batch::{Batch, BatchWriter};
use vault_format::chain::Chain;
use vault_format::header::{Header, Kind};
use vault_format::ids::{Offset, Position, Term};
use vault_format::layout::{block_end, block_of, is_block_start, room_in_block, to_pages};
use vault_format::limits::{
    BLOCK_BYTES, HEADER_BYTES, MAX_BLOCK_UNCOMPRESSED_BYTES, MAX_SNAPSHOT_BYTES, PAGE_BYTES, SEAL_BYTES,
};
use vault_format::names::StreamName;
use vault_format::producers::Producers;
use vault_format::snapshot;
use vault_server::log::inspect::{StoredBatch, StoredStream};

use super::limits::{LOST_AT_ONCE, MAX_PUT_BYTES, RENEW_EVERY};
pub use super::pieces::LOST_HEADER;
use super::pieces::{Piece, Records, split};
use super::target::Target;
pub use super::target::Wholeness;
use super::{ArchiveError, Origin, Place};

/// Writes one stream. What was written and not flushed yet, at most a block, is lost when this is dropped; everything
/// else is there for the next one who opens it.
#[derive(Debug)]
pub struct LogWriter {
    target: Target,
    stream: StoredStream,
    /// Behind everything that was built. `None` before the first batch of a new stream.
    chain: Option<Chain>,
    /// What is known of producers there.
    producers: Producers,
    segment: Option<Segment>,
    /// Whether its seal was built.
    sealed: bool,
    /// What was built and not stored.
    out: Vec<u8>,
    /// Where it goes.
    out_at: Position,
    /// What was on its way when its sender gave up: it comes before everything else.
    sending: Option<Bytes>,
    /// The committed position on record in what is stored of the segment, and where its last messages end.
    recorded: Position,
    messages_end: Position,
    /// Bytes to which the compressed batches of the block that is being written uncompress, and the block.
    expanded: (u64, u64),
}

/// The room that there is for messages at the head of any block at least.
const LEAST_ROOM: u64 = BLOCK_BYTES - MAX_SNAPSHOT_BYTES - SEAL_BYTES;

#[derive(Clone, Copy, Debug)]
struct Segment {
    base: Offset,
    bytes: u64,
    /// The blob's sequence number.
    number: Term,
}

impl LogWriter {
    /// Begins a stream, or goes on with what is there of it: the same stream, which nobody else writes to. Remains of a
    /// put that was torn are cleared.
    pub async fn open(
        place: &Place,
        name: &StreamName,
        origin: &Origin,
        wholeness: Wholeness,
    ) -> Result<Self, ArchiveError> {
        let target = Target::open(place, name, origin, wholeness).await?;
        let stream = target.stream();
        let mut writer = Self {
            target,
            chain: None,
            producers: Producers::default(),
            segment: None,
            sealed: false,
            out: Vec::new(),
            out_at: Position::ZERO,
            sending: None,
            recorded: Position::ZERO,
            messages_end: Position::ZERO,
            expanded: (0, 0),
            stream,
        };
        match writer.resume().await {
            Ok(()) => Ok(writer),
            Err(error) => Err(writer.fail(error).await),
        }
    }

    /// The offset of the message that comes next; `None` where nothing was written yet, so that the stream begins with
    /// whatever comes.
    #[must_use]
    pub fn next_offset(&self) -> Option<Offset> {
        self.chain.map(|chain| chain.next_offset)
    }

    /// Writes what a batch holds. Messages that are there already are passed over. Of other batches the stream's first
    /// snapshot, fillers and seals are heeded: the copy keeps the producers that the beginning of a trimmed stream knows,
    /// and is divided into blocks and segments where the source is.
    pub async fn write(&mut self, stored: &StoredBatch) -> Result<(), ArchiveError> {
        self.keep().await?;
        self.send().await?;
        let header = &stored.header;
        let reason = |reason: &str| self.misfit(header, reason.to_owned());
        if header.stream != self.target.meta.id {
            return Err(reason("it is of another stream"));
        }
        let batch = stored.batch().map_err(|error| reason(&error.to_string()))?;
        match header.kind {
            Kind::Messages => self.messages(&batch).await,
            Kind::Snapshot if self.chain.is_none() => {
                let producers =
                    snapshot::decode(batch.payload).map_err(|error| reason(&error.to_string()))?;
                self.producers = Producers::from_snapshot(producers);
                self.begin(&batch.header);
                Ok(())
            }
            Kind::Seal if self.next_offset() == Some(header.base_offset) => self.mirror_seal().await,
            Kind::Filler if self.next_offset() == Some(header.base_offset) => self.mirror_filler().await,
            Kind::Snapshot | Kind::Filler | Kind::Seal | Kind::Commit => Ok(()),
        }
    }

    /// Puts messages in the place of lost ones, up to the offset `to`. Nothing is put where nothing was written before:
    /// the stream then begins behind them.
    pub async fn lose(&mut self, to: Offset) -> Result<(), ArchiveError> {
        self.send().await?;
        while let Some(chain) = self.chain.filter(|chain| chain.next_offset < to) {
            let count = (to.0 - chain.next_offset.0).min(LOST_AT_ONCE);
            let count = u32::try_from(count).expect("50,000 is a small number");
            let lost = Records::lost(count, chain.last_timestamp, chain.fence);
            self.put(&Piece::Records(lost)).await?;
        }
        Ok(())
    }

    /// Stores everything, and puts on record that it is final.
    pub async fn record(&mut self) -> Result<(), ArchiveError> {
        self.flush().await?;
        if self.segment.is_none() && self.chain.is_some() {
            return self.record_beginning().await;
        }
        if self.sealed || self.recorded >= self.messages_end {
            return Ok(());
        }
        let Some(chain) = self.chain else { return Ok(()) };
        let Some(segment) = self.segment else { return Ok(()) };
        if is_block_start(chain.position) {
            self.build(chain.fence, |writer, producers| writer.encoded_snapshot(&producers.encode()));
        } else if room_in_block(chain.position, segment.bytes) >= PAGE_BYTES {
            self.build(chain.fence, |writer, _| writer.commit());
        } else {
            return self.seal().await;
        }
        self.flush().await
    }

    /// Puts on record where a stream goes on whose messages are all deleted, and what is known of producers there: what
    /// retention leaves at the source. Else its offsets would be given out again.
    async fn record_beginning(&mut self) -> Result<(), ArchiveError> {
        self.open_segment().await?;
        self.build(Term::ZERO, |writer, producers| writer.encoded_snapshot(&producers.encode()));
        self.flush().await?;
        self.build(Term::ZERO, |writer, _| writer.commit());
        self.flush().await
    }

    /// A stream that nothing is kept of goes on at this offset, where nothing was written that says it.
    pub fn go_on_at(&mut self, offset: Offset) {
        if self.chain.is_none() && offset > Offset::ZERO {
            self.chain = Some(Chain::at_segment_start(self.target.meta.id, offset));
        }
    }

    /// Keeps others from writing there; to be called now and then where nothing is written.
    pub async fn keep(&mut self) -> Result<(), ArchiveError> {
        self.target.keep().await
    }

    /// Keeps others from writing there as long as something else takes.
    pub async fn keep_during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, ArchiveError> {
        let clock = self.target.place.env.clock.clone();
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                () = clock.sleep(RENEW_EVERY) => self.keep().await?,
            }
        }
    }

    /// Writes a batch while the next one is read, however long that takes.
    pub(super) async fn write_during<T>(
        &mut self,
        stored: &StoredBatch,
        reading: impl Future<Output = T>,
    ) -> Result<T, ArchiveError> {
        let mut reading = pin!(reading);
        let read = match select(reading.as_mut(), pin!(self.write(stored))).await {
            Either::Left((read, writing)) => {
                writing.await?;
                Some(read)
            }
            Either::Right((written, _)) => {
                written?;
                None
            }
        };
        match read {
            Some(read) => Ok(read),
            None => self.keep_during(reading).await,
        }
    }

    /// Stores everything and gives the place back.
    pub async fn finish(mut self) -> Result<(), ArchiveError> {
        self.record().await?;
        self.target.close().await;
        Ok(())
    }

    /// Gives the place back as it is, because of this error.
    pub(super) async fn fail(self, error: ArchiveError) -> ArchiveError {
        self.target.close().await;
        error
    }

    /// The stream as it is there, to be read while it is locked.
    pub(super) fn written(&self) -> StoredStream {
        self.target.stream()
    }

    /// Lets servers take what is there for a stream, and gives the place back.
    pub(super) async fn complete(mut self) -> Result<(), ArchiveError> {
        self.target.complete().await?;
        self.target.close().await;
        Ok(())
    }

    fn misfit(&self, header: &Header, reason: String) -> ArchiveError {
        let next_offset = self.next_offset().unwrap_or(header.base_offset);
        ArchiveError::Misfit { offset: header.base_offset, next_offset, reason }
    }

    /// The stream begins with this batch.
    fn begin(&mut self, header: &Header) {
        self.chain = Some(Chain { position: Position::ZERO, ..Chain::before(header) });
    }

    async fn messages(&mut self, batch: &Batch<'_>) -> Result<(), ArchiveError> {
        let header = &batch.header;
        if self.chain.is_none() {
            self.begin(header);
        }
        let Some(chain) = self.chain else { unreachable!("the stream has just begun") };
        let holds_last = header.base_offset < chain.next_offset && chain.next_offset <= header.next_offset();
        let of_one_moment = header.first_timestamp == header.last_timestamp;
        if holds_last && of_one_moment && header.last_timestamp != chain.last_timestamp {
            let reason =
                "the last message that was written is another one: somebody has appended to the target";
            return Err(self.misfit(header, reason.to_owned()));
        }
        if header.next_offset() <= chain.next_offset {
            return Ok(());
        }
        if header.base_offset > chain.next_offset {
            return Err(self.misfit(header, "messages between them are missing".to_owned()));
        }
        if header.first_timestamp < chain.last_timestamp || header.fence < chain.fence {
            let reason = "its time or its term is lower than that of what comes before it".to_owned();
            return Err(self.misfit(header, reason));
        }
        if header.base_offset == chain.next_offset && self.put(&Piece::Stored(*batch)).await? {
            return Ok(());
        }
        for records in split(batch, chain.next_offset, LEAST_ROOM)? {
            if !self.put(&Piece::Records(records)).await? {
                return Err(self.misfit(header, "a request in it is too long for a segment".to_owned()));
            }
        }
        Ok(())
    }

    /// Builds a batch where there is room for it: here, in the next block, in the next segment. `false`: there is room
    /// nowhere.
    async fn put(&mut self, piece: &Piece<'_>) -> Result<bool, ArchiveError> {
        let needed = piece.total_bytes();
        loop {
            let segment = self.open_segment().await?;
            let Some(chain) = self.chain else {
                unreachable!("a segment is made where the stream has begun")
            };
            let block_begins = is_block_start(chain.position);
            if block_begins && !self.out.is_empty() {
                // A batch has ended with its block, and no put crosses the border.
                self.flush().await?;
            }
            let snapshot = block_begins.then(|| self.producers.encode());
            let snapshot_bytes =
                snapshot.as_ref().map_or(0, |payload| to_pages((HEADER_BYTES + payload.len()) as u64));
            let block = block_of(chain.position);
            let expanded = if self.expanded.0 == block { self.expanded.1 } else { 0 } + piece.expands_to();
            let room = room_in_block(chain.position, segment.bytes).saturating_sub(snapshot_bytes);
            if needed <= room && expanded <= MAX_BLOCK_UNCOMPRESSED_BYTES {
                self.expanded = (block, expanded);
                self.build(piece.fence(), |writer, _| {
                    snapshot.into_iter().for_each(|payload| writer.encoded_snapshot(&payload));
                });
                self.build_messages(piece)?;
                return Ok(true);
            }
            let last = block_end(chain.position).0 == segment.bytes;
            if !block_begins {
                self.close_block(last).await?;
            } else if last && chain.position > Position::ZERO {
                // The first block of the next segment has room for what the last one keeps for the seal.
                self.seal().await?;
            } else {
                return Ok(false);
            }
        }
    }

    fn build_messages(&mut self, piece: &Piece<'_>) -> Result<(), ArchiveError> {
        let before = self.out.len();
        self.build(piece.fence(), |writer, _| piece.write(writer));
        let written = match piece {
            Piece::Stored(batch) => *batch,
            Piece::Records(_) => Batch::decode(&self.out[before..]).expect("it has just been written"),
        };
        if self.producers.note(&written).is_err() {
            return Err(self.misfit(&written.header, "what it says of producers is malformed".to_owned()));
        }
        self.messages_end = self.chain.map_or(Position::ZERO, |chain| chain.position);
        Ok(())
    }

    /// Builds batches behind what was built.
    fn build(&mut self, fence: Term, write: impl FnOnce(&mut BatchWriter<'_>, &Producers)) {
        let Some(chain) = &mut self.chain else { unreachable!("nothing is built before the stream begins") };
        if self.out.is_empty() {
            self.out_at = chain.position;
        }
        let fence = fence.max(chain.fence);
        // All before what waits in `out` is stored.
        let mut writer = BatchWriter { chain, fence, committed: self.out_at, out: &mut self.out };
        write(&mut writer, &self.producers);
        assert!(self.out.len() <= MAX_PUT_BYTES, "a put does not cross the border of a block");
    }

    async fn close_block(&mut self, last: bool) -> Result<(), ArchiveError> {
        if last {
            return self.seal().await;
        }
        let fence = self.chain.map_or(Term::ZERO, |chain| chain.fence);
        self.build(fence, |writer, _| {
            // A batch may have ended with the block.
            if !is_block_start(writer.chain.position) {
                writer.filler();
            }
        });
        self.flush().await
    }

    /// Ends the segment where the source's ended, unless it has just begun.
    async fn mirror_seal(&mut self) -> Result<(), ArchiveError> {
        let base = self.segment.map(|segment| segment.base);
        if self.sealed || base.is_none() || base == self.next_offset() { Ok(()) } else { self.seal().await }
    }

    /// Ends the block where the source's ended, so that it is stored while the source's next one is read.
    async fn mirror_filler(&mut self) -> Result<(), ArchiveError> {
        let (Some(segment), Some(chain)) = (self.segment, self.chain) else { return Ok(()) };
        let begun = self.sealed || is_block_start(chain.position) || segment.base == chain.next_offset;
        if begun { Ok(()) } else { self.close_block(block_end(chain.position).0 == segment.bytes).await }
    }

    /// Ends the segment, which holds a message.
    async fn seal(&mut self) -> Result<(), ArchiveError> {
        let Some(chain) = self.chain else { return Ok(()) };
        if is_block_start(chain.position) {
            self.flush().await?;
        }
        self.build(chain.fence, |writer, producers| {
            if is_block_start(writer.chain.position) {
                writer.encoded_snapshot(&producers.encode());
            }
            writer.seal();
        });
        self.sealed = true;
        self.flush().await
    }
}
