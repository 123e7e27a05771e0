//! Which requests the next batch takes, and whether it is compressed.
//!
//! A batch takes requests as long as their records would fit uncompressed in what is left of the block. Where more wait
//! than that, as many as a batch may hold are compressed and tried first. Otherwise batches would become ever smaller
//! towards the end of a block, and a request that is longer than the rest would close it although it fits compressed.
//!
//! What is compressed in a block is bounded, uncompressed: whoever takes the stream over uncompresses its last blocks. Where
//! the bound is used up, what follows in the block is stored as it is.
//!
//! Compressing runs where the writer runs, on a thread that other tasks wait for. 4 MiB of JSON text take 6 to 9 ms with
//! either codec on a core of a small server, bytes that do not become shorter a third of that; a put takes two attempts at
//! most. All streams together have 64 MiB queued at most, so that no more than 0.3 s of compressing can stand in front of
//! the renewal of the lease, on a single core. A renewal has seconds. So nothing is moved to another thread.

use std::collections::VecDeque;

use vault_format::codec::{Codec, Compressed};
use vault_format::ids::{Offset, Timestamp};
use vault_format::layout::to_pages;
use vault_format::limits::{HEADER_BYTES, MAX_UNCOMPRESSED_BYTES};
use vault_format::producers::{Refused, Verdict};
use vault_format::record::stamp_of;
use vault_format::snapshot::Outcome;

use super::{Appended, Appender, Misfit, Queued};

/// What the next batch of messages holds.
pub(super) struct NextBatch<R> {
    pub(super) requests: Vec<R>,
    /// How long the payload is, as it is stored.
    pub(super) payload_bytes: u64,
    /// The records, where compressing them saves a page.
    pub(super) compressed: Option<Compressed>,
    /// Whether a request waits that does not fit in the block any more.
    pub(super) block_is_full: bool,
}

/// What becomes of the request at the front of the queue.
enum Fate {
    /// It is put, and the next one gets this offset.
    Put(Offset),
    /// It insists on another offset than this one.
    OtherOffset(Offset),
    OffsetsExhausted,
    NoRoom(u64),
    Repeated(Appended),
    Refused(Refused),
}

/// Requests from the front of the queue, each with its fate, in their order.
struct Taken<R> {
    all: Vec<(R, Fate)>,
    records_bytes: u64,
    /// Whether a request was left that is to be put, but does not fit.
    more_wait: bool,
}

impl<R: Queued> Taken<R> {
    /// The records of those that are put, compressed. `None` where that is of no use.
    fn compressed(&self, codec: Codec) -> Option<Compressed> {
        if codec == Codec::None {
            return None;
        }
        let put = self.all.iter().filter(|(_, fate)| matches!(fate, Fate::Put(_)));
        let runs: Vec<&[u8]> = put.map(|(request, _)| request.records()).collect();
        Compressed::of(codec, &runs.concat())
    }

    fn give_back(self, queue: &mut VecDeque<R>) {
        self.all.into_iter().rev().for_each(|(request, _)| queue.push_front(request));
    }

    /// Those that are put; the others go to `misfit`.
    fn requests(self, mut misfit: impl FnMut(Misfit<R>)) -> Vec<R> {
        let mut requests = Vec::new();
        for (request, fate) in self.all {
            match fate {
                Fate::Put(_) => requests.push(request),
                Fate::OtherOffset(next_offset) => misfit(Misfit::OtherOffset(request, next_offset)),
                Fate::OffsetsExhausted => misfit(Misfit::OffsetsExhausted(request)),
                Fate::NoRoom(max_bytes) => misfit(Misfit::NoRoom(request, max_bytes)),
                Fate::Repeated(appended) => misfit(Misfit::Repeated(request, appended)),
                Fate::Refused(refused) => misfit(Misfit::Refused(request, refused)),
            }
        }
        requests
    }
}

