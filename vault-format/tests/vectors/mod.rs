//! What the golden vectors are made of.

mod describe;

use std::fs;
use std::path::Path;

use vault_format::batch::BatchWriter;
use vault_format::chain::Chain;
use vault_format::codec::{Codec, Compressed};
use vault_format::ids::{MessageId, Offset, Position, StreamId, Term, Timestamp};
use vault_format::leader::{LeaderPage, LeaderState};
use vault_format::limits::{BLOCK_BYTES, MAX_OFFSET, MAX_TIMESTAMP_MS};
use vault_format::record::{Message, Stamp};
use vault_format::snapshot::{Outcome, Producer};

use crate::common::{Plain, set_checksums};

pub(crate) const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// The length of the segment whose written bytes are a vector.
pub(crate) const SEGMENT_BYTES: u64 = 2 * BLOCK_BYTES;

/// A stored file.
pub(crate) fn golden(name: &str, suffix: &str) -> Vec<u8> {
    let path = Path::new(GOLDEN).join(format!("{name}.{suffix}"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) struct Vector {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    describe: fn(&[u8]) -> String,
}

impl Vector {
    /// What `bytes` hold, read as this vector's structure.
    pub(crate) fn describe(&self, bytes: &[u8]) -> String {
        (self.describe)(bytes)
    }
}

/// Compressed records: kept as the bytes that some compressor once made. What a later one makes may differ, but they hold
/// the same records for ever.
fn stored(name: &'static str) -> Vector {
    Vector { name, bytes: golden(name, "bin"), describe: describe::batch }
}

pub(crate) fn all() -> Vec<Vector> {
    let batch = |name, bytes| Vector { name, bytes, describe: describe::batch };
    let mut vectors = vec![
        batch("tiny", tiny()),
        batch("messages", messages()),
        stored("messages-lz4"),
        stored("messages-zstd"),
        stored("messages-zstd-checked"),
        batch("snapshot-empty", at_block_start(&[])),
        batch("snapshot-full", at_block_start(&producers())),
        batch("filler", in_block(|writer| writer.filler())),
        batch("seal", in_block(|writer| writer.seal())),
        batch("commit", in_block(|writer| writer.commit())),
        Vector { name: "run", bytes: run(), describe: describe::run },
        Vector { name: "segment", bytes: segment(), describe: describe::segment },
        Vector { name: "leader", bytes: leader_page().encode(), describe: describe::leader },
        Vector { name: "message-id", bytes: message_id().0.to_vec(), describe: describe::message_id },
    ];
    vectors.extend(wrong().into_iter().map(|(name, bytes)| batch(name, bytes)));
    vectors
}

fn stream() -> StreamId {
    let mut id = [0; 16];
    (0u8..).zip(&mut id).for_each(|(n, byte)| *byte = n * 0x11);
    StreamId(id)
}

/// In the middle of block 0, after some messages.
pub(crate) fn chain_in_block() -> Chain {
    Chain {
        stream: stream(),
        position: Position(1536),
        next_offset: Offset(42),
        last_timestamp: Timestamp(1_700_000_000_000),
        fence: Term(1_699_999_000),
    }
}

fn chain_at_block_start() -> Chain {
    Chain { position: Position(BLOCK_BYTES), ..chain_in_block() }
}

fn written(mut chain: Chain, write: impl FnOnce(&mut BatchWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    let fence = Term(1_700_000_001);
    write(&mut BatchWriter { chain: &mut chain, fence, committed: Position(1024), out: &mut out });
    out
}

fn in_block(write: impl FnOnce(&mut BatchWriter<'_>)) -> Vec<u8> {
    written(chain_in_block(), write)
}

fn at_block_start(producers: &[Producer]) -> Vec<u8> {
    written(chain_at_block_start(), |writer| writer.snapshot(producers))
}

fn tiny() -> Vec<u8> {
    let mut run = Vec::new();
    Message { key: b"k", value: b"hi", ..Message::default() }.encode(0, &mut run);
    in_block(|writer| {
        writer.messages([run.as_slice()], 1, Timestamp(1_700_000_000_123));
    })
}

/// Three requests: two messages of an idempotent producer, one with everything, one with nothing.
fn messages() -> Vec<u8> {
    let stamp = Stamp { producer: b"producer-1", epoch: 3, sequence: 300, record_count: 2 };
    let stamped = Plain { stamp: Some(stamp), key: b"order-7", value: b"first", ..Plain::default() };
    let second = Plain { attributes: 0x80, value: b"second", ..Plain::default() };
    let headers = vec![("content-type", "text/plain"), ("city", "Zürich"), ("empty", "")];
    let value = &[0xfe; 200];
    let everything = Plain { attributes: 0xfe, key: &[0, 0xff], headers, value, ..Plain::default() };
    let runs = [stamped.encode(), second.encode(), everything.encode(), Plain::default().encode()];
    in_block(|writer| {
        writer.messages(runs.iter().map(Vec::as_slice), 4, Timestamp(1_700_000_000_123));
    })
}

/// The records of the compressed vectors: they repeat themselves, as messages do.
pub(crate) fn repeating() -> (Vec<u8>, u32) {
    let mut run = Vec::new();
    for order in 0..40 {
        let key = format!("order-{}", order % 7);
        let value = format!("{{\"order\":{order},\"city\":\"Zürich\",\"status\":\"paid\"}}");
        let headers = [("content-type", "application/json")];
        Message { attributes: 2, key: key.as_bytes(), headers: &headers, value: value.as_bytes() }
            .encode(0, &mut run);
    }
    (run, 40)
}

/// Those records as this version compresses them.
pub(crate) fn compressed(codec: Codec) -> Vec<u8> {
    let (records, count) = repeating();
    let compressed = Compressed::of(codec, &records).expect("repeating records become shorter");
    in_block(|writer| {
        writer.compressed_messages(&compressed, count, Timestamp(1_700_000_000_123));
    })
}

/// What a client sends: records without stamps.
fn run() -> Vec<u8> {
    let mut out = Vec::new();
    let headers = [("traceparent", "00-4bf9-01"), ("n", "1")];
    Message { attributes: 2, key: b"key", headers: &headers, value: b"value" }.encode(0, &mut out);
    Message { value: b"no key", ..Message::default() }.encode(0, &mut out);
    out
}

fn producers() -> Vec<Producer> {
    let outcome = |sequence, offset, count, timestamp| Outcome {
        sequence,
        offset: Offset(offset),
        count,
        timestamp: Timestamp(timestamp),
    };
    let longest =
        (0..5).map(|n| outcome(u64::MAX - 4 + n, MAX_OFFSET - 5 + n, 1, MAX_TIMESTAMP_MS)).collect();
    vec![
        Producer { id: vec![0xab; 64], epoch: u64::MAX, outcomes: longest },
        Producer { id: b"p".to_vec(), epoch: 0, outcomes: vec![outcome(0, 0, 1, 1)] },
        Producer {
            id: b"producer-1".to_vec(),
            epoch: 3,
            outcomes: vec![outcome(299, 30, 10, 1_699_999_999_000), outcome(300, 40, 2, 1_700_000_000_000)],
        },
    ]
}

/// The written bytes of a segment of two blocks, one extent behind the other; `describe::segment` knows where they
/// stand.
fn segment() -> Vec<u8> {
    let mut chain = Chain::at_segment_start(stream(), Offset(1000));
    let mut out = Vec::new();
    let mut run = Vec::new();
    Message { value: b"in a segment", ..Message::default() }.encode(0, &mut run);
    let fence = Term(1_700_000_001);
    let mut writer = BatchWriter { chain: &mut chain, fence, committed: Position::ZERO, out: &mut out };
    writer.snapshot(&[]);
    writer.messages([run.as_slice()], 1, Timestamp(1_700_000_000_123));
    writer.committed = writer.chain.position;
    writer.messages([run.as_slice(), run.as_slice()], 2, Timestamp(1_700_000_000_456));
    writer.filler();
    writer.snapshot(&producers()[2..]);
    writer.committed = writer.chain.position;
    writer.commit();
    writer.seal();
    out
}

fn leader_page() -> LeaderPage {
    LeaderPage {
        state: LeaderState::Leading,
        term: Term(1_700_000_001),
        beat: 258,
        changes: 7,
        deleting: true,
        endpoint: "http://10.0.0.7:8480".to_owned(),
    }
}

fn message_id() -> MessageId {
    MessageId::new(&stream(), Offset(42), Timestamp(1_700_000_000_123))
}

/// Batches that a reader refuses, each for another reason.
fn wrong() -> Vec<(&'static str, Vec<u8>)> {
    let changed = |at: usize, byte: u8| {
        let mut bytes = tiny();
        bytes[at] = byte;
        set_checksums(&mut bytes);
        bytes
    };
    let flipped = |at: usize| {
        let mut bytes = tiny();
        bytes[at] ^= 0x10;
        bytes
    };
    let mut long_varint = in_block(|writer| {
        // The record of `tiny` with its key's length in two bytes.
        let record = [0x09, 0, 0, 0x81, 0, b'k', 0, 2, b'h', b'i'];
        writer.messages([record.as_slice()], 1, Timestamp(1_700_000_000_123));
    });
    set_checksums(&mut long_varint);
    // The record of `tiny`, said to be compressed and one byte longer.
    let not_compressed = |codec: u8| {
        let mut bytes = tiny();
        (bytes[6], bytes[48]) = (codec, bytes[44] + 1);
        set_checksums(&mut bytes);
        bytes
    };
    vec![
        ("wrong-lz4-payload", not_compressed(1)),
        ("wrong-zstd-payload", not_compressed(2)),
        ("wrong-version-2", changed(4, 2)),
        ("wrong-codec-1", changed(6, 1)),
        ("wrong-codec-3", changed(6, 3)),
        ("wrong-kind-6", changed(5, 6)),
        ("wrong-reserved", changed(100, 1)),
        ("wrong-magic-bit", flipped(0)),
        ("wrong-version-bit", flipped(4)),
        ("wrong-header-bit", flipped(57)),
        ("wrong-payload-bit", flipped(130)),
        ("wrong-cut-header", tiny()[..127].to_vec()),
        ("wrong-cut-payload", tiny()[..134].to_vec()),
        ("wrong-long-varint", long_varint),
        (
            "wrong-delta",
            in_block(|writer| {
                let record = Plain { timestamp_delta: 1, value: b"late", ..Plain::default() }.encode();
                writer.messages([record.as_slice()], 1, Timestamp(1_700_000_000_123));
            }),
        ),
    ]
}
