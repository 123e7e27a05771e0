//! Decides what the next Put Page holds. Pure: no I/O, and the time is an argument.
//!
//! ```text
//!            settled             in flight, at most 4             queued
//!  ... ====================|---put---|---put---|---put---| <- requests wait here
//!                     committed                     chain.position
//! ```
//!
//! Requests become batches in the order in which they came, several in one batch (group commit). A put never crosses
//! a block border. Puts may be stored in any order, but they are answered in this one.

use std::collections::VecDeque;

use bytes::Bytes;
use vault_format::batch::BatchWriter;
use vault_format::chain::Chain;
use vault_format::codec::Codec;
use vault_format::ids::{Offset, Position, Term, Timestamp};
use vault_format::layout::{block_end, block_of, is_block_start, room_in_block, to_pages, window_end};
use vault_format::limits::{HEADER_BYTES, MAX_BLOCK_UNCOMPRESSED_BYTES, PAGE_BYTES};
use vault_format::producers::{Producers, Refused};

use crate::limits::MAX_PUTS_IN_FLIGHT;
use crate::log::appender::taking::NextBatch;

/// What the appender must know of a request: its records, the first of which may carry a producer's stamp, how many they
/// are, and the offset that it insists on.
pub(crate) trait Queued {
    fn records(&self) -> &[u8];
    fn record_count(&self) -> u32;
    fn expected_offset(&self) -> Option<Offset>;
    /// The stream's limit on its bytes, where the request may not be put because of it.
    fn no_room(&self) -> Option<u64>;
}

/// Where a request was put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// The offset of its first message.
    pub first_offset: Offset,
    /// The offset after its last message.
    pub next_offset: Offset,
    /// The timestamp of its messages.
    pub timestamp: Timestamp,
}

/// One Put Page: where it goes, what it holds, whom to answer when it and all before it are stored.
#[derive(Debug)]
pub(crate) struct Put<R> {
    pub(crate) position: Position,
    pub(crate) bytes: Bytes,
    pub(crate) requests: Vec<(R, Appended)>,
    /// The state after it.
    pub(crate) after: Chain,
    /// The end of the last batch with messages, up to this put.
    messages_end: Position,
    /// The committed position that it puts on record.
    recorded: Position,
    /// Whether it ends the segment.
    pub(crate) seals: bool,
}

/// A request that is not put.
#[derive(Debug)]
pub(crate) enum Misfit<R> {
    /// It insists on another offset than the one that it would have got.
    OtherOffset(R, Offset),
    OffsetsExhausted(R),
    /// There is no room for it in the stream, which may have so many bytes.
    NoRoom(R, u64),
    /// Its producer has sent it before, and it was put then.
    Repeated(R, Appended),
    /// Its producer may not send it now.
    Refused(R, Refused),
}

/// The state of appending to one segment.
#[derive(Debug)]
pub(crate) struct Appender {
    term: Term,
    segment_bytes: u64,
    /// After everything that was built.
    chain: Chain,
    /// After everything that was acknowledged.
    settled: Chain,
    /// The highest committed position on record in settled batches.
    recorded: Position,
    /// The end of the last batch with messages, built and settled.
    messages_end: Position,
    settled_messages_end: Position,
    in_flight: usize,
    sealed: bool,
    /// What is known of producers after everything that was built.
    producers: Producers,
    /// How the next batch of messages is compressed.
    pub(crate) codec: Codec,
    expanded: Expanded,
}

/// How many bytes of records the compressed batches hold that were built for a block.
#[derive(Clone, Copy, Debug, Default)]
struct Expanded {
    block: u64,
    bytes: u64,
}

impl Appender {
    /// Goes on at `chain`, all of which is final.
    pub(crate) fn new(
        term: Term,
        segment_bytes: u64,
        chain: Chain,
        recorded: Position,
        messages_end: Position,
        producers: Producers,
    ) -> Self {
        assert!(chain.fence <= term, "recovery claims the segment before anything is written");
        assert!(chain.position.0 < segment_bytes, "a segment without room ends with a seal");
        Self {
            term,
            segment_bytes,
            chain,
            settled: chain,
            recorded,
            messages_end,
            settled_messages_end: messages_end,
            in_flight: 0,
            sealed: false,
            producers,
            codec: Codec::None,
            // What stands in this block already is not known: a block of several leaders may hold more than the bound.
            expanded: Expanded::default(),
        }
    }

    /// How many bytes of records may still be compressed in the block that is being written.
    fn expandable(&self) -> u64 {
        let used = if self.expanded.block == block_of(self.chain.position) { self.expanded.bytes } else { 0 };
        MAX_BLOCK_UNCOMPRESSED_BYTES.saturating_sub(used)
    }

