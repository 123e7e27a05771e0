//! Reading a stream up to its tail: finding a place by offset or time, then going forward.

use std::sync::{Arc, PoisonError};

use vault_format::chain::Chain;
use vault_format::header::Kind;
use vault_format::ids::{Offset, Position, Timestamp};
use vault_format::layout::{block_end, block_of, block_start};
use vault_format::limits::BLOCK_BYTES;
use vault_format::record::Record;

use crate::log::blocks::{Batches, Blocks};
use crate::log::error::{ReadError, StreamFault, Unusable};
use crate::log::store::{Head, HeadCache, HeadMark, Segment, Store};
use crate::log::tail::Tail;
use crate::log::writer::Shown;

/// A place between two batches, and what was loaded from there on.
#[derive(Debug)]
pub struct Cursor {
    segment: Offset,
    chain: Chain,
    ready: Option<Batches>,
}

impl Cursor {
    /// The offset of the next message in reading order, as far as whole batches go.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.chain.next_offset
    }

    fn pass(&mut self, batches: &Batches) {
        self.chain = batches.after;
        if batches.seals {
            self.segment = batches.after.next_offset;
            self.chain = batches.after.in_next_segment();
        }
    }
}

/// What stands at a place.
enum Loaded {
    Batches(Batches),
    /// Nothing more in this segment: the log goes on in the next one.
    Over,
    /// Nothing yet.
    Tail,
}

/// Reads one stream.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) store: Store,
    pub(crate) shown: Shown,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) heads: Arc<HeadCache>,
}

impl Reader {
    pub(crate) fn tail(&self) -> Tail {
        *self.shown.tail.borrow()
    }

    /// All segments, oldest first.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        self.shown.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A segment, as far as it is known to go.
    fn segment(&self, base: Offset) -> Option<Segment> {
        let segments = self.shown.segments.read().unwrap_or_else(PoisonError::into_inner);
        let index = segments.binary_search_by_key(&base, |segment| segment.base).ok()?;
        let bytes = |segment: &Segment| self.shown.ends.get(base).map_or(segment.bytes, |end| end.0);
        segments.get(index).map(|segment| Segment { base, bytes: bytes(segment) })
    }

    /// The offset of the first message that is kept.
    pub(crate) fn first_offset(&self) -> Offset {
        let segments = self.shown.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.first().map_or(Offset::ZERO, |segment| segment.base)
    }

    /// How many segments there are, and the bytes in them up to the tail. A sealed segment counts as full where it is not
    /// known how far it goes.
    pub(crate) fn size(&self) -> (usize, u64) {
        let (sealed, tail) = self.sealed();
        let bytes = self.shown.ends.sum(&sealed, |segment| segment.bytes) + tail.chain.position.0;
        (self.segments().len(), bytes)
    }

    /// The place in front of the batch that holds `offset`, or of the tail.
    pub(crate) async fn seek_offset(&self, offset: Offset) -> Result<Cursor, ReadError> {
        let tail = self.tail();
        // Looked at once: retention may take segments off the front meanwhile.
        let segments = self.segments();
        let first_offset = segments.first().map_or(Offset::ZERO, |segment| segment.base);
        if offset < first_offset {
            return Err(ReadError::BelowFirst { first_offset });
        }
        if offset > tail.next_offset() {
            return Err(ReadError::BeyondTail { end_offset: tail.next_offset() });
        }
        if offset == tail.next_offset() {
            return Ok(Cursor { segment: tail.segment, chain: tail.chain, ready: None });
        }
        if let Some((segment, chain)) = self.shown.recent.find(offset) {
            return Ok(Cursor { segment, chain, ready: None });
        }
        let index = segments.partition_point(|segment| segment.base <= offset).saturating_sub(1);
        let segment = segments.get(index).ok_or(ReadError::BelowFirst { first_offset })?;
        let block = self.last_block_where(segment, &tail, |mark| mark.base_offset <= offset).await?;
        let mut cursor = self.at_block(segment, block.unwrap_or(0), &tail).await?;
        while let Some(batches) = self.next(&mut cursor).await? {
            if offset < batches.after.next_offset {
                let holds = |kind, next| kind == Kind::Messages && offset < next;
                return Ok(cut(&batches, holds).unwrap_or(cursor));
            }
        }
        // The tail was further on when we looked: it never moves back.
        Err(ReadError::BeyondTail { end_offset: self.tail().next_offset() })
    }

