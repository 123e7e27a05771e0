//! A batch: a header, its payload, zeros up to a whole page.

use std::borrow::Cow;

use thiserror::Error;

use crate::chain::Chain;
use crate::codec::{Compressed, InvalidPayload, decompress};
use crate::header::{Codec, Header, HeaderError, Kind};
use crate::ids::{Position, Term, Timestamp};
use crate::layout::{block_end, is_block_start, to_pages};
use crate::limits::{HEADER_BYTES, MAX_BATCH_BYTES, PAGE_BYTES};
use crate::record::{InvalidRecord, Record, Stamp, take_if_stamped};
use crate::snapshot::{self, Producer};

/// An intact batch.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// What the header says.
    pub header: Header,
    /// The payload as stored, its checksum verified.
    pub payload: &'a [u8],
}

/// Why bytes are not an intact batch.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum BatchError {
    /// The header is not one.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The bytes end before the payload does.
    #[error("the batch is cut off")]
    Truncated,
    /// The payload is not what was written.
    #[error("the payload's checksum does not match")]
    Payload,
}

impl<'a> Batch<'a> {
    /// Decodes the batch at the front of `bytes`, which may go on behind it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, BatchError> {
        Self::with_header(Header::decode(bytes)?, bytes)
    }

    /// Decodes the batch at the front of `bytes` whose header is known already.
    pub fn with_header(header: Header, bytes: &'a [u8]) -> Result<Self, BatchError> {
        let end = HEADER_BYTES + header.payload_bytes as usize;
        let payload = bytes.get(HEADER_BYTES..end).ok_or(BatchError::Truncated)?;
        let is_intact = crc32c::crc32c(payload) == header.payload_crc;
        #[cfg(feature = "canaries")]
        let is_intact = is_intact || crate::canary::Canary::SkipCrc.is_on();
        if !is_intact {
            return Err(BatchError::Payload);
        }
        Ok(Self { header, payload })
    }

    /// Whatever is compressed in the payload, uncompressed: at most as many bytes as the header says are allocated, and
    /// none where nothing is compressed. An intact checksum over a malformed payload is a writer's mistake and comes out
    /// as an error.
    pub fn uncompressed(&self) -> Result<Uncompressed<'a>, InvalidPayload> {
        let bytes = match self.header.codec {
            Codec::None => Cow::Borrowed(self.payload),
            codec => decompress(codec, self.payload, self.header.uncompressed_bytes as usize)?.into(),
        };
        Ok(Uncompressed { header: self.header, bytes })
    }
}

/// An intact batch whose payload is as it was before it was compressed.
#[derive(Clone, Debug)]
pub struct Uncompressed<'a> {
    header: Header,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Uncompressed<'a> {
    /// The messages. An intact checksum over malformed records is a writer's mistake and comes out as an error.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        let payload = if self.header.kind == Kind::Messages { &*self.bytes } else { &[] };
        let most_delta = self.header.last_timestamp.0.saturating_sub(self.header.first_timestamp.0);
        Records { payload, left: self.header.record_count, most_delta }
    }

    /// The messages that carry a producer's stamp. All others are passed by their lengths, and nothing else of them is
    /// checked.
    #[must_use]
    pub fn stamped(&self) -> StampedRecords<'_> {
        StampedRecords { records: self.records(), next: 0 }
    }

    /// The payload: of messages, their records one behind the other.
    #[must_use]
    pub fn into_bytes(self) -> Cow<'a, [u8]> {
        self.bytes
    }
}

/// Iterates over the records of a batch, in the order of their offsets. Nothing follows an error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    payload: &'a [u8],
    left: u32,
    most_delta: u64,
}

/// Iterates over the records of a batch that carry a stamp, each with its index. Nothing follows an error.
#[derive(Clone, Debug)]
pub struct StampedRecords<'a> {
    records: Records<'a>,
    next: u32,
}

impl<'a> Iterator for StampedRecords<'a> {
    type Item = Result<(u32, Stamp<'a>, Record<'a>), InvalidRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.records.left > 0 {
            let index = self.next;
            let taken = take_if_stamped(&mut self.records.payload)
                .and_then(|record| record.map(|record| self.records.checked(record)).transpose());
            self.records.left -= 1;
            self.next += 1;
            match taken {
                Ok(None) => {}
                Ok(Some(record)) => {
                    if let Some(stamp) = record.stamp {
                        return Some(Ok((index, stamp, record)));
                    }
                }
                Err(error) => {
                    (self.records.payload, self.records.left) = (&[], 0);
                    return Some(Err(error));
                }
            }
        }
        // What follows the last record is an error here too.
        self.records.next().and_then(Result::err).map(Err)
    }
}

impl<'a> Records<'a> {
    fn take_record(&mut self) -> Result<Record<'a>, InvalidRecord> {
        let record = Record::take(&mut self.payload)?;
        self.checked(record)
    }

    /// Holds the next record against the header, so that the offsets and timestamps which it leads to stay within the
    /// batch's.
    fn checked(&self, record: Record<'a>) -> Result<Record<'a>, InvalidRecord> {
        if record.timestamp_delta > self.most_delta {
            return Err(InvalidRecord::Timestamp);
        }
        if record.stamp.is_some_and(|stamp| stamp.record_count > u64::from(self.left)) {
            return Err(InvalidRecord::Stamp);
        }
        Ok(record)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, InvalidRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            // More bytes than the header counts records.
            return (!std::mem::take(&mut self.payload).is_empty()).then_some(Err(InvalidRecord::Truncated));
        }
        let record = self.take_record();
        self.left -= 1;
        if record.is_err() {
            (self.payload, self.left) = (&[], 0);
        }
        Some(record)
    }
}

