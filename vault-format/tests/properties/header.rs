//! Headers, and batches as bytes that may be damaged.

use proptest::prelude::*;
use vault_format::batch::{Batch, BatchError, BatchWriter};
use vault_format::chain::Chain;
use vault_format::header::{Codec, Header, HeaderError, Kind};
use vault_format::ids::{Offset, Position, StreamId, Term, Timestamp};
use vault_format::layout::{block_end, is_block_start, to_pages};
use vault_format::limits::{
    BLOCK_BYTES, HEADER_BYTES, MAX_OFFSET, MAX_SEGMENT_BYTES, MAX_SNAPSHOT_BYTES, MAX_TIMESTAMP_MS,
    MAX_UNCOMPRESSED_BYTES, PAGE_BYTES,
};
use vault_format::record::Message;

use crate::common::set_checksums;

prop_compose! {
    /// Any header that the format allows.
    fn headers()(
        kind in prop::sample::select(vec![Kind::Messages, Kind::Snapshot, Kind::Filler, Kind::Seal, Kind::Commit]),
        block in 0..MAX_SEGMENT_BYTES / BLOCK_BYTES,
        page in 1..BLOCK_BYTES / PAGE_BYTES,
        size in any::<u64>(),
        count in 1..=u32::MAX,
        base in 0..=MAX_OFFSET - u64::from(u32::MAX),
        times in (0..=MAX_TIMESTAMP_MS, 0..=MAX_TIMESTAMP_MS),
        numbers in any::<(u64, u64, u32)>(),
        codec in prop::sample::select(Codec::ALL.to_vec()),
        longer in any::<u64>(),
        stream in any::<[u8; 16]>(),
    ) -> Header {
        let page = if kind == Kind::Snapshot { 0 } else { page };
        let position = Position(block * BLOCK_BYTES + page * PAGE_BYTES);
        let room = block_end(position).0 - position.0;
        let most = if kind == Kind::Snapshot { MAX_SNAPSHOT_BYTES } else { room };
        let payload = match kind {
            Kind::Messages | Kind::Snapshot => 1 + size % (most - HEADER_BYTES as u64),
            Kind::Filler | Kind::Seal | Kind::Commit => 0,
        };
        let total = if kind == Kind::Filler { room } else { to_pages(HEADER_BYTES as u64 + payload) };
        let payload_bytes = u32::try_from(payload).expect("it fits in a block");
        let most = MAX_UNCOMPRESSED_BYTES - payload;
        let codec = if kind == Kind::Messages && most > 0 { codec } else { Codec::None };
        let uncompressed = if codec == Codec::None { payload } else { payload + 1 + longer % most };
        let (first, last) = (times.0.min(times.1), times.0.max(times.1));
        Header {
            kind,
            codec,
            stream: StreamId(stream),
            position,
            total_bytes: u32::try_from(total).expect("it fits in a block"),
            payload_bytes,
            uncompressed_bytes: u32::try_from(uncompressed).expect("it is at most 4 MiB"),
            record_count: if kind == Kind::Messages { count } else { 0 },
            base_offset: Offset(base),
            first_timestamp: Timestamp(first),
            last_timestamp: Timestamp(if kind == Kind::Messages { last } else { first }),
            fence: Term(numbers.0 % Term::UNUSED.0),
            committed: Position(numbers.1.checked_rem(position.0 + 1).unwrap_or(0)),
            payload_crc: numbers.2,
        }
    }
}

/// A batch of two messages with some padding behind them, in the middle of a block.
fn small_batch() -> (Chain, Vec<u8>) {
    let before = Chain {
        position: Position(1024),
        last_timestamp: Timestamp(5),
        ..Chain::at_segment_start(StreamId([3; 16]), Offset(7))
    };
    let (mut chain, mut out, mut run) = (before, Vec::new(), Vec::new());
    Message { key: b"k", headers: &[("a", "b")], value: b"hello", ..Message::default() }.encode(0, &mut run);
    let mut writer =
        BatchWriter { chain: &mut chain, fence: Term(9), committed: Position(512), out: &mut out };
    writer.messages([run.as_slice(), run.as_slice()], 2, Timestamp(6));
    (before, out)
}