    /// The same for who takes batches as they are stored: where a segment begins with `offset`, the place in front of its
    /// first batch, the snapshot that says what is known of producers there.
    pub(crate) async fn seek_stored(&self, offset: Offset) -> Result<Cursor, ReadError> {
        let tail = self.tail();
        match self.segment(offset) {
            Some(segment) if offset < tail.next_offset() => self.at_block(&segment, 0, &tail).await,
            _ => self.seek_offset(offset).await,
        }
    }

    /// The offset of the first message that was appended at `time` or later; the tail's where there is none.
    pub(crate) async fn offset_at(&self, time: Timestamp) -> Result<Offset, ReadError> {
        let tail = self.tail();
        if tail.chain.last_timestamp < time {
            return Ok(tail.next_offset());
        }
        let earlier = |mark: &HeadMark| mark.last_timestamp < time;
        let segments = self.segments();
        let (mut low, mut high) = (0, segments.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.mark(&segments[middle], 0, &tail).await? {
                Some(mark) if earlier(&mark) => low = middle + 1,
                _ => high = middle,
            }
        }
        let Some(segment) = low.checked_sub(1).and_then(|index| segments.get(index)) else {
            // The last message in front of all that is kept is as new as that: the first one kept is the first.
            return Ok(segments.first().map_or(tail.next_offset(), |first| first.base));
        };
        if !tail.is_beyond(segment.base, Position::ZERO) {
            // All in front of it is deleted, and it is empty as far as this server knows.
            return Ok(tail.next_offset());
        }
        let block = self.last_block_where(segment, &tail, earlier).await?;
        let mut cursor = self.at_block(segment, block.unwrap_or(0), &tail).await?;
        while let Some(batches) = self.next(&mut cursor).await? {
            if let Some(offset) = self.first_since(&batches, time).await? {
                return Ok(offset);
            }
        }
        Ok(self.tail().next_offset())
    }

    /// See [`StreamReader::offset_within`](crate::log::reading::StreamReader::offset_within).
    pub(crate) async fn offset_within(&self, cursor: &Cursor, bytes: u64) -> Result<Offset, ReadError> {
        let tail = self.tail();
        let segments = self.segments();
        let ahead = segments.partition_point(|segment| segment.base < cursor.segment);
        let mut place = Position(cursor.chain.position.0.saturating_add(bytes));
        for (index, segment) in segments.iter().enumerate().skip(ahead) {
            // By blocks: where an answer ends must not depend on how far into its block the tail is.
            if !tail.is_beyond(segment.base, block_start(block_of(place))) {
                break;
            }
            if place.0 >= segment.bytes {
                place = Position(place.0 - segment.bytes);
                continue;
            }
            if let Some(mark) = self.mark(segment, block_of(place), &tail).await? {
                return Ok(mark.base_offset.max(cursor.next_offset()));
            }
            // The segment was sealed before it came that far.
            let next = segments.get(index + 1).map_or(tail.next_offset(), |next| next.base);
            return Ok(next.max(cursor.next_offset()));
        }
        Ok(tail.next_offset())
    }

    /// Whether the stream holds at most `most` bytes: those of the sealed segments and of the open one up to the tail.
    /// What is not known of them is looked up where it matters.
    pub(crate) async fn holds_at_most(&self, most: u64) -> Result<bool, Unusable> {
        if self.size().1 <= most {
            return Ok(true);
        }
        let (sealed, tail) = self.sealed();
        self.shown.ends.find(&self.store, &sealed).await?;
        // One that is gone holds nothing any more.
        Ok(self.shown.ends.sum(&sealed, |_| 0) + tail.chain.position.0 <= most)
    }