    /// The state after all that was acknowledged.
    pub(crate) fn settled(&self) -> &Chain {
        &self.settled
    }

    /// The state after all that was built.
    pub(crate) fn built(&self) -> &Chain {
        &self.chain
    }

    /// Whether the segment has been ended: the next put goes to another.
    pub(crate) fn sealed(&self) -> bool {
        self.sealed
    }

    /// Whether messages were acknowledged that no stored batch says are committed. Those in front of a seal may be: what
    /// is written to the next segment says that they were, since it is made behind a seal alone.
    pub(crate) fn wants_commit(&self) -> bool {
        let follows = self.settled.position == Position::ZERO && self.settled.next_offset > Offset::ZERO;
        (self.owes_commit() || follows) && !self.sealed
    }

    /// Whether messages in this segment were acknowledged that no stored batch says are committed.
    pub(crate) fn owes_commit(&self) -> bool {
        self.recorded < self.settled_messages_end
    }

    /// Builds the next put from the front of the queue. `None` where there is nothing to put.
    ///
    /// Requests that are not put are taken out and handed to `misfit`. What speaks against them may still be in flight.
    pub(crate) fn build<R: Queued>(
        &mut self,
        queue: &mut VecDeque<R>,
        now: Timestamp,
        misfit: impl FnMut(Misfit<R>),
    ) -> Option<Put<R>> {
        assert!(self.in_flight < MAX_PUTS_IN_FLIGHT && !self.sealed);
        let snapshot = self.snapshot();
        let snapshot_bytes =
            snapshot.as_ref().map_or(0, |payload| to_pages((HEADER_BYTES + payload.len()) as u64));
        let room = room_in_block(self.chain.position, self.segment_bytes) - snapshot_bytes;
        let timestamp = self.chain.timestamp(now);
        let batch = self.take(queue, room, timestamp, misfit);
        if batch.requests.is_empty() && !batch.block_is_full {
            return None;
        }
        if !batch.requests.is_empty() {
            self.producers.advance(timestamp);
        }
        Some(self.put(batch, snapshot, timestamp))
    }

    /// The payload of the snapshot that the next put begins with, where it begins a block.
    fn snapshot(&self) -> Option<Vec<u8>> {
        is_block_start(self.chain.position).then(|| self.producers.encode())
    }

    /// Builds a put that puts the acknowledged messages on record as committed.
    pub(crate) fn build_commit<R: Queued>(&mut self) -> Put<R> {
        assert!(self.wants_commit() && self.in_flight == 0);
        let full = room_in_block(self.chain.position, self.segment_bytes) < PAGE_BYTES;
        if full { self.build_seal() } else { self.build_record() }
    }

    /// Whether the segment holds a batch, and one on whose record that is committed.
    pub(crate) fn has_foothold(&self) -> bool {
        self.recorded > Position::ZERO
    }

    /// Builds a put that leads to [`Appender::has_foothold`]: the snapshot at the segment's head, or a commit behind it.
    pub(crate) fn build_foothold<R: Queued>(&mut self) -> Put<R> {
        assert!(!self.has_foothold() && !self.owes_commit() && self.in_flight == 0 && !self.sealed);
        self.build_record()
    }

    /// Builds a put that ends the segment here. The caller knows that it holds a message.
    pub(crate) fn build_seal<R: Queued>(&mut self) -> Put<R> {
        assert!(self.in_flight < MAX_PUTS_IN_FLIGHT && !self.sealed);
        self.sealed = true;
        let snapshot = self.snapshot();
        self.build_without_messages(|writer| {
            snapshot.into_iter().for_each(|payload| writer.encoded_snapshot(&payload));
            writer.seal();
        })
    }

    /// Builds a put that says what is committed: the snapshot where a block begins, else a commit.
    fn build_record<R: Queued>(&mut self) -> Put<R> {
        let snapshot = self.snapshot();
        self.build_without_messages(|writer| match snapshot {
            Some(payload) => writer.encoded_snapshot(&payload),
            None => writer.commit(),
        })
    }

