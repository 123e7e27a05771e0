//! Checks batches one after the other, as thoroughly as the format allows: checksums, the chain, every record, and that
//! snapshots say what the batches before them said. Servers check less, since most of it is the writer's business.
//!
//! Pure: whoever reads storage or a server's answers hands the bytes in, in order.

use thiserror::Error;

use crate::batch::Batch;
use crate::chain::{Broken, Chain};
use crate::codec::InvalidPayload;
use crate::header::{Header, Kind};
use crate::ids::{Offset, Timestamp};
use crate::layout::is_block_start;
use crate::producers::Producers;
use crate::record::InvalidRecord;
use crate::snapshot;

/// Why a batch is not what should stand in its place.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Flaw {
    /// No intact batch continues the log here.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The batch is in its place and its checksum holds, but its messages cannot be read: a writer's mistake.
    #[error("message {index} of the batch is malformed: {reason}")]
    Record {
        /// Which message, counted from 0 within the batch.
        index: u32,
        /// What is wrong with it.
        reason: InvalidRecord,
    },
    /// The same, of what was compressed.
    #[error(transparent)]
    Payload(#[from] InvalidPayload),
    /// A snapshot that cannot be read, or does not say of producers what the batches before it said.
    #[error("the snapshot does not hold the producers that the log before it tells of")]
    Snapshot,
}

impl Flaw {
    /// Whether the batch continues the log all the same: readers go on behind it.
    #[must_use]
    pub fn continues(&self) -> bool {
        !matches!(self, Self::Broken(_))
    }
}

/// What was checked and found right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Messages.
    pub messages: u64,
    /// Batches of every kind.
    pub batches: u64,
    /// Bytes written for them, padding included.
    pub bytes: u64,
    /// When the first message was appended.
    pub first_timestamp: Option<Timestamp>,
    /// When the last one was.
    pub last_timestamp: Option<Timestamp>,
}

/// The state of checking a log from some place on.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    chain: Option<Chain>,
    /// `None` where a batch was passed over that may have told of producers: the next snapshot tells.
    producers: Option<Producers>,
    counts: Counts,
}

impl Audit {
    /// Begins wherever the first batch stands.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins, or goes on, at a place in the log. What is known of producers there must be learned from a snapshot.
    pub fn go_on_at(&mut self, chain: Chain) {
        (self.chain, self.producers) = (Some(chain), None);
    }

    /// The place behind what was checked.
    #[must_use]
    pub fn chain(&self) -> Option<&Chain> {
        self.chain.as_ref()
    }

    /// The offset behind what was checked, once something was.
    #[must_use]
    pub fn next_offset(&self) -> Option<Offset> {
        self.chain.map(|chain| chain.next_offset)
    }

    /// What is known of producers behind what was checked.
    #[must_use]
    pub fn producers(&self) -> Option<&Producers> {
        self.producers.as_ref()
    }

