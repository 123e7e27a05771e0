use proptest::prelude::*;
use vault_format::batch::Batch;
use vault_format::header::Kind;
use vault_format::ids::StreamId;
use vault_format::limits::{BLOCK_BYTES, MAX_BLOCK_UNCOMPRESSED_BYTES, MAX_RUN_BYTES};
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

    fn no_room(&self) -> Option<u64> {
        None
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

/// A request of bytes that no codec makes shorter.
fn noise(bytes: usize, seed: u64) -> Request {
    let mut state = seed | 1;
    let value: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    })
    .take(bytes)
    .collect();
    let mut records = Vec::new();
    Message { value: &value, ..Message::default() }.encode(0, &mut records);
    Request { records, count: 1, expected: None }
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

/// The batch of messages in a put whose first batch it is, or whose second behind a snapshot.
fn messages(put: &Put<Request>) -> Batch<'_> {
    let first = Batch::decode(&put.bytes).unwrap();
    match first.header.kind {
        Kind::Snapshot => Batch::decode(&put.bytes[first.header.total_bytes as usize..]).unwrap(),
        _ => first,
    }
}

#[test]
fn a_request_that_fits_compressed_does_not_close_the_block() {
    for codec in [Codec::Lz4, Codec::Zstd] {
        let mut appender = appender(4);
        let mut queue = VecDeque::from([noise(2 << 20, 1), noise(1 << 20, 2)]);
        let first = appender.build(&mut queue, Timestamp(1), no_misfit).unwrap();
        assert_eq!((kinds(&first).len(), messages(&first).header.codec), (2, Codec::None));
        appender.codec = codec;
        queue.push_back(request(3_000_000, 3));
        let second = appender.build(&mut queue, Timestamp(1), no_misfit).unwrap();
        assert_eq!(kinds(&second), [Kind::Messages], "{codec}");
        let batch = messages(&second);
        assert_eq!((batch.header.codec, batch.header.record_count), (codec, 3));
        assert!(batch.header.uncompressed_bytes > 2_900_000 && second.bytes.len() < 50_000);
    }
}

#[test]
fn a_batch_takes_what_fits_compressed_and_at_most_four_mebibytes() {
    let mut appender = appender(4);
    appender.codec = Codec::Zstd;
    let mut queue: VecDeque<_> = (0..6).map(|_| request(1_000_000, 1)).collect();
    let put = appender.build(&mut queue, Timestamp(1), no_misfit).unwrap();
    assert_eq!(kinds(&put), [Kind::Snapshot, Kind::Messages]);
    assert_eq!((put.requests.len(), queue.len()), (4, 2));
    let put = appender.build(&mut queue, Timestamp(1), no_misfit).unwrap();
    assert_eq!((put.position.0 / BLOCK_BYTES, put.requests.len()), (0, 2));
}

/// Towards the end of a block, what does not fit compressed either goes on in the next one: as much as fits as it is, and
/// then the block is closed.
#[test]
fn what_does_not_fit_compressed_closes_the_block() {
    let mut appender = appender(4);
    appender.codec = Codec::Lz4;
    let mut queue = VecDeque::from([noise(2 << 20, 1)]);
    appender.build(&mut queue, Timestamp(1), no_misfit).unwrap();
    queue.extend([request(500_000, 1), noise(2 << 20, 2)]);
    let put = appender.build(&mut queue, Timestamp(1), no_misfit).unwrap();
    assert_eq!(kinds(&put), [Kind::Messages, Kind::Filler]);
    assert_eq!((put.requests.len(), messages(&put).header.codec), (1, Codec::Lz4));
    let put = appender.build(&mut queue, Timestamp(1), no_misfit).unwrap();
    assert_eq!((put.position, put.requests.len()), (Position(BLOCK_BYTES), 1));
}

