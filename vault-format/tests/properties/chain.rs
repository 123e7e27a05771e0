//! The chain: it takes what a writer appends, and nothing that belongs elsewhere.

use proptest::prelude::*;
use vault_format::batch::BatchWriter;
use vault_format::chain::{Broken, Chain};
use vault_format::header::{Header, Kind};
use vault_format::ids::{Offset, Position, StreamId, Term, Timestamp};
use vault_format::layout::{is_block_start, room_in_block, to_pages};
use vault_format::limits::{BLOCK_BYTES, HEADER_BYTES, MAX_TIMESTAMP_MS, SEAL_BYTES};
use vault_format::record::Message;

const STREAM: StreamId = StreamId([0x5a; 16]);
const SEGMENT_BYTES: u64 = 3 * BLOCK_BYTES;

/// What one append of a test does.
#[derive(Clone, Debug)]
enum Step {
    Messages { count: u32, value_bytes: usize, now: u64 },
    Commit,
    NewTerm,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u32..5, 0usize..500_000, 0u64..1_000)
            .prop_map(|(count, value_bytes, now)| Step::Messages { count, value_bytes, now }),
        1 => Just(Step::Commit),
        1 => Just(Step::NewTerm),
    ]
}

/// Writes one segment as a writer would, until the steps or its room are used up, and seals it. Answers where each
/// batch stands and its written bytes.
fn write_segment(chain: &mut Chain, steps: &[Step]) -> Vec<(Position, Vec<u8>)> {
    let mut batches = Vec::new();
    let mut fence = chain.fence;
    let mut append = |chain: &mut Chain, fence: Term, write: &dyn Fn(&mut BatchWriter<'_>)| {
        let (position, mut out) = (chain.position, Vec::new());
        let committed = batches.last().map_or(Position::ZERO, |(last, _)| *last);
        write(&mut BatchWriter { chain, fence, committed, out: &mut out });
        batches.push((position, out));
    };
    for step in steps {
        let mut run = Vec::new();
        let (count, now) = match step {
            Step::Messages { count, value_bytes, now } => {
                let value = vec![0x4d; *value_bytes];
                (0..*count).for_each(|_| Message { value: &value, ..Message::default() }.encode(0, &mut run));
                (*count, Timestamp(*now))
            }
            Step::Commit => (0, Timestamp::ZERO),
            Step::NewTerm => {
                fence = Term(fence.0 + 7);
                continue;
            }
        };
        let wanted = to_pages(HEADER_BYTES as u64 + run.len() as u64);
        if room_in_block(chain.position, SEGMENT_BYTES) < wanted && !is_block_start(chain.position) {
            if chain.position.0 >= SEGMENT_BYTES - BLOCK_BYTES {
                break;
            }
            append(chain, fence, &|writer| writer.filler());
        }
        if is_block_start(chain.position) {
            append(chain, fence, &|writer| writer.snapshot(&[]));
        }
        append(chain, fence, &|writer| match count {
            0 => writer.commit(),
            _ => {
                let first = writer.chain.next_offset;
                let timestamp = writer.messages([run.as_slice()], count, now);
                assert!(timestamp >= now);
                assert_eq!(writer.chain.next_offset, Offset(first.0 + u64::from(count)));
            }
        });
    }
    if is_block_start(chain.position) {
        append(chain, fence, &|writer| writer.snapshot(&[]));
    }
    append(chain, fence, &|writer| writer.seal());
    batches
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_a_writer_appends_continues_the_chain(
        first in prop::collection::vec(steps(), 0..30),
        second in prop::collection::vec(steps(), 0..6),
    ) {
        let mut writer = Chain { fence: Term(100), ..Chain::at_segment_start(STREAM, Offset(1000)) };
        let mut reader = Chain::at_segment_start(STREAM, Offset(1000));
        for steps in [&first, &second] {
            let batches = write_segment(&mut writer, steps);
            for (index, (position, bytes)) in batches.iter().enumerate() {
                prop_assert_eq!(reader.position, *position);
                let before = reader;
                let batch = reader.accept(bytes).unwrap();
                prop_assert_eq!(batch.header.written_bytes(), bytes.len() as u64);
                prop_assert_eq!(batch.header.kind == Kind::Snapshot, is_block_start(*position));
                prop_assert_eq!(batch.header.kind == Kind::Seal, index == batches.len() - 1);
                let held = batch.uncompressed().unwrap();
                prop_assert_eq!(held.records().count(), batch.header.record_count as usize);
                prop_assert!(held.records().all(|record| record.is_ok()));
                prop_assert!(batch.header.end().0 <= SEGMENT_BYTES);

                let mut from_here = Chain::before(&batch.header);
                prop_assert_eq!(from_here.next_offset, before.next_offset);
                prop_assert!(from_here.accept(bytes).is_ok());
                prop_assert_eq!(from_here, reader);
                prop_assert!(reader.accept(bytes).is_err(), "a batch does not follow itself");
            }
            prop_assert_eq!(reader, writer);
            writer = writer.in_next_segment();
            reader = reader.in_next_segment();
        }
    }
}

