//! Every size that the stored format fixes. All are bytes unless the name says otherwise.

/// The unit in which page blobs are written and torn: a page is stored whole or not at all.
pub const PAGE_BYTES: u64 = 512;

/// The blob that says who leads: one page.
pub const LEADER_PAGE_BYTES: usize = 512;

/// The longest URL in that page.
pub const MAX_ENDPOINT_BYTES: usize = 400;

/// A segment is a row of blocks; no batch crosses the border between two.
pub const BLOCK_BYTES: u64 = 4 * MIB;

/// The batch header.
pub const HEADER_BYTES: usize = 128;

/// The longest batch, header, payload and padding together. A block holds it together with the block's snapshot.
pub const MAX_BATCH_BYTES: u64 = BLOCK_BYTES;

/// The longest payload once it is uncompressed.
pub const MAX_UNCOMPRESSED_BYTES: u64 = 4 * MIB;

/// The most records, uncompressed, in all compressed batches of a block together. A rule for writers alone: who looks for
/// the end of a stream uncompresses whole blocks, and should not spend minutes on one.
pub const MAX_BLOCK_UNCOMPRESSED_BYTES: u64 = 64 * MIB;

/// The largest request: one run of records that stands in one batch.
pub const MAX_RUN_BYTES: usize = 3 * 1024 * 1024;

/// The longest key of a message.
pub const MAX_KEY_BYTES: usize = 1024;

/// The longest value that the format can carry. Servers are usually set to less.
pub const MAX_VALUE_BYTES: usize = 2 * 1024 * 1024;

/// The most headers of one message.
pub const MAX_HEADERS: usize = 64;

/// The longest name of a message header.
pub const MAX_HEADER_NAME_BYTES: usize = 256;

/// The names and values of all headers of one message together.
pub const MAX_HEADERS_BYTES: usize = 16 * 1024;

/// The longest id of an idempotent producer. The shortest is 1.
pub const MAX_PRODUCER_ID_BYTES: usize = 64;

/// The most producers in a snapshot.
pub const MAX_PRODUCERS: usize = 1_000;

/// The most outcomes that a snapshot keeps for each producer.
pub const MAX_OUTCOMES: usize = 5;

/// How long a producer is known after its last request, in ms of the log's own time: 24 hours.
pub const PRODUCER_KEPT_MS: u64 = 24 * 3_600 * 1_000;

/// The highest offset: a message id has six bytes for it.
pub const MAX_OFFSET: u64 = (1 << 48) - 1;

/// The highest timestamp, in ms since the Unix epoch: a message id has six bytes for it.
pub const MAX_TIMESTAMP_MS: u64 = (1 << 48) - 1;

/// The smallest segment: one block.
pub const MIN_SEGMENT_BYTES: u64 = BLOCK_BYTES;

/// The largest segment.
pub const MAX_SEGMENT_BYTES: u64 = 1 << 40;

/// The segment size of a stream that does not say another.
pub const DEFAULT_SEGMENT_BYTES: u64 = 8 << 30;

/// What the last block of a segment keeps free for the seal.
pub const SEAL_BYTES: u64 = PAGE_BYTES;

/// The longest snapshot, from what its fields can hold at most; checked below against the room in a block.
pub const MAX_SNAPSHOT_BYTES: u64 = {
    let outcome = 4 * MAX_VARINT_BYTES as u64;
    let producer =
        1 + MAX_PRODUCER_ID_BYTES as u64 + MAX_VARINT_BYTES as u64 + 1 + MAX_OUTCOMES as u64 * outcome;
    let payload = MAX_VARINT_BYTES as u64 + MAX_PRODUCERS as u64 * producer;
    (HEADER_BYTES as u64 + payload).div_ceil(PAGE_BYTES) * PAGE_BYTES
};

/// The longest varint: 64 bits in groups of seven.
pub(crate) const MAX_VARINT_BYTES: usize = 10;

const MIB: u64 = 1 << 20;

/// The block that has least room is the only one of the smallest segment: snapshot, largest request, seal.
const _: () = assert!(
    MAX_SNAPSHOT_BYTES + HEADER_BYTES as u64 + MAX_RUN_BYTES as u64 + PAGE_BYTES + SEAL_BYTES <= BLOCK_BYTES
);
const _: () = assert!(BLOCK_BYTES.is_multiple_of(PAGE_BYTES));
const _: () = assert!(MAX_BATCH_BYTES <= u32::MAX as u64);
const _: () = assert!(MAX_UNCOMPRESSED_BYTES <= MAX_BLOCK_UNCOMPRESSED_BYTES);
const _: () = assert!(HEADER_BYTES as u64 <= PAGE_BYTES);
const _: () =
    assert!(MAX_SEGMENT_BYTES.is_multiple_of(BLOCK_BYTES) && DEFAULT_SEGMENT_BYTES <= MAX_SEGMENT_BYTES);
/// The largest message fits in a request, with room for its lengths and a producer's stamp.
const _: () = assert!(MAX_VALUE_BYTES + MAX_KEY_BYTES + 2 * MAX_HEADERS_BYTES + 256 <= MAX_RUN_BYTES);
