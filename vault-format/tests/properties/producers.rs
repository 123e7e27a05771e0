//! What the log says of producers.

use proptest::prelude::*;
use vault_format::batch::{Batch, BatchWriter};
use vault_format::chain::Chain;
use vault_format::header::Kind;
use vault_format::ids::{Offset, Position, StreamId, Term, Timestamp};
use vault_format::limits::{BLOCK_BYTES, PRODUCER_KEPT_MS};
use vault_format::producers::Producers;
use vault_format::record::{Message, Record, Stamp, stamp_of, stamped};

/// A request that was stored: who sent it, and after what time.
#[derive(Clone, Debug)]
struct Sent {
    producer: u8,
    epoch: u64,
    sequence: u64,
    records: u8,
    after_ms: u64,
}

prop_compose! {
    fn sent()(
        producer in 0..6u8,
        epoch in 0..3u64,
        sequence in 0..9u64,
        records in 1..4u8,
        after_ms in prop_oneof![8 => 0..1_000u64, 1 => 0..PRODUCER_KEPT_MS],
    ) -> Sent {
        Sent { producer, epoch, sequence, records, after_ms }
    }
}

fn run(sent: &Sent) -> Vec<u8> {
    let mut run = Vec::new();
    for _ in 0..sent.records {
        Message { value: b"value", ..Message::default() }.encode(0, &mut run);
    }
    let producer = [sent.producer];
    let (epoch, sequence, record_count) = (sent.epoch, sent.sequence, u64::from(sent.records));
    stamped(&run, &Stamp { producer: &producer, epoch, sequence, record_count })
}

/// The log of these requests: a batch each, four to a block, each block with its snapshot.
fn log(all: &[Sent]) -> Vec<Vec<u8>> {
    let mut chain = Chain::at_segment_start(StreamId([3; 16]), Offset(0));
    let mut state = Producers::default();
    let mut batches = Vec::new();
    let mut now = 0;
    for (block, requests) in (0..).zip(all.chunks(4)) {
        chain.position = Position(block * BLOCK_BYTES);
        batches.push(written(&mut chain, |writer| writer.encoded_snapshot(&state.encode())));
        for sent in requests {
            now += sent.after_ms;
            let run = run(sent);
            let batch = written(&mut chain, |writer| {
                writer.messages([&run[..]], sent.records.into(), Timestamp(now));
            });
            note(&mut state, &batch);
            batches.push(batch);
        }
    }
    batches
}

fn written(chain: &mut Chain, write: impl FnOnce(&mut BatchWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut BatchWriter { chain, fence: Term(1), committed: Position::ZERO, out: &mut out });
    out
}

fn state_after<'a>(batches: impl IntoIterator<Item = &'a Vec<u8>>) -> Producers {
    let mut state = Producers::default();
    for batch in batches {
        note(&mut state, batch);
    }
    state
}

fn note(state: &mut Producers, batch: &[u8]) {
    let batch = Batch::decode(batch).expect("it was written here");
    state.note(&batch).expect("so were its stamps");
}

proptest! {
    #[test]
    fn a_stamp_is_read_as_it_was_set(sent in sent()) {
        let run = run(&sent);
        let stamp = stamp_of(&run).unwrap();
        prop_assert_eq!(stamp.producer, [sent.producer]);
        prop_assert_eq!((stamp.epoch, stamp.sequence), (sent.epoch, sent.sequence));
        prop_assert_eq!(stamp.record_count, u64::from(sent.records));
        let mut rest = &run[..];
        let values: Vec<_> = std::iter::from_fn(|| (!rest.is_empty()).then(|| Record::take(&mut rest).unwrap())).collect();
        prop_assert_eq!(values.len(), usize::from(sent.records));
        prop_assert!(values.iter().all(|record| record.value == b"value"));
        prop_assert!(values[1..].iter().all(|record| record.stamp.is_none()));
    }

    #[test]
    fn a_log_that_is_read_from_any_block_on_says_the_same(
        all in prop::collection::vec(sent(), 1..40),
    ) {
        let batches = log(&all);
        let is_snapshot = |batch: &Vec<u8>| Batch::decode(batch).unwrap().header.kind == Kind::Snapshot;
        let whole = state_after(batches.iter().filter(|batch| !is_snapshot(batch))).to_snapshot();
        for (index, _) in batches.iter().enumerate().filter(|(_, batch)| is_snapshot(batch)) {
            prop_assert_eq!(&state_after(&batches[index..]).to_snapshot(), &whole);
        }
    }
}
