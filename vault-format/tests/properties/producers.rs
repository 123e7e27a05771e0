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

/// A batch of messages that holds these bytes, and as many records as it is told.
fn batch_of(payload: &[u8], record_count: u32) -> Vec<u8> {
    let mut chain = Chain::at_segment_start(StreamId([3; 16]), Offset(0));
    chain.position = Position(512);
    written(&mut chain, |writer| {
        writer.messages([payload], record_count, Timestamp(1));
    })
}

fn is_noted(payload: &[u8], record_count: u32) -> bool {
    let bytes = batch_of(payload, record_count);
    let batch = Batch::decode(&bytes).expect("its checksums hold");
    Producers::default().note(&batch).is_ok()
}

#[test]
fn of_messages_without_a_stamp_only_the_lengths_are_looked_at() {
    let mut run = Vec::new();
    (0..3).for_each(|_| Message { value: b"value", ..Message::default() }.encode(0, &mut run));
    let stamp = Stamp { producer: b"p", epoch: 0, sequence: 0, record_count: 3 };
    let run_stamped = stamped(&run, &stamp);
    assert!(is_noted(&run, 3) && is_noted(&run_stamped, 3));
    // Inside a record: the length of its value.
    let inside = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let at = bytes.iter().position(|byte| *byte == b'v').unwrap() - 1;
        bytes[at] += 1;
        bytes
    };
    assert!(is_noted(&inside(&run), 3), "nobody asks for it");
    assert!(!is_noted(&inside(&run_stamped), 3), "a stamp is believed of a whole record alone");
    for (what, payload, record_count) in [
        ("fewer records", &run[..], 4),
        ("more records", &run, 2),
        ("a record that is cut off", &run[..run.len() - 1], 3),
        ("a record without attributes", &[&run[..], &[0]].concat(), 4),
        ("a length that is too long", &[&run[..], &[0x80, 0]].concat(), 4),
        ("more requests than records", &run_stamped[..run_stamped.len() - run.len() / 3], 2),
    ] {
        assert!(!is_noted(payload, record_count), "{what}");
    }
}

proptest! {
    #[test]
    fn stamps_are_found_without_reading_everything(
        all in prop::collection::vec((sent(), any::<bool>()), 1..6),
        wrong in prop::option::of((any::<prop::sample::Index>(), 1..=255u8)),
    ) {
        let mut payload = Vec::new();
        for (sent, is_stamped) in &all {
            match is_stamped {
                true => payload.extend(run(sent)),
                false => Message { value: b"value", ..Message::default() }.encode(0, &mut payload),
            }
        }
        if let Some((at, flip)) = wrong {
            let at = at.index(payload.len());
            payload[at] ^= flip;
        }
        let count = all.iter().map(|(sent, is_stamped)| if *is_stamped { sent.records.into() } else { 1 }).sum();
        let bytes = batch_of(&payload, count);
        let records = Batch::decode(&bytes).unwrap().uncompressed().unwrap();
        let whole: Result<Vec<_>, _> = records.records().collect();
        let found: Result<Vec<_>, _> = records.stamped().map(|it| it.map(|(index, stamp, _)| (index, stamp))).collect();
        // Whoever reads everything finds all that is wrong, and otherwise the same.
        if let Ok(whole) = whole {
            let expected: Vec<_> = (0..).zip(&whole).filter_map(|(index, it)| Some((index, it.stamp?))).collect();
            prop_assert_eq!(found, Ok(expected));
        }
    }

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
