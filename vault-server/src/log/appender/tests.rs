use proptest::prelude::*;
use vault_format::header::Kind;
use vault_format::ids::StreamId;
use vault_format::limits::{BLOCK_BYTES, MAX_RUN_BYTES};
use vault_format::record::Message;

use super::*;

#[derive(Debug, Clone)]
struct Request {
    records: Vec<u8>,
    count: u32,
    expected: Option<Offset>,
}

impl Queued for Request {
    fn records(&self) -> &[u8] {
        &self.records
    }

    fn record_count(&self) -> u32 {
        self.count
    }

    fn expected_offset(&self) -> Option<Offset> {
        self.expected
    }
}

/// A request whose records are at least `bytes` long together.
fn request(bytes: usize, count: u32) -> Request {
    let mut records = Vec::new();
    for _ in 0..count {
        let value = vec![b'x'; (bytes / count as usize).min(vault_format::limits::MAX_VALUE_BYTES)];
        Message { value: &value, ..Message::default() }.encode(0, &mut records);
    }
    Request { records, count, expected: None }
}

fn appender(blocks: u64) -> Appender {
    let start = Chain::at_segment_start(StreamId([1; 16]), Offset(0));
    Appender::new(Term(5), blocks * BLOCK_BYTES, start, Position(0), Position(0), Producers::default())
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where a callback takes the misfit")]
fn no_misfit(misfit: Misfit<Request>) {
    panic!("{misfit:?}");
}

/// What a put holds, by kind.
fn kinds(put: &Put<Request>) -> Vec<Kind> {
    let mut at = 0;
    std::iter::from_fn(|| {
        let header = vault_format::header::Header::decode(put.bytes.get(at..)?).ok()?;
        at += usize::try_from(header.written_bytes()).unwrap();
        Some(header.kind)
    })
    .collect()
}

#[test]
fn a_block_begins_with_a_snapshot_and_requests_share_a_batch() {
    let mut appender = appender(4);
    let mut queue = VecDeque::from([request(100, 1), request(200, 2)]);
    let put = appender.build(&mut queue, Timestamp(7), no_misfit).unwrap();
    assert_eq!(kinds(&put), [Kind::Snapshot, Kind::Messages]);
    let answers: Vec<_> =
        put.requests.iter().map(|(_, appended)| (appended.first_offset.0, appended.next_offset.0)).collect();
    assert_eq!(answers, [(0, 1), (1, 3)]);
    assert!(queue.is_empty());
    assert!(appender.build(&mut queue, Timestamp(7), no_misfit).is_none());
}

#[test]
fn a_request_that_does_not_fit_closes_the_block() {
    let mut appender = appender(4);
    let mut queue = VecDeque::from([request(2 << 20, 1), request(3_000_000, 2)]);
    let first = appender.build(&mut queue, Timestamp(1), no_misfit).unwrap();
    assert_eq!(kinds(&first), [Kind::Snapshot, Kind::Messages, Kind::Filler]);
    let second = appender.build(&mut queue, Timestamp(1), no_misfit).unwrap();
    assert_eq!(second.position, Position(BLOCK_BYTES));
    assert_eq!(kinds(&second), [Kind::Snapshot, Kind::Messages]);
}

#[test]
fn the_last_block_is_closed_with_a_seal() {
    let mut appender = appender(1);
    let mut queue = VecDeque::from([request(2 << 20, 1), request(3_000_000, 2)]);
    let put = appender.build(&mut queue, Timestamp(1), no_misfit).unwrap();
    assert_eq!(kinds(&put), [Kind::Snapshot, Kind::Messages, Kind::Seal]);
    assert!(put.seals && appender.sealed() && queue.len() == 1);
    appender.settle(&put);
    appender.enter_next_segment(BLOCK_BYTES);
    let next = appender.build(&mut queue, Timestamp(1), no_misfit).unwrap();
    assert_eq!((next.position, next.requests[0].1.first_offset), (Position(0), Offset(1)));
}

#[test]
fn the_largest_request_fits_in_the_smallest_segment() {
    let mut appender = appender(1);
    let mut records = request(MAX_RUN_BYTES - 4096, 2);
    let mut queue = VecDeque::from([std::mem::replace(&mut records, request(1, 1))]);
    let put = appender.build(&mut queue, Timestamp(1), no_misfit).unwrap();
    assert_eq!(kinds(&put), [Kind::Snapshot, Kind::Messages]);
}

#[test]
fn an_expected_offset_counts_what_is_in_front_of_it() {
    let mut appender = appender(4);
    let expecting = |offset| Request { expected: Some(Offset(offset)), ..request(10, 1) };
    let mut queue = VecDeque::from([expecting(0), expecting(0), expecting(1), expecting(9)]);
    let mut misfits = 0;
    let put = appender.build(&mut queue, Timestamp(1), |misfit| {
        assert!(matches!(misfit, Misfit::OtherOffset(..)));
        misfits += 1;
    });
    let offsets: Vec<_> = put.unwrap().requests.iter().map(|(_, appended)| appended.first_offset.0).collect();
    assert_eq!((offsets, misfits), (vec![0, 1], 2));
}

#[test]
fn offsets_run_out_without_harm() {
    let start = Chain::at_segment_start(StreamId([1; 16]), Offset(vault_format::limits::MAX_OFFSET - 1));
    let mut appender =
        Appender::new(Term(5), BLOCK_BYTES, start, Position(0), Position(0), Producers::default());
    let mut queue = VecDeque::from([request(10, 2), request(10, 1)]);
    let mut misfits = 0;
    let put = appender.build(&mut queue, Timestamp(1), |_| misfits += 1).unwrap();
    assert_eq!((put.requests.len(), misfits), (1, 1));
}

#[test]
fn time_never_runs_backwards() {
    let mut appender = appender(4);
    let mut timestamp = |now| {
        let mut queue = VecDeque::from([request(10, 1)]);
        let put = appender.build(&mut queue, Timestamp(now), no_misfit).unwrap();
        appender.settle(&put);
        put.requests[0].1.timestamp.0
    };
    assert_eq!(
        [timestamp(10), timestamp(5), timestamp(11), timestamp(u64::MAX)],
        [10, 10, 11, (1 << 48) - 1]
    );
}

#[test]
fn a_commit_is_wanted_once_after_messages() {
    let mut appender = appender(4);
    assert!(!appender.wants_commit());
    let mut queue = VecDeque::from([request(10, 1)]);
    let put = appender.build(&mut queue, Timestamp(1), no_misfit).unwrap();
    assert!(!appender.wants_commit(), "nothing is acknowledged yet");
    appender.settle(&put);
    assert!(appender.wants_commit());
    let commit: Put<Request> = appender.build_commit();
    assert_eq!(kinds(&commit), [Kind::Commit]);
    appender.settle(&commit);
    assert!(!appender.wants_commit());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is asked for, in whatever order puts are answered: the stored bytes are one valid chain, and every
    /// request stands where its answer says.
    #[test]
    fn what_is_built_is_a_valid_log(
        sizes in proptest::collection::vec((1usize..1_400_000, 1u32..5), 1..40),
        blocks in 1u64..4,
        in_flight in 1usize..=MAX_PUTS_IN_FLIGHT,
        commits in any::<u64>(),
    ) {
        let mut appender = appender(blocks);
        let segment_bytes = blocks * BLOCK_BYTES;
        let mut waiting: VecDeque<Request> = sizes.iter().map(|(bytes, count)| request(*bytes, *count)).collect();
        let mut queue = VecDeque::new();
        let mut flying: VecDeque<Put<Request>> = VecDeque::new();
        let mut segments = vec![(Offset(0), vec![0u8; usize::try_from(segment_bytes).unwrap()])];
        let mut answers = Vec::new();
        let mut round = 0;
        while !waiting.is_empty() || !queue.is_empty() || !flying.is_empty() {
            round += 1;
            queue.extend(waiting.drain(..waiting.len().min(3)));
            while flying.len() < in_flight && !appender.sealed() {
                let Some(put) = appender.build(&mut queue, Timestamp(round), no_misfit) else { break };
                flying.push_back(put);
            }
            if let Some(put) = flying.pop_front() {
                let at = usize::try_from(put.position.0).unwrap();
                segments.last_mut().unwrap().1[at..at + put.bytes.len()].copy_from_slice(&put.bytes);
                appender.settle(&put);
                answers.extend(put.requests);
            }
            if flying.is_empty() && appender.wants_commit() && commits >> (round % 64) & 1 == 1 {
                flying.push_back(appender.build_commit());
            }
            if appender.sealed() && flying.is_empty() {
                segments.push((appender.settled().next_offset, vec![0; usize::try_from(segment_bytes).unwrap()]));
                appender.enter_next_segment(segment_bytes);
            }
        }
        let mut chain = Chain::at_segment_start(StreamId([1; 16]), Offset(0));
        let mut payloads = Vec::new();
        for (base, bytes) in &segments {
            prop_assert_eq!(chain.next_offset, *base);
            chain = chain.in_next_segment();
            while let Ok(batch) = chain.accept(&bytes[usize::try_from(chain.position.0).unwrap()..]) {
                payloads.extend_from_slice(if batch.header.kind == Kind::Messages { batch.payload } else { &[] });
                if batch.header.kind == Kind::Seal { break }
            }
        }
        prop_assert_eq!(&chain, appender.settled(), "the scan ends where the appender stands");
        let mut next = Offset(0);
        let mut expected = Vec::new();
        for (request, appended) in &answers {
            prop_assert_eq!(appended.first_offset, next);
            next = appended.next_offset;
            expected.extend_from_slice(&request.records);
        }
        prop_assert!(payloads == expected, "the records stand in the order of their offsets");
    }
}