    /// The segments in front of the tail's, and the tail.
    pub(crate) fn sealed(&self) -> (Vec<Segment>, Tail) {
        let (mut segments, tail) = (self.segments(), self.tail());
        segments.retain(|segment| segment.base < tail.segment);
        (segments, tail)
    }

    /// The batches at the cursor, at most to the end of their block, and moves past them. `None` at the tail.
    pub(crate) async fn next(&self, cursor: &mut Cursor) -> Result<Option<Batches>, ReadError> {
        if let Some(batches) = cursor.ready.take() {
            cursor.pass(&batches);
            return Ok(Some(batches));
        }
        loop {
            match self.load(cursor.segment, &cursor.chain).await? {
                Loaded::Batches(batches) => {
                    cursor.pass(&batches);
                    return Ok(Some(batches));
                }
                Loaded::Over => {
                    cursor.segment = cursor.chain.next_offset;
                    cursor.chain = cursor.chain.in_next_segment();
                }
                Loaded::Tail => return Ok(None),
            }
        }
    }

    /// Brings the whole block at a cursor into the cache.
    pub(crate) async fn read_ahead(&self, segment: Offset, chain: Chain) {
        let tail = self.tail();
        if (tail.segment, tail.chain.position) < (segment, block_end(chain.position)) {
            // The block still grows. Kept as it is now, it would be taken for a damaged one later.
            return;
        }
        // Whoever reads there next meets the same error and reports it.
        if let Some(segment) = self.segment(segment) {
            let _ = self.blocks.whole(&self.store, &segment, block_of(chain.position)).await;
        }
    }

    /// Where [`Reader::read_ahead`] should go on after what the cursor has passed.
    pub(crate) fn ahead_of(cursor: &Cursor) -> (Offset, Chain) {
        (cursor.segment, cursor.chain)
    }

    async fn load(&self, segment: Offset, chain: &Chain) -> Result<Loaded, ReadError> {
        let tail = self.tail();
        let position = chain.position;
        if !tail.is_beyond(segment, position) {
            return Ok(Loaded::Tail);
        }
        if let Some(put) = self.shown.recent.at(segment, position) {
            self.blocks.lookups.recent.add(1);
            let (before, after, seals) = (put.before, put.after, put.seals);
            let batches = Batches { segment, bytes: put.bytes, before, after, seals, damage: None };
            let rest = batches.starting_at(chain);
            return rest.map(Loaded::Batches).ok_or_else(|| misplaced(segment, chain));
        }
        let end = block_end(position);
        let last = tail.segment == segment;
        let Some(segment) = self.segment(segment) else {
            let missing = self.segments().last().is_some_and(|last| last.base > segment);
            let gone = |error| match error {
                ReadError::Unusable(Unusable::Fault(StreamFault::Corrupt { .. })) if missing => {
                    let gone = format!("segment {segment:020} is gone although later ones are there");
                    StreamFault::DataMissing(gone).into()
                }
                other => other,
            };
            return self.behind_or_below(segment, chain).map_err(gone);
        };
        if position.0 >= segment.bytes {
            return self.behind_or_below(segment.base, chain);
        }
        if last && tail.chain.position < end {
            let part = self.blocks.part(&self.store, &segment, chain, tail.chain.position).await;
            return part.map(Loaded::Batches);
        }
        let block = self.blocks.whole(&self.store, &segment, block_of(position)).await?;
        match (block.starting_at(chain), block.damage) {
            (Some(batches), _) => Ok(Loaded::Batches(batches)),
            (None, None) if block.seals && position == block.after.position => {
                self.behind_or_below(segment.base, chain)
            }
            (None, Some(damage)) if position == block.after.position => Err((*damage).into()),
            (None, _) => Err(misplaced(segment.base, chain)),
        }
    }

