//! The 128 bytes in front of every batch. All numbers are little-endian.
//!
//! ```text
//!   0  magic "MVLB"          32  position            80  fence
//!   4  version (1)           40  total length   u32  88  committed
//!   5  kind                  44  payload length u32  96  zeros
//!   6  codec                 48  uncompressed   u32
//!   7  zero                  52  record count   u32 120  payload crc32c u32
//!   8  zeros                 56  base offset        124  header crc32c  u32, over bytes 0 to 123
//!  16  stream id             64  first timestamp
//!                            72  last timestamp
//! ```
//!
//! Magic, version and the header's checksum keep their places in every version, so that damage is not taken for a
//! version of the future.

use thiserror::Error;

pub use crate::codec::Codec;
use crate::ids::{Offset, Position, StreamId, Term, Timestamp};
use crate::layout::{block_end, is_block_start, to_pages};
use crate::limits::{
    BLOCK_BYTES, HEADER_BYTES, MAX_OFFSET, MAX_SEGMENT_BYTES, MAX_SNAPSHOT_BYTES, MAX_TIMESTAMP_MS,
    MAX_UNCOMPRESSED_BYTES, PAGE_BYTES,
};

/// The first four bytes of every batch.
pub const MAGIC: [u8; 4] = *b"MVLB";

/// The version of the format that this crate writes and reads.
pub const VERSION: u8 = 1;

/// What a batch is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Messages. Every other kind carries none and has the next offset as base.
    Messages = 1,
    /// The producers known here. Every block begins with one, and it stands nowhere else.
    Snapshot = 2,
    /// Covers the rest of a block that the next batch does not fit in. Only its first page is written.
    Filler = 3,
    /// Ends a segment. Its base offset names the next one.
    Seal = 4,
    /// Puts on record that what precedes it is committed.
    Commit = 5,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Messages, Self::Snapshot, Self::Filler, Self::Seal, Self::Commit]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A valid header: every rule that needs no other batch has been checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the batch is for.
    pub kind: Kind,
    /// How its payload is compressed.
    pub codec: Codec,
    /// The stream that it was written for.
    pub stream: StreamId,
    /// Where in its segment it stands.
    pub position: Position,
    /// Bytes from this header to the next, a multiple of 512.
    pub total_bytes: u32,
    /// Bytes of payload after the header, as stored.
    pub payload_bytes: u32,
    /// Bytes of payload once uncompressed.
    pub uncompressed_bytes: u32,
    /// Messages in the payload.
    pub record_count: u32,
    /// The offset of the first message, or of the next one to come where the batch has none.
    pub base_offset: Offset,
    /// When the first message was appended, or the last one before this batch where it has none.
    pub first_timestamp: Timestamp,
    /// When the last message was appended.
    pub last_timestamp: Timestamp,
    /// The term of the leader that wrote the batch.
    pub fence: Term,
    /// Everything in the segment before this position is final.
    pub committed: Position,
    /// The checksum of the payload as stored.
    pub payload_crc: u32,
}

/// Why bytes are not the header of a batch of this version.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum HeaderError {
    /// Something else, or damaged: too short, another magic, a wrong checksum.
    #[error("no batch header stands here")]
    Absent,
    /// A batch, and intact, but of a later version of the format.
    #[error("written by a later version of the format (version {version}, kind {kind}, codec {codec})")]
    TooNew {
        /// The version byte.
        version: u8,
        /// The kind byte, as this version would read it.
        kind: u8,
        /// The codec byte, as this version would read it.
        codec: u8,
    },
    /// Intact, but its fields contradict each other.
    #[error("the header breaks a rule of the format: {0}")]
    Malformed(&'static str),
}