/// Puts everything, and answers for each block how many bytes of records its batches uncompress to, and how many other
/// batches with messages it holds.
fn expanded_by_block(appender: &mut Appender, mut queue: VecDeque<Request>) -> Vec<(u64, u64)> {
    let mut blocks = Vec::new();
    while let Some(put) = appender.build(&mut queue, Timestamp(1), no_misfit) {
        blocks.resize(blocks.len().max(usize::try_from(put.position.0 / BLOCK_BYTES).unwrap() + 1), (0, 0));
        let (block, mut at) = (blocks.last_mut().unwrap(), 0);
        while let Ok(batch) = Batch::decode(put.bytes.get(at..).unwrap_or_default()) {
            match (batch.header.kind, batch.header.codec) {
                (Kind::Messages, Codec::None) => block.1 += 1,
                (Kind::Messages, _) => block.0 += u64::from(batch.header.uncompressed_bytes),
                _ => {}
            }
            at += usize::try_from(batch.header.written_bytes()).unwrap();
        }
        appender.settle(&put);
    }
    assert!(queue.is_empty());
    blocks
}

#[test]
fn a_block_is_bounded_in_what_it_uncompresses_to() {
    for codec in [Codec::Lz4, Codec::Zstd] {
        let mut appender = appender(8);
        appender.codec = codec;
        let queue = (0..50).map(|_| request(3_000_000, 3)).collect();
        let blocks = expanded_by_block(&mut appender, queue);
        // Each block holds as many requests as the bound has room for, and one that is not compressed.
        let compressed = MAX_BLOCK_UNCOMPRESSED_BYTES / 3_000_000 * 3_000_000;
        assert_eq!(blocks.len(), 3, "{codec}: {blocks:?}");
        for (bytes, others) in &blocks[..2] {
            assert!(
                (compressed..=MAX_BLOCK_UNCOMPRESSED_BYTES).contains(bytes) && *others == 1,
                "{codec}: {blocks:?}"
            );
        }
    }
}

#[test]
fn who_goes_on_in_a_block_counts_from_0() {
    let mut first = appender(2);
    first.codec = Codec::Zstd;
    let queue = (0..20).map(|_| request(3_000_000, 3)).collect();
    let blocks = expanded_by_block(&mut first, queue);
    assert_eq!(blocks.len(), 1);
    let (chain, start) = (*first.settled(), Position(0));
    let mut second = Appender::new(Term(6), 2 * BLOCK_BYTES, chain, start, start, Producers::default());
    second.codec = Codec::Zstd;
    let queue = (0..20).map(|_| request(3_000_000, 3)).collect();
    let blocks = expanded_by_block(&mut second, queue);
    assert_eq!((blocks.len(), blocks[0].1), (1, 0));
}

#[test]
fn a_refusal_rests_on_what_is_put() {
    let mut appender = appender(4);
    appender.codec = Codec::Zstd;
    let expecting = |offset, bytes| Request { expected: Some(Offset(offset)), ..request(bytes, 1) };
    let mut queue = VecDeque::from([
        expecting(0, 1_500_000),
        expecting(0, 1_500_000),
        expecting(1, 1_500_000),
        expecting(7, 10),
        expecting(2, 1_000_000),
        expecting(7, 10),
        expecting(3, 1_000_000),
    ]);
    let mut refused = Vec::new();
    let put = appender.build(&mut queue, Timestamp(1), |misfit| match misfit {
        Misfit::OtherOffset(request, next) => refused.push((request.expected.unwrap().0, next.0)),
        other => panic!("{other:?}"),
    });
    let put = put.unwrap();
    assert_eq!((put.requests.len(), refused), (3, vec![(0, 1), (7, 2), (7, 3)]));
    assert_eq!(appender.built().next_offset, Offset(3));
    assert_eq!(queue.len(), 1, "what does not fit waits for the next put");
}