/// A chain in the middle of a block and a batch that continues it.
fn batch_and_chain() -> (Chain, Vec<u8>) {
    let before = Chain {
        stream: STREAM,
        position: Position(1024),
        next_offset: Offset(7),
        last_timestamp: Timestamp(50),
        fence: Term(3),
    };
    let (mut chain, mut out, mut run) = (before, Vec::new(), Vec::new());
    Message { value: b"x", ..Message::default() }.encode(0, &mut run);
    BatchWriter { chain: &mut chain, fence: Term(3), committed: Position(512), out: &mut out }.messages(
        [run.as_slice()],
        1,
        Timestamp(50),
    );
    (before, out)
}

#[test]
fn a_batch_that_belongs_elsewhere_is_refused() {
    let (right, bytes) = batch_and_chain();
    assert!({ right }.accept(&bytes).is_ok());
    let elsewhere = [
        (Chain { stream: StreamId([0x5b; 16]), ..right }, "another stream's id"),
        (Chain { position: Position(512), ..right }, "another position"),
        (Chain { position: Position(1536), ..right }, "another position"),
        (Chain { position: Position(BLOCK_BYTES + 1024), ..right }, "another position"),
        (Chain { next_offset: Offset(6), ..right }, "another base offset"),
        (Chain { next_offset: Offset(8), ..right }, "another base offset"),
        (Chain { fence: Term(4), ..right }, "a lower fence than before it"),
        (Chain { last_timestamp: Timestamp(51), ..right }, "an earlier timestamp than before it"),
    ];
    for (chain, rule) in elsewhere {
        let mut moved = chain;
        assert_eq!(moved.accept(&bytes).err(), Some(Broken::Misplaced(rule)));
        assert_eq!(moved, chain, "a refused batch moves nothing");
    }
    let earlier = Chain { fence: Term(2), last_timestamp: Timestamp(49), ..right };
    assert!({ earlier }.accept(&bytes).is_ok(), "a higher fence and a later timestamp continue");
}

#[test]
fn damage_behind_a_right_header_moves_nothing() {
    let (before, mut bytes) = batch_and_chain();
    bytes[HEADER_BYTES] ^= 1;
    let mut chain = before;
    assert!(chain.accept(&bytes).is_err());
    assert_eq!(chain, before);
}

/// Also in release builds: a chain that was led astray would number messages wrongly.
#[test]
#[should_panic(expected = "the chain goes on with the batch that was checked")]
fn advancing_over_an_unchecked_batch_panics() {
    let (mut chain, bytes) = batch_and_chain();
    let header = Header::decode(&bytes).unwrap();
    chain.position = Position(512);
    chain.advance(&header);
}

#[test]
#[should_panic(expected = "a leader of an earlier term may not write")]
fn a_deposed_leader_writes_nothing() {
    let (mut chain, _) = batch_and_chain();
    let mut out = Vec::new();
    BatchWriter { chain: &mut chain, fence: Term(2), committed: Position(0), out: &mut out }.commit();
}

#[test]
fn a_clock_out_of_range_is_held_within_it() {
    let (mut chain, _) = batch_and_chain();
    let mut run = Vec::new();
    Message::default().encode(0, &mut run);
    let mut out = Vec::new();
    let mut writer = BatchWriter { chain: &mut chain, fence: Term(3), committed: Position(0), out: &mut out };
    assert_eq!(writer.messages([run.as_slice()], 1, Timestamp(0)), Timestamp(50), "it jumped back");
    let latest = writer.messages([run.as_slice()], 1, Timestamp(u64::MAX));
    assert_eq!(latest, Timestamp(MAX_TIMESTAMP_MS));
}

/// The room that a block's last page keeps is the seal's, and a seal fits in it.
#[test]
fn a_full_segment_still_takes_its_seal() {
    let last_page = Position(SEGMENT_BYTES - SEAL_BYTES);
    let mut chain = Chain { position: last_page, ..Chain::at_segment_start(STREAM, Offset(0)) };
    let mut out = Vec::new();
    BatchWriter { chain: &mut chain, fence: Term(1), committed: Position(0), out: &mut out }.seal();
    assert_eq!((chain.position, out.len() as u64), (Position(SEGMENT_BYTES), SEAL_BYTES));
}