impl Header {
    /// The bytes of this header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        assert_eq!(self.check(), Ok(()), "a header that this crate would refuse is never written");
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC);
        put(4, &[VERSION, self.kind as u8, self.codec as u8]);
        put(16, &self.stream.0);
        put(32, &self.position.0.to_le_bytes());
        put(40, &self.total_bytes.to_le_bytes());
        put(44, &self.payload_bytes.to_le_bytes());
        put(48, &self.uncompressed_bytes.to_le_bytes());
        put(52, &self.record_count.to_le_bytes());
        put(56, &self.base_offset.0.to_le_bytes());
        put(64, &self.first_timestamp.0.to_le_bytes());
        put(72, &self.last_timestamp.0.to_le_bytes());
        put(80, &self.fence.0.to_le_bytes());
        put(88, &self.committed.0.to_le_bytes());
        put(120, &self.payload_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..124]);
        bytes[124..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header at the front of `bytes`, which may go on behind it.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(HeaderError::Absent)?;
        let u32_at = |at: usize| u32::from_le_bytes(array(bytes, at));
        let u64_at = |at: usize| u64::from_le_bytes(array(bytes, at));
        let is_intact = u32_at(124) == crc32c::crc32c(&bytes[..124]);
        #[cfg(feature = "canaries")]
        let is_intact = is_intact || crate::canary::Canary::SkipCrc.is_on();
        if bytes[..4] != MAGIC || !is_intact {
            return Err(HeaderError::Absent);
        }
        let too_new = HeaderError::TooNew { version: bytes[4], kind: bytes[5], codec: bytes[6] };
        if bytes[4] != VERSION {
            return Err(too_new);
        }
        let codec = Codec::from_byte(bytes[6]).ok_or(too_new)?;
        let kind = Kind::from_byte(bytes[5]).ok_or(too_new)?;
        if bytes[7..16].iter().chain(&bytes[96..120]).any(|byte| *byte != 0) {
            return Err(HeaderError::Malformed("a reserved byte is not zero"));
        }
        let header = Self {
            kind,
            codec,
            stream: StreamId(array(bytes, 16)),
            position: Position(u64_at(32)),
            total_bytes: u32_at(40),
            payload_bytes: u32_at(44),
            uncompressed_bytes: u32_at(48),
            record_count: u32_at(52),
            base_offset: Offset(u64_at(56)),
            first_timestamp: Timestamp(u64_at(64)),
            last_timestamp: Timestamp(u64_at(72)),
            fence: Term(u64_at(80)),
            committed: Position(u64_at(88)),
            payload_crc: u32_at(120),
        };
        header.check().map_err(HeaderError::Malformed)?;
        Ok(header)
    }

    /// The offset after the last message of this batch.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        Offset(self.base_offset.0 + u64::from(self.record_count))
    }

    /// Where the next batch stands.
    #[must_use]
    pub fn end(&self) -> Position {
        self.position + u64::from(self.total_bytes)
    }

    /// How many bytes of the batch are written: of a filler its first page, of every other all.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        match self.kind {
            Kind::Filler => PAGE_BYTES,
            _ => u64::from(self.total_bytes),
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        let total = u64::from(self.total_bytes);
        let payload = u64::from(self.payload_bytes);
        let ensure = |holds: bool, rule: &'static str| if holds { Ok(()) } else { Err(rule) };
        ensure(self.position.0.is_multiple_of(PAGE_BYTES), "position is not a multiple of 512")?;
        ensure(self.position.0 < MAX_SEGMENT_BYTES, "position is beyond every segment")?;
        ensure(self.committed <= self.position, "committed is beyond the batch itself")?;
        ensure(total.is_multiple_of(PAGE_BYTES) && total > 0, "total length is not a multiple of 512")?;
        ensure(self.end() <= block_end(self.position), "the batch crosses a block border")?;
        ensure(
            is_block_start(self.position) == (self.kind == Kind::Snapshot),
            "a block begins with its snapshot",
        )?;
        let exact = to_pages(HEADER_BYTES as u64 + payload);
        match self.kind {
            Kind::Messages => {
                ensure(total == exact && payload > 0, "total length does not match the payload")?;
            }
            Kind::Snapshot => ensure(
                total == exact && payload > 0 && total <= MAX_SNAPSHOT_BYTES,
                "total length does not match the payload",
            )?,
            Kind::Filler => {
                ensure(
                    payload == 0 && self.end() == block_end(self.position),
                    "a filler ends with its block",
                )?;
            }
            Kind::Seal | Kind::Commit => ensure(payload == 0 && total == PAGE_BYTES, "it is one page long")?,
        }
        ensure(
            u64::from(self.uncompressed_bytes) <= MAX_UNCOMPRESSED_BYTES,
            "uncompressed length is too long",
        )?;
        match self.codec {
            Codec::None => ensure(
                self.uncompressed_bytes == self.payload_bytes,
                "an uncompressed payload has two lengths",
            )?,
            Codec::Lz4 | Codec::Zstd => {
                ensure(self.kind == Kind::Messages, "only messages are compressed")?;
                ensure(
                    self.uncompressed_bytes > self.payload_bytes,
                    "a compressed payload is not shorter than its records",
                )?;
            }
        }
        ensure((self.kind == Kind::Messages) == (self.record_count > 0), "only messages are counted")?;
        ensure(self.fence < Term::UNUSED, "the fence is above every term")?;
        ensure(self.base_offset.0 <= MAX_OFFSET, "the base offset is too high")?;
        ensure(self.next_offset().0 <= MAX_OFFSET, "the next offset is too high")?;
        ensure(self.first_timestamp <= self.last_timestamp, "time runs backwards")?;
        ensure(self.last_timestamp.0 <= MAX_TIMESTAMP_MS, "the timestamp is too high")?;
        ensure(
            self.record_count > 0 || self.first_timestamp == self.last_timestamp,
            "a batch without messages spans time",
        )
    }
}

const _: () = assert!(BLOCK_BYTES <= u32::MAX as u64);

fn array<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}