#[test]
fn what_was_tried_and_does_not_fit_is_not_held_against_producers() {
    use vault_format::record::{Stamp, stamped};

    let mut appender = appender(4);
    appender.codec = Codec::Lz4;
    // Incompressible, and more than a block: both attempts are made, and only two of four are put.
    let numbered = |sequence: u64| {
        let Request { records, .. } = noise(1_300_000, sequence);
        let stamp = Stamp { producer: b"p", epoch: 0, sequence, record_count: 1 };
        Request { records: stamped(&records, &stamp), count: 1, expected: None }
    };
    let mut queue: VecDeque<_> = (0..4).map(numbered).collect();
    let mut put = 0;
    while let Some(built) = appender.build(&mut queue, Timestamp(1), no_misfit) {
        put += built.requests.len();
        appender.settle(&built);
    }
    assert_eq!((put, queue.len()), (4, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever comes, and however it is compressed.
    #[test]
    fn no_block_uncompresses_to_more_than_the_bound(
        sizes in proptest::collection::vec(prop_oneof![1usize..3_000_000, 2_000_000usize..3_000_000], 40..60),
        noises in any::<u64>(),
        codec in proptest::sample::select(vec![Codec::Lz4, Codec::Zstd]),
    ) {
        let mut appender = appender(64);
        appender.codec = codec;
        let of = |(index, bytes): (usize, &usize)| match noises >> (index % 64) & 7 {
            7 => noise(*bytes / 2, index as u64),
            _ => request(*bytes, 3),
        };
        let queue = sizes.iter().enumerate().map(of).collect();
        let blocks = expanded_by_block(&mut appender, queue);
        prop_assert!(blocks.iter().all(|(bytes, _)| *bytes <= MAX_BLOCK_UNCOMPRESSED_BYTES), "{:?}", blocks);
    }

    /// Whatever is asked for, in whatever order puts are answered: the stored bytes are one valid chain, and every
    /// request stands where its answer says.
    #[test]
    fn what_is_built_is_a_valid_log(
        sizes in proptest::collection::vec((1usize..1_400_000, 1u32..5), 1..40),
        blocks in 1u64..4,
        in_flight in 1usize..=MAX_PUTS_IN_FLIGHT,
        commits in any::<u64>(),
        codecs in proptest::collection::vec(proptest::sample::select(Codec::ALL.to_vec()), 1..5),
        noises in any::<u64>(),
    ) {
        let mut appender = appender(blocks);
        let segment_bytes = blocks * BLOCK_BYTES;
        let of = |(index, (bytes, count)): (usize, &(usize, u32))| match noises >> (index % 64) & 1 {
            1 => noise(*bytes, index as u64),
            _ => request(*bytes, *count),
        };
        let mut waiting: VecDeque<Request> = sizes.iter().enumerate().map(of).collect();
        let mut queue = VecDeque::new();
        let mut flying: VecDeque<Put<Request>> = VecDeque::new();
        let mut segments = vec![(Offset(0), vec![0u8; usize::try_from(segment_bytes).unwrap()])];
        let mut answers = Vec::new();
        let mut round = 0;
        while !waiting.is_empty() || !queue.is_empty() || !flying.is_empty() {
            round += 1;
            queue.extend(waiting.drain(..waiting.len().min(3)));
            appender.codec = codecs[usize::try_from(round).unwrap() % codecs.len()];
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
                if batch.header.kind == Kind::Messages {
                    payloads.extend_from_slice(&batch.uncompressed().unwrap().into_bytes());
                }
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

#[test]
fn a_segment_is_sealed_anywhere() {
    // Behind messages that are in flight, and at the head of a block, which begins with a snapshot.
    for (first, expected) in
        [(vec![request(100, 1)], vec![Kind::Seal]), (Vec::new(), vec![Kind::Snapshot, Kind::Seal])]
    {
        let mut appender = appender(4);
        let (mut queue, mut puts) = (VecDeque::from(first), Vec::new());
        puts.extend(appender.build(&mut queue, Timestamp(1), no_misfit));
        let before = *appender.built();
        puts.push(appender.build_seal());
        let seal = puts.last().unwrap();
        assert_eq!(kinds(seal), expected);
        assert_eq!((seal.position, seal.after.next_offset), (before.position, before.next_offset));
        assert!(seal.seals && seal.requests.is_empty() && appender.sealed());
        puts.iter().for_each(|put| appender.settle(put));
        appender.enter_next_segment(BLOCK_BYTES);
        assert_eq!(
            (appender.built().position, appender.built().next_offset),
            (Position(0), before.next_offset)
        );
    }
}

#[test]
fn a_foothold_is_a_snapshot_and_a_commit() {
    let mut appender = appender(4);
    for kind in [Kind::Snapshot, Kind::Commit] {
        assert!(!appender.has_foothold());
        let put: Put<Request> = appender.build_foothold();
        assert_eq!(kinds(&put), [kind]);
        appender.settle(&put);
    }
    assert!(appender.has_foothold() && !appender.wants_commit());
    let put = appender.build(&mut VecDeque::from([request(10, 1)]), Timestamp(1), no_misfit).unwrap();
    assert_eq!((kinds(&put), put.position), (vec![Kind::Messages], Position(1024)));
}
