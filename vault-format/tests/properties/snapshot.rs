//! Snapshots of producers.

use proptest::prelude::*;
use vault_format::batch::{Batch, BatchWriter};
use vault_format::chain::Chain;
use vault_format::ids::{Offset, Position, StreamId, Term, Timestamp};
use vault_format::limits::{
    MAX_OFFSET, MAX_OUTCOMES, MAX_PRODUCER_ID_BYTES, MAX_PRODUCERS, MAX_SNAPSHOT_BYTES, MAX_TIMESTAMP_MS,
};
use vault_format::snapshot::{InvalidSnapshot, Outcome, Producer, decode, encode};

prop_compose! {
    fn outcomes()(
        sequence in any::<u64>(),
        count in 1..=u32::MAX,
        offset in 0..=MAX_OFFSET - u64::from(u32::MAX),
        timestamp in 0..=MAX_TIMESTAMP_MS,
    ) -> Outcome {
        Outcome { sequence, offset: Offset(offset), count, timestamp: Timestamp(timestamp) }
    }
}

prop_compose! {
    fn producers()(
        id in prop::collection::vec(any::<u8>(), 1..=MAX_PRODUCER_ID_BYTES),
        epoch in any::<u64>(),
        outcomes in prop::collection::vec(outcomes(), 1..=MAX_OUTCOMES),
    ) -> Producer {
        Producer { id, epoch, outcomes }
    }
}

fn payload(producers: &[Producer]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(producers, &mut out);
    out
}

proptest! {
    #[test]
    fn snapshots_round_trip(producers in prop::collection::vec(producers(), 0..8)) {
        prop_assert_eq!(decode(&payload(&producers)), Ok(producers));
    }

    #[test]
    fn a_snapshot_has_one_encoding(
        producers in prop::collection::vec(producers(), 0..4),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = payload(&producers);
        prop_assert_eq!(decode(&bytes[..cut.index(bytes.len())]), Err(InvalidSnapshot));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(again) = decode(&bytes) {
            prop_assert_eq!(payload(&again), bytes);
        }
    }

    #[test]
    fn arbitrary_payloads_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }
}

/// The bound that the block's layout rests on.
#[test]
fn the_longest_snapshot_fits_its_place() {
    let longest = Outcome {
        sequence: u64::MAX,
        offset: Offset(MAX_OFFSET - u64::from(u32::MAX)),
        count: u32::MAX,
        timestamp: Timestamp::MAX,
    };
    let producer = |n: usize| Producer {
        id: n.to_be_bytes().repeat(MAX_PRODUCER_ID_BYTES / 8),
        epoch: u64::MAX,
        outcomes: vec![longest; MAX_OUTCOMES],
    };
    let producers: Vec<Producer> = (0..MAX_PRODUCERS).map(producer).collect();
    let mut chain = Chain::at_segment_start(StreamId([1; 16]), Offset(0));
    let mut out = Vec::new();
    BatchWriter { chain: &mut chain, fence: Term(1), committed: Position(0), out: &mut out }
        .snapshot(&producers);
    assert!(out.len() as u64 <= MAX_SNAPSHOT_BYTES, "{} bytes", out.len());
    assert_eq!(decode(Batch::decode(&out).unwrap().payload), Ok(producers));
}

/// Varints written by hand: one producer `p`, epoch 0, with the outcomes that follow.
#[test]
fn impossible_snapshots_are_refused() {
    let varint = |mut n: u64| {
        let mut out = Vec::new();
        while n > 0x7f {
            out.push(u8::try_from(n & 0x7f).unwrap() | 0x80);
            n >>= 7;
        }
        out.push(u8::try_from(n).unwrap());
        out
    };
    let with_outcome = |numbers: [u64; 4]| {
        let mut bytes = vec![1, 1, b'p', 0, 1];
        numbers.into_iter().for_each(|n| bytes.extend_from_slice(&varint(n)));
        decode(&bytes)
    };
    assert!(with_outcome([u64::MAX, MAX_OFFSET - 1, 1, MAX_TIMESTAMP_MS]).is_ok());
    for wrong in [
        [0, MAX_OFFSET + 1, 1, 0],
        [0, MAX_OFFSET, 1, 0],
        [0, 0, 0, 0],
        [0, 0, 1 << 32, 0],
        [0, 0, 1, MAX_TIMESTAMP_MS + 1],
    ] {
        assert_eq!(with_outcome(wrong), Err(InvalidSnapshot), "{wrong:?}");
    }
    for wrong in
        [&[][..], &[1], &[1, 0, 0, 1, 0, 0, 1, 0], &[1, 1, b'p', 0, 0], &[0, 0], &[0xe9, 7], &[0x80, 0]]
    {
        assert_eq!(decode(wrong), Err(InvalidSnapshot), "{wrong:?}");
    }
    let six = [&[1, 1, b'p', 0, 6][..], &[0, 0, 1, 0].repeat(6)].concat();
    assert_eq!(decode(&six), Err(InvalidSnapshot), "six outcomes");
}