    /// What it means that nothing stands at a place in front of the tail: it is behind the seal of its segment, or
    /// retention has deleted the segment.
    fn behind_or_below(&self, segment: Offset, chain: &Chain) -> Result<Loaded, ReadError> {
        // Looked at once: retention may take segments off the front meanwhile.
        let segments = self.segments();
        let first_offset = segments.first().map_or(Offset::ZERO, |segment| segment.base);
        let follows = segments.binary_search_by_key(&chain.next_offset, |segment| segment.base).is_ok();
        if segment < chain.next_offset && follows {
            // There is no message left in this segment, deleted or not.
            Ok(Loaded::Over)
        } else if chain.next_offset < first_offset {
            Err(ReadError::BelowFirst { first_offset })
        } else {
            Err(misplaced(segment, chain))
        }
    }

    async fn at_block(&self, segment: &Segment, block: u64, tail: &Tail) -> Result<Cursor, ReadError> {
        let at = block_start(block);
        let chain = match self.store.head(segment, block).await.map_err(Unusable::from)? {
            Head::Valid(header) => Chain::before(&header),
            // Loading from here reports what is wrong.
            Head::TooNew | Head::Absent => {
                Chain { position: at, ..Chain::at_segment_start(self.store.id, segment.base) }
            }
        };
        debug_assert!(tail.is_beyond(segment.base, at));
        Ok(Cursor { segment: segment.base, chain, ready: None })
    }

    /// The last block of a segment whose head is intact and passes `test`, which holds up to some block and not after.
    async fn last_block_where(
        &self,
        segment: &Segment,
        tail: &Tail,
        test: impl Fn(&HeadMark) -> bool,
    ) -> Result<Option<u64>, ReadError> {
        let (mut low, mut high) = (0, segment.bytes / BLOCK_BYTES);
        if segment.base == tail.segment {
            high = tail.chain.position.0.div_ceil(BLOCK_BYTES);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match self.mark(segment, middle, tail).await? {
                Some(mark) if test(&mark) => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low.checked_sub(1))
    }

    /// The head of a block below the tail.
    async fn mark(&self, segment: &Segment, block: u64, tail: &Tail) -> Result<Option<HeadMark>, ReadError> {
        let key = (self.store.id, segment.base, block);
        if let Some(mark) = self.heads.get(&key) {
            return Ok(Some(mark));
        }
        if !tail.is_beyond(segment.base, block_start(block)) {
            return Ok(None);
        }
        let Head::Valid(header) = self.store.head(segment, block).await.map_err(Unusable::from)? else {
            return Ok(None);
        };
        let mark = HeadMark { base_offset: header.base_offset, last_timestamp: header.last_timestamp };
        self.heads.insert(key, mark);
        Ok(Some(mark))
    }

    /// The offset of the first message in `batches` that was appended at `time` or later.
    async fn first_since(&self, batches: &Batches, time: Timestamp) -> Result<Option<Offset>, ReadError> {
        for (at, header) in batches.headers() {
            if header.kind != Kind::Messages || header.last_timestamp < time {
                continue;
            }
            if header.first_timestamp >= time {
                return Ok(Some(header.base_offset));
            }
            let payload = self.blocks.records(&self.store, batches, at, &header).await?;
            let mut payload = &payload[..];
            for index in 0..u64::from(header.record_count) {
                // Who reads the messages meets the same error and reports it.
                let Ok(record) = Record::take(&mut payload) else { return Ok(None) };
                if header.first_timestamp.0.saturating_add(record.timestamp_delta) >= time.0 {
                    return Ok(Some(Offset(header.base_offset.0 + index)));
                }
            }
        }
        Ok(None)
    }
}

/// A cursor in front of the first batch for whose kind and next offset `found` holds, with what was loaded kept.
fn cut(batches: &Batches, found: impl Fn(Kind, Offset) -> bool) -> Option<Cursor> {
    let mut chain = batches.before;
    for (_, header) in batches.headers() {
        if found(header.kind, header.next_offset()) {
            let ready = batches.starting_at(&chain);
            return Some(Cursor { segment: batches.segment, chain, ready });
        }
        chain.advance(&header);
    }
    None
}

fn misplaced(segment: Offset, chain: &Chain) -> ReadError {
    let detail = "what stands here does not continue what comes before it".to_owned();
    StreamFault::Corrupt { segment, position: chain.position, detail }.into()
}