impl Appender {
    /// Takes what the next batch holds from the front of the queue, of which `room` bytes may be stored.
    pub(super) fn take<R: Queued>(
        &mut self,
        queue: &mut VecDeque<R>,
        room: u64,
        timestamp: Timestamp,
        misfit: impl FnMut(Misfit<R>),
    ) -> NextBatch<R> {
        let fits_as_it_is = room.saturating_sub(HEADER_BYTES as u64);
        let waiting: u64 = queue.iter().map(|request| request.records().len() as u64).sum();
        let expandable = self.expandable();
        let most = MAX_UNCOMPRESSED_BYTES.min(expandable);
        if self.codec != Codec::None && waiting > fits_as_it_is {
            let before = self.producers.clone();
            let taken = self.take_records(queue, most, timestamp);
            let compressed = taken.compressed(self.codec);
            let fits = |it: &Compressed| to_pages((HEADER_BYTES + it.bytes().len()) as u64) <= room;
            if let Some(compressed) = compressed.filter(fits) {
                let payload_bytes = compressed.bytes().len() as u64;
                let requests = taken.requests(misfit);
                return NextBatch {
                    requests,
                    payload_bytes,
                    compressed: Some(compressed),
                    // What still waits is tried in the next batch.
                    block_is_full: false,
                };
            }
            // Nobody hears of what was decided about requests that are not put now.
            taken.give_back(queue);
            self.producers = before;
        }
        let taken = self.take_records(queue, fits_as_it_is, timestamp);
        let codec = if taken.records_bytes <= expandable { self.codec } else { Codec::None };
        let (compressed, block_is_full) = (taken.compressed(codec), taken.more_wait);
        let payload_bytes = compressed.as_ref().map_or(taken.records_bytes, |it| it.bytes().len() as u64);
        NextBatch { requests: taken.requests(misfit), payload_bytes, compressed, block_is_full }
    }

    /// Takes requests with up to `most_bytes` of records, and takes note of their producers.
    fn take_records<R: Queued>(
        &mut self,
        queue: &mut VecDeque<R>,
        most_bytes: u64,
        timestamp: Timestamp,
    ) -> Taken<R> {
        let mut taken = Taken { all: Vec::new(), records_bytes: 0, more_wait: false };
        let mut next_offset = self.chain.next_offset;
        while let Some(request) = queue.front() {
            let fate = self.judge(request, next_offset);
            if let Fate::Put(after) = fate {
                let longer = taken.records_bytes + request.records().len() as u64;
                if longer > most_bytes {
                    taken.more_wait = true;
                    break;
                }
                if let Some(stamp) = stamp_of(request.records()) {
                    self.producers.apply(&stamp, next_offset, timestamp);
                }
                (taken.records_bytes, next_offset) = (longer, after);
            }
            taken.all.extend(queue.pop_front().map(|request| (request, fate)));
        }
        taken
    }

    /// What becomes of a request that would get the offset `next_offset`.
    fn judge(&self, request: &impl Queued, next_offset: Offset) -> Fate {
        // What was stored once is not held against the offset that the stream has by now.
        match stamp_of(request.records()).map(|stamp| self.producers.judge(&stamp)) {
            None | Some(Verdict::Next) => {}
            Some(Verdict::Refused(refused)) => return Fate::Refused(refused),
            Some(Verdict::Repeated(Outcome { offset, count, timestamp, .. })) => {
                let next_offset = Offset(offset.0 + u64::from(count));
                return Fate::Repeated(Appended { first_offset: offset, next_offset, timestamp });
            }
        }
        if let Some(max_bytes) = request.no_room() {
            return Fate::NoRoom(max_bytes);
        }
        if request.expected_offset().is_some_and(|expected| expected != next_offset) {
            return Fate::OtherOffset(next_offset);
        }
        next_offset.checked_add(request.record_count().into()).map_or(Fate::OffsetsExhausted, Fate::Put)
    }
}
