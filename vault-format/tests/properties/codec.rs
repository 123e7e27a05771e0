//! Compressed batches: whole, and changed behind checksums that are right.

use proptest::prelude::*;
use vault_format::batch::{Batch, BatchWriter};
use vault_format::chain::Chain;
use vault_format::codec::{Codec, Compressed};
use vault_format::header::{Header, HeaderError};
use vault_format::ids::{Offset, Position, StreamId, Term, Timestamp};
use vault_format::limits::{HEADER_BYTES, MAX_UNCOMPRESSED_BYTES};

use crate::common::{Plain, set_checksums};

/// Records of values that are one of a few texts each, and some noise.
fn records(values: &[(usize, Vec<u8>)]) -> Vec<u8> {
    const TEXTS: [&str; 3] =
        ["{\"city\":\"Lima\",\"status\":\"paid\"}", "a longer text that comes again", ""];
    let mut out = Vec::new();
    for (text, noise) in values {
        let value = [TEXTS[text % TEXTS.len()].as_bytes(), noise].concat();
        out.extend(Plain { key: b"key", value: &value, ..Plain::default() }.encode());
    }
    out
}

fn batch(compressed: &Compressed, count: u32) -> Vec<u8> {
    let mut chain =
        Chain { position: Position(512), ..Chain::at_segment_start(StreamId([3; 16]), Offset(7)) };
    let mut out = Vec::new();
    BatchWriter { chain: &mut chain, fence: Term(9), committed: Position(512), out: &mut out }
        .compressed_messages(compressed, count, Timestamp(6));
    out
}

fn codecs() -> impl Strategy<Value = Codec> {
    prop::sample::select(vec![Codec::Lz4, Codec::Zstd])
}

fn values() -> impl Strategy<Value = Vec<(usize, Vec<u8>)>> {
    prop::collection::vec((any::<usize>(), prop::collection::vec(any::<u8>(), 0..20)), 1..200)
}

proptest! {
    #[test]
    fn what_is_compressed_comes_out_again(codec in codecs(), values in values()) {
        let records = records(&values);
        let Some(compressed) = Compressed::of(codec, &records) else { return Ok(()) };
        let bytes = batch(&compressed, u32::try_from(values.len()).unwrap());
        let batch = Batch::decode(&bytes).unwrap();
        prop_assert_eq!(batch.header.codec, codec);
        prop_assert!(batch.header.payload_bytes < batch.header.uncompressed_bytes);
        let held = batch.uncompressed().unwrap();
        prop_assert_eq!(held.records().filter(|record| record.is_ok()).count(), values.len());
        prop_assert!(held.into_bytes() == records);
    }

    /// A writer's mistake, or a hostile one's work: it is refused, or decodes to exactly as many bytes as are announced.
    #[test]
    fn bytes_changed_behind_right_checksums_never_panic(
        codec in codecs(),
        values in values(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        announced in prop::option::of(0..=u32::try_from(MAX_UNCOMPRESSED_BYTES).unwrap()),
    ) {
        let records = records(&values);
        let Some(compressed) = Compressed::of(codec, &records) else { return Ok(()) };
        let mut bytes = batch(&compressed, u32::try_from(values.len()).unwrap());
        let end = HEADER_BYTES + compressed.bytes().len();
        for (at, byte) in &changes {
            let at = HEADER_BYTES + at.index(end - HEADER_BYTES);
            bytes[at] ^= *byte;
        }
        if let Some(announced) = announced {
            bytes[48..52].copy_from_slice(&announced.to_le_bytes());
        }
        set_checksums(&mut bytes);
        let Ok(batch) = Batch::decode(&bytes) else { return Ok(()) };
        if let Ok(held) = batch.uncompressed() {
            held.records().for_each(drop);
            prop_assert_eq!(held.into_bytes().len(), batch.header.uncompressed_bytes as usize);
        }
    }
}

#[test]
fn names_are_names_of_codecs() {
    for codec in Codec::ALL {
        assert_eq!(codec.to_string().parse(), Ok(codec));
        assert_eq!(Codec::from_byte(codec as u8), Some(codec));
    }
    for wrong in ["", "LZ4", "gzip", "zstd "] {
        let says = wrong.parse::<Codec>().unwrap_err().to_string();
        assert!(Codec::ALL.iter().all(|codec| says.contains(codec.name())), "{says}");
    }
    assert_eq!(Codec::from_byte(3), None);
}

#[test]
fn what_saves_no_page_is_not_compressed() {
    // One page, and noise.
    assert_eq!(Compressed::of(Codec::Zstd, &[b'a'; 300]), None);
    let mut state = 1u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(10_000)
    .collect();
    for codec in Codec::ALL {
        assert_eq!(Compressed::of(codec, &noise), None);
    }
    assert_eq!(Compressed::of(Codec::None, &[b'a'; 10_000]), None);
    for codec in [Codec::Lz4, Codec::Zstd] {
        assert!(Compressed::of(codec, &[b'a'; 4 << 20]).is_some());
    }
}

/// A payload that is more than its one frame, or holds more or less than is announced.
#[test]
fn a_payload_is_exactly_what_the_header_says() {
    let records = records(&vec![(0, Vec::new()); 100]);
    for codec in [Codec::Lz4, Codec::Zstd] {
        let compressed = Compressed::of(codec, &records).unwrap();
        let right = batch(&compressed, 100);
        let held = u32::try_from(records.len()).unwrap();
        let length = u32::try_from(compressed.bytes().len()).unwrap();
        let changed = |payload: u32, uncompressed: u32, more: &[u8]| {
            let mut bytes = right.clone();
            let end = HEADER_BYTES + length as usize;
            bytes[end..end + more.len()].copy_from_slice(more);
            bytes[44..48].copy_from_slice(&payload.to_le_bytes());
            bytes[48..52].copy_from_slice(&uncompressed.to_le_bytes());
            set_checksums(&mut bytes);
            Batch::decode(&bytes).unwrap().uncompressed().is_ok()
        };
        assert!(changed(length, held, &[]));
        assert!(!changed(length, held - 1, &[]), "{codec}: one byte more than is announced");
        assert!(!changed(length, held + 1, &[]), "{codec}: one byte less than is announced");
        assert!(!changed(length - 1, held, &[]), "{codec}: cut off");
        assert!(!changed(length + 1, held, &[0]), "{codec}: something behind it");
        // An empty frame that decoders skip.
        assert!(!changed(length + 8, held, &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]), "{codec}: two frames");
    }
}

#[test]
fn only_messages_are_compressed_and_only_to_less() {
    let compressed = Compressed::of(Codec::Lz4, &[b'a'; 10_000]).unwrap();
    let right = batch(&compressed, 1);
    let header = Header::decode(&right).unwrap();
    let malformed = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = right.clone();
        change(&mut bytes);
        set_checksums(&mut bytes);
        matches!(Header::decode(&bytes), Err(HeaderError::Malformed(_)))
    };
    assert!(malformed(&|bytes| bytes[48..52].copy_from_slice(&header.payload_bytes.to_le_bytes())));
    assert!(malformed(&|bytes| bytes[48..52].copy_from_slice(&(header.payload_bytes - 1).to_le_bytes())));
    assert!(malformed(&|bytes| bytes[48..52].copy_from_slice(&((4u32 << 20) + 1).to_le_bytes())));
    assert!(malformed(&|bytes| bytes[6] = 0));
    for kind in 2..=5 {
        assert!(malformed(&|bytes| bytes[5] = kind), "kind {kind}");
    }
}