/// Writes batches one behind the other into a buffer, each where the chain stands.
///
/// Positions, offsets, timestamps and fences come from the chain, so what is written always continues it.
#[derive(Debug)]
pub struct BatchWriter<'a> {
    /// Where the next batch goes; moved on by each one written.
    pub chain: &'a mut Chain,
    /// The writer's term.
    pub fence: Term,
    /// What is final in this segment when the batches are sent.
    pub committed: Position,
    /// The bytes to be stored from where the chain stood at the beginning.
    pub out: &'a mut Vec<u8>,
}

impl BatchWriter<'_> {
    /// A batch of messages: `runs` hold `record_count` records, which all get the batch's timestamp. Answers the
    /// timestamp, which is `now` or, where the clock has jumped back, the last message's.
    pub fn messages<'r>(
        &mut self,
        runs: impl IntoIterator<Item = &'r [u8]>,
        record_count: u32,
        now: Timestamp,
    ) -> Timestamp {
        let timestamp = self.chain.timestamp(now);
        let start = self.begin();
        runs.into_iter().for_each(|run| self.out.extend_from_slice(run));
        self.finish(start, Kind::Messages, record_count, timestamp, None, None);
        timestamp
    }

    /// A batch of messages, as [`BatchWriter::messages`] writes one, whose records have been compressed.
    pub fn compressed_messages(
        &mut self,
        records: &Compressed,
        record_count: u32,
        now: Timestamp,
    ) -> Timestamp {
        let timestamp = self.chain.timestamp(now);
        let start = self.begin();
        self.out.extend_from_slice(records.bytes());
        self.finish(start, Kind::Messages, record_count, timestamp, None, Some(records));
        timestamp
    }

    /// A batch of messages from another copy of the stream, as it is stored there: payload, codec, timestamps and their
    /// checksum stay, only place and fence are this log's. It must continue the chain in all but its position.
    pub fn copied_messages(&mut self, batch: &Batch<'_>) {
        let from = &batch.header;
        assert!(
            from.kind == Kind::Messages && from.stream == self.chain.stream,
            "it is a batch of this stream"
        );
        assert!(self.fence >= self.chain.fence, "a leader of an earlier term may not write");
        let header =
            Header { position: self.chain.position, fence: self.fence, committed: self.committed, ..*from };
        self.out.extend_from_slice(&header.encode());
        self.out.extend_from_slice(batch.payload);
        let padding = header.total_bytes as usize - HEADER_BYTES - batch.payload.len();
        self.out.resize(self.out.len() + padding, 0);
        self.chain.advance(&header);
    }

    /// The snapshot that begins a block.
    pub fn snapshot(&mut self, producers: &[Producer]) {
        let mut payload = Vec::new();
        snapshot::encode(producers, &mut payload);
        self.encoded_snapshot(&payload);
    }

    /// The same, where the payload is encoded already.
    pub fn encoded_snapshot(&mut self, payload: &[u8]) {
        assert!(is_block_start(self.chain.position), "a snapshot begins a block");
        let start = self.begin();
        self.out.extend_from_slice(payload);
        self.finish(start, Kind::Snapshot, 0, self.chain.last_timestamp, None, None);
    }

    /// Covers the rest of the block. Only the first page is written, so nothing can follow in the same buffer.
    pub fn filler(&mut self) {
        let start = self.begin();
        let rest = block_end(self.chain.position).0 - self.chain.position.0;
        self.finish(start, Kind::Filler, 0, self.chain.last_timestamp, Some(rest), None);
    }

    /// Ends the segment.
    pub fn seal(&mut self) {
        let start = self.begin();
        self.finish(start, Kind::Seal, 0, self.chain.last_timestamp, None, None);
    }

    /// Puts on record what is committed.
    pub fn commit(&mut self) {
        let start = self.begin();
        self.finish(start, Kind::Commit, 0, self.chain.last_timestamp, None, None);
    }

    fn begin(&mut self) -> usize {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; HEADER_BYTES]);
        start
    }

    /// `total` is given for a filler alone; every other batch is as long as its payload wants. `compressed` is what the
    /// payload was made of, where it is compressed.
    fn finish(
        &mut self,
        start: usize,
        kind: Kind,
        record_count: u32,
        timestamp: Timestamp,
        total: Option<u64>,
        compressed: Option<&Compressed>,
    ) {
        assert!(self.fence >= self.chain.fence, "a leader of an earlier term may not write");
        let stored = to_pages((self.out.len() - start) as u64);
        let total = total.unwrap_or(stored);
        assert!((PAGE_BYTES..=MAX_BATCH_BYTES).contains(&total), "a batch is at most a block long");
        let payload = &self.out[start + HEADER_BYTES..];
        let payload_bytes = u32::try_from(payload.len()).expect("a payload is shorter than a block");
        let header = Header {
            kind,
            codec: compressed.map_or(Codec::None, Compressed::codec),
            stream: self.chain.stream,
            position: self.chain.position,
            total_bytes: u32::try_from(total).expect("a batch is at most a block long"),
            payload_bytes,
            uncompressed_bytes: compressed.map_or(payload_bytes, Compressed::uncompressed_bytes),
            record_count,
            base_offset: self.chain.next_offset,
            first_timestamp: timestamp,
            last_timestamp: timestamp,
            fence: self.fence,
            committed: self.committed,
            payload_crc: crc32c::crc32c(payload),
        };
        self.out[start..start + HEADER_BYTES].copy_from_slice(&header.encode());
        self.out.resize(start + usize::try_from(stored).expect("a batch fits in memory"), 0);
        self.chain.advance(&header);
    }
}