    /// What was checked.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Checks the batch at the front of `bytes`, and moves past it where it continues the log, flaw or not. Behind a seal
    /// the log goes on at the beginning of the next segment.
    pub fn check<'a>(&mut self, bytes: &'a [u8]) -> Result<Batch<'a>, Flaw> {
        let mut chain = match self.chain {
            Some(chain) => chain,
            None => Chain::before(&Header::decode(bytes).map_err(Broken::from)?),
        };
        let batch = chain.accept(bytes)?;
        let sealed = batch.header.kind == Kind::Seal;
        self.chain = Some(if sealed { chain.in_next_segment() } else { chain });
        let flaw = self.look_into(&batch);
        if flaw.is_some_and(|flaw| flaw != Flaw::Snapshot) {
            self.producers = None;
        }
        flaw.map_or(Ok(()), Err)?;
        self.count(&batch.header);
        Ok(batch)
    }

    fn count(&mut self, header: &Header) {
        let counts = &mut self.counts;
        counts.batches += 1;
        counts.bytes += header.written_bytes();
        if header.kind == Kind::Messages {
            counts.messages += u64::from(header.record_count);
            counts.first_timestamp.get_or_insert(header.first_timestamp);
            counts.last_timestamp = Some(header.last_timestamp);
        }
    }

    /// What is wrong inside a batch that is in its place.
    fn look_into(&mut self, batch: &Batch<'_>) -> Option<Flaw> {
        match batch.header.kind {
            Kind::Messages => self.look_into_messages(batch).err(),
            Kind::Snapshot => {
                debug_assert!(is_block_start(batch.header.position));
                let Ok(said) = snapshot::decode(batch.payload) else { return Some(Flaw::Snapshot) };
                let expected = self.producers.replace(Producers::from_snapshot(said));
                // What the batches said counts: a snapshot is only a help.
                let differs = expected.filter(|expected| expected.encode() != batch.payload);
                differs.map(|expected| {
                    self.producers = Some(expected);
                    Flaw::Snapshot
                })
            }
            Kind::Filler | Kind::Seal | Kind::Commit => None,
        }
    }

    fn look_into_messages(&mut self, batch: &Batch<'_>) -> Result<(), Flaw> {
        let uncompressed = batch.uncompressed()?;
        let from = &batch.header;
        for (index, record) in (0..).zip(uncompressed.records()) {
            let record = record.map_err(|reason| Flaw::Record { index, reason })?;
            if let (Some(stamp), Some(producers)) = (&record.stamp, &mut self.producers) {
                let offset = Offset(from.base_offset.0 + u64::from(index));
                producers.apply(stamp, offset, Timestamp(from.first_timestamp.0 + record.timestamp_delta));
            }
        }
        if let Some(producers) = &mut self.producers {
            producers.advance(from.last_timestamp);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchWriter;
    use crate::codec::{Codec, Compressed};
    use crate::ids::{Position, StreamId, Term};
    use crate::limits::BLOCK_BYTES;
    use crate::record::Message;

    fn chain() -> Chain {
        Chain::at_segment_start(StreamId([3; 16]), Offset(7))
    }

    fn records(count: u32) -> Vec<u8> {
        let mut records = Vec::new();
        for n in 0..count {
            Message { value: format!("value {n}").as_bytes(), ..Message::default() }.encode(0, &mut records);
        }
        records
    }

    /// A snapshot, a batch, a compressed batch, a filler.
    fn block() -> Vec<u8> {
        let (mut chain, mut out) = (chain(), Vec::new());
        let mut writer =
            BatchWriter { chain: &mut chain, fence: Term(5), committed: Position::ZERO, out: &mut out };
        writer.snapshot(&[]);
        writer.messages([&records(3)[..]], 3, Timestamp(50));
        let compressed = Compressed::of(Codec::Zstd, &records(400)).unwrap();
        writer.compressed_messages(&compressed, 400, Timestamp(60));
        writer.filler();
        out
    }

    fn all(audit: &mut Audit, bytes: &[u8]) -> Result<(), Flaw> {
        let mut at = 0;
        while at < bytes.len() {
            at += usize::try_from(audit.check(&bytes[at..])?.header.written_bytes()).unwrap();
        }
        Ok(())
    }

    #[test]
    fn an_intact_block_is_counted() {
        let mut audit = Audit::new();
        let block = block();
        all(&mut audit, &block).unwrap();
        let counts = audit.counts();
        assert_eq!((counts.messages, counts.batches, counts.bytes), (403, 4, block.len() as u64));
        assert_eq!(
            (counts.first_timestamp, counts.last_timestamp),
            (Some(Timestamp(50)), Some(Timestamp(60)))
        );
        assert_eq!(audit.next_offset(), Some(Offset(410)));
        assert_eq!(audit.chain().unwrap().position, Position(BLOCK_BYTES));
    }

    #[test]
    fn a_copied_batch_is_the_same_but_for_its_place() {
        let block = block();
        let (mut copy, mut out) = (chain(), Vec::new());
        let mut at = 0;
        while at < block.len() {
            let batch = Batch::decode(&block[at..]).unwrap();
            at += usize::try_from(batch.header.written_bytes()).unwrap();
            let mut writer =
                BatchWriter { chain: &mut copy, fence: Term(9), committed: Position::ZERO, out: &mut out };
            match batch.header.kind {
                Kind::Snapshot => writer.snapshot(&[]),
                Kind::Messages => {
                    writer.commit();
                    writer.copied_messages(&batch);
                }
                _ => {}
            }
        }
        let mut audit = Audit::new();
        all(&mut audit, &out).unwrap();
        assert_eq!((audit.counts().messages, audit.next_offset()), (403, Some(Offset(410))));
        assert_eq!(audit.counts().last_timestamp, Some(Timestamp(60)));
        assert_eq!(audit.chain().unwrap().fence, Term(9));
    }

    #[test]
    fn a_snapshot_that_forgets_a_producer_is_found_and_not_believed() {
        let (mut chain, mut out) = (chain(), Vec::new());
        let mut writer =
            BatchWriter { chain: &mut chain, fence: Term(5), committed: Position::ZERO, out: &mut out };
        writer.snapshot(&[]);
        let stamp = crate::record::Stamp { producer: b"p", epoch: 1, sequence: 0, record_count: 1 };
        let stamped = crate::record::stamped(&records(1), &stamp);
        writer.messages([&stamped[..]], 1, Timestamp(50));
        writer.filler();
        let second = out.len();
        let mut writer =
            BatchWriter { chain: &mut chain, fence: Term(5), committed: Position::ZERO, out: &mut out };
        writer.snapshot(&[]);
        let mut audit = Audit::new();
        all(&mut audit, &out[..second]).unwrap();
        assert_eq!(audit.check(&out[second..]).map(|_| ()), Err(Flaw::Snapshot));
        assert!(Flaw::Snapshot.continues());
        assert_eq!(audit.producers().unwrap().len(), 1);
        assert_eq!(audit.chain().unwrap().position, Position(BLOCK_BYTES + 512));
    }

    #[test]
    fn a_malformed_record_is_named_and_passed() {
        let (mut chain, mut out) = (chain(), Vec::new());
        let mut writer =
            BatchWriter { chain: &mut chain, fence: Term(5), committed: Position::ZERO, out: &mut out };
        writer.snapshot(&[]);
        writer.messages([&records(2)[..], &[200, 1, 0]], 3, Timestamp(50));
        let mut audit = Audit::new();
        let reason = InvalidRecord::Truncated;
        assert_eq!(all(&mut audit, &out), Err(Flaw::Record { index: 2, reason }));
        assert_eq!(audit.next_offset(), Some(Offset(10)));
    }
}