proptest! {
    #[test]
    fn headers_round_trip(header in headers()) {
        let bytes = header.encode();
        prop_assert_eq!(Header::decode(&bytes), Ok(header));
        prop_assert!(header.end() <= block_end(header.position));
        prop_assert!(header.next_offset().0 <= MAX_OFFSET);
    }

    /// Checksums are made right, so that every other rule is reached, whatever the other fields say.
    #[test]
    fn a_header_that_decodes_is_one_that_would_be_written(
        header in headers(),
        changes in prop::collection::vec((4usize..124, any::<u8>()), 0..4),
    ) {
        let mut bytes = header.encode();
        changes.iter().for_each(|(at, byte)| bytes[*at] = *byte);
        set_checksums(&mut bytes);
        match Header::decode(&bytes) {
            Ok(decoded) => {
                prop_assert_eq!(decoded.encode(), bytes);
                prop_assert!(decoded.end().0 <= MAX_SEGMENT_BYTES);
                prop_assert_eq!(is_block_start(decoded.position), decoded.kind == Kind::Snapshot);
            }
            Err(HeaderError::Absent) => prop_assert!(false, "magic and checksum are right"),
            Err(HeaderError::TooNew { version, kind, codec }) => {
                prop_assert!(version != 1 || codec > 2 || !(1..=5).contains(&kind));
            }
            Err(HeaderError::Malformed(_)) => prop_assert_eq!(bytes[4], 1),
        }
    }

    #[test]
    fn arbitrary_fields_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), HEADER_BYTES..700), kind in 1u8..6,
        codec in 0u8..3,
    ) {
        bytes[..8].copy_from_slice(&[b'M', b'V', b'L', b'B', 1, kind, codec, 0]);
        bytes[8..16].fill(0);
        bytes[96..120].fill(0);
        set_checksums(&mut bytes);
        if let Ok(batch) = Batch::decode(&bytes)
            && let Ok(uncompressed) = batch.uncompressed()
        {
            uncompressed.records().for_each(drop);
        }
    }

    #[test]
    fn arbitrary_bytes_never_pass(mut bytes in prop::collection::vec(any::<u8>(), 0..1024), magic in any::<bool>()) {
        if let (true, Some(front)) = (magic, bytes.get_mut(..4)) {
            front.copy_from_slice(b"MVLB");
        }
        prop_assert_eq!(Batch::decode(&bytes).err(), Some(BatchError::Header(HeaderError::Absent)));
    }
}

/// Every bit, not a sample of them.
#[test]
fn a_flipped_bit_is_refused_or_changes_nothing() {
    let (before, bytes) = small_batch();
    let intact = Batch::decode(&bytes).unwrap();
    let end = HEADER_BYTES + intact.payload.len();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let decoded = Batch::decode(&damaged);
        match bit / 8 {
            at if at < HEADER_BYTES => {
                assert_eq!(decoded.err(), Some(BatchError::Header(HeaderError::Absent)), "bit {bit}");
            }
            at if at < end => assert_eq!(decoded.err(), Some(BatchError::Payload), "bit {bit}"),
            _ => {
                let decoded = decoded.unwrap();
                assert_eq!((decoded.header, decoded.payload), (intact.header, intact.payload), "bit {bit}");
            }
        }
        let mut chain = before;
        assert_eq!(chain.accept(&damaged).is_ok(), bit / 8 >= end, "bit {bit}");
    }
}

#[test]
fn a_batch_that_is_cut_off_is_refused() {
    let (_, bytes) = small_batch();
    let end = HEADER_BYTES + Batch::decode(&bytes).unwrap().payload.len();
    for len in 0..end {
        let expected = if len < HEADER_BYTES { HeaderError::Absent.into() } else { BatchError::Truncated };
        assert_eq!(Batch::decode(&bytes[..len]).err(), Some(expected), "{len} bytes");
    }
    assert!(Batch::decode(&bytes[..end]).is_ok());
}

/// Numbers at the edge of `u64` must not overflow before they are refused.
#[test]
fn hostile_numbers_are_malformed() {
    let (_, bytes) = small_batch();
    for (at, field) in [
        (32, u64::MAX - 511),
        (32, 1 << 63),
        (32, MAX_SEGMENT_BYTES + 512),
        (32, 513),
        (56, u64::MAX),
        (56, MAX_OFFSET - 1),
        (64, u64::MAX),
        (72, u64::MAX),
        (72, MAX_TIMESTAMP_MS + 1),
        (80, u64::MAX),
        (80, Term::UNUSED.0),
        (88, 1025),
    ] {
        let mut hostile = bytes.clone();
        hostile[at..at + 8].copy_from_slice(&field.to_le_bytes());
        set_checksums(&mut hostile);
        let error = Batch::decode(&hostile).err();
        assert!(
            matches!(error, Some(BatchError::Header(HeaderError::Malformed(_)))),
            "{field} at {at}: {error:?}"
        );
    }
}