    fn build_without_messages<R: Queued>(&mut self, write: impl FnOnce(&mut BatchWriter<'_>)) -> Put<R> {
        let (position, mut bytes) = (self.chain.position, Vec::new());
        write(&mut BatchWriter {
            chain: &mut self.chain,
            fence: self.term,
            committed: self.settled.position,
            out: &mut bytes,
        });
        self.sent(position, bytes, Vec::new())
    }

    /// Takes note of the oldest put in flight: it is stored, and so is all before it.
    pub(crate) fn settle<R>(&mut self, put: &Put<R>) {
        assert!(
            put.position == self.settled.position,
            "puts are settled in the order in which they were built"
        );
        assert!(self.in_flight > 0);
        self.in_flight -= 1;
        self.settled = put.after;
        self.recorded = put.recorded;
        self.settled_messages_end = put.messages_end;
    }

    /// Goes on in the next segment, which is blank.
    pub(crate) fn enter_next_segment(&mut self, segment_bytes: u64) {
        assert!(self.sealed && self.in_flight == 0, "a segment is left when its seal is acknowledged");
        let (chain, producers) = (self.chain.in_next_segment(), std::mem::take(&mut self.producers));
        *self = Self::new(self.term, segment_bytes, chain, Position::ZERO, Position::ZERO, producers);
    }

    fn put<R: Queued>(
        &mut self,
        batch: NextBatch<R>,
        snapshot: Option<Vec<u8>>,
        timestamp: Timestamp,
    ) -> Put<R> {
        let NextBatch { requests: taken, payload_bytes, compressed, block_is_full } = batch;
        let position = self.chain.position;
        if let Some(compressed) = &compressed {
            let left = self.expandable();
            let added = u64::from(compressed.uncompressed_bytes());
            assert!(added <= left, "a block is bounded in what it uncompresses to");
            let bytes = MAX_BLOCK_UNCOMPRESSED_BYTES - left + added;
            self.expanded = Expanded { block: block_of(position), bytes };
        }
        let snapshot = snapshot.filter(|_| !taken.is_empty());
        let snapshot_bytes = snapshot.as_ref().map_or(0, |payload| HEADER_BYTES + payload.len());
        let mut bytes = Vec::with_capacity(put_capacity(snapshot_bytes, payload_bytes, block_is_full));
        let mut requests = Vec::with_capacity(taken.len());
        let mut writer = BatchWriter {
            chain: &mut self.chain,
            fence: self.term,
            committed: self.settled.position,
            out: &mut bytes,
        };
        if let Some(payload) = snapshot {
            writer.encoded_snapshot(&payload);
        }
        if !taken.is_empty() {
            let mut first_offset = writer.chain.next_offset;
            let count = taken.iter().map(Queued::record_count).sum();
            let stored_at = match &compressed {
                Some(compressed) => writer.compressed_messages(compressed, count, timestamp),
                None => writer.messages(taken.iter().map(Queued::records), count, timestamp),
            };
            assert_eq!(stored_at, timestamp, "what producers are told is what is stored");
            self.messages_end = writer.chain.position;
            for request in taken {
                let next_offset = Offset(first_offset.0 + u64::from(request.record_count()));
                requests.push((request, Appended { first_offset, next_offset, timestamp }));
                first_offset = next_offset;
            }
            assert_eq!(first_offset, writer.chain.next_offset, "every message of a batch was asked for");
        }
        // The last block is closed with the seal, every other with a filler, unless the batch has used it up.
        if block_is_full && !is_block_start(writer.chain.position) {
            if block_end(writer.chain.position).0 == self.segment_bytes {
                writer.seal();
                self.sealed = true;
            } else {
                writer.filler();
            }
        }
        self.sent(position, bytes, requests)
    }

    fn sent<R>(&mut self, position: Position, bytes: Vec<u8>, requests: Vec<(R, Appended)>) -> Put<R> {
        let end = position + bytes.len() as u64;
        assert!(!bytes.is_empty() && (bytes.len() as u64).is_multiple_of(PAGE_BYTES));
        assert!(end <= block_end(position), "a put never crosses a block border");
        assert!(
            end <= window_end(self.settled.position, self.segment_bytes),
            "a put stays inside the window"
        );
        self.in_flight += 1;
        Put {
            position,
            bytes: bytes.into(),
            requests,
            after: self.chain,
            messages_end: self.messages_end,
            recorded: self.settled.position,
            seals: self.sealed,
        }
    }
}

/// Room for the snapshot, the messages, and at most a page for the filler or seal after them.
fn put_capacity(snapshot_bytes: usize, payload: u64, block_is_full: bool) -> usize {
    let close = if block_is_full { PAGE_BYTES } else { 0 };
    let bytes = to_pages(snapshot_bytes as u64) + to_pages(HEADER_BYTES as u64 + payload) + close;
    usize::try_from(bytes).expect("a put fits in memory")
}

mod taking;
#[cfg(test)]
mod tests;
