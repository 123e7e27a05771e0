//! What is put into a batch of its own: a batch as it was, records taken out of one, or messages in the place of lost
//! ones.

use vault_format::batch::{Batch, BatchWriter};
use vault_format::codec::{Codec, Compressed};
use vault_format::ids::{Offset, Term, Timestamp};
use vault_format::layout::to_pages;
use vault_format::limits::HEADER_BYTES;
use vault_format::record::{Message, Record};

use super::ArchiveError;

/// The header by which a message is known that stands in the place of a lost one.
pub const LOST_HEADER: (&str, &str) = ("mv-lost", "true");

/// The content of one batch of messages.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    /// As it was stored.
    Stored(Batch<'a>),
    /// Records of one moment.
    Records(Records),
}

/// Records that are stored anew.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) bytes: Vec<u8>,
    pub(super) compressed: Option<Compressed>,
    pub(super) count: u32,
    pub(super) timestamp: Timestamp,
    pub(super) fence: Term,
}

impl Records {
    fn new(bytes: Vec<u8>, count: u32, codec: Codec, timestamp: Timestamp, fence: Term) -> Self {
        let compressed = Compressed::of(codec, &bytes);
        Self { bytes, compressed, count, timestamp, fence }
    }

    /// `count` messages in the place of lost ones.
    pub(super) fn lost(count: u32, timestamp: Timestamp, fence: Term) -> Self {
        let mut record = Vec::new();
        Message { headers: &[LOST_HEADER], ..Message::default() }.encode(0, &mut record);
        Self::new(record.repeat(count as usize), count, Codec::Zstd, timestamp, fence)
    }
}

impl Piece<'_> {
    /// The bytes of its batch.
    pub(super) fn total_bytes(&self) -> u64 {
        match self {
            Self::Stored(batch) => batch.header.total_bytes.into(),
            Self::Records(records) => {
                let payload = records.compressed.as_ref().map_or(&records.bytes[..], Compressed::bytes);
                to_pages((HEADER_BYTES + payload.len()) as u64)
            }
        }
    }

    /// What it uncompresses to, where it is compressed.
    pub(super) fn expands_to(&self) -> u64 {
        match self {
            Self::Stored(batch) if batch.header.codec == Codec::None => 0,
            Self::Stored(batch) => batch.header.uncompressed_bytes.into(),
            Self::Records(records) => {
                records.compressed.as_ref().map_or(0, |compressed| compressed.uncompressed_bytes().into())
            }
        }
    }

    pub(super) fn fence(&self) -> Term {
        match self {
            Self::Stored(batch) => batch.header.fence,
            Self::Records(records) => records.fence,
        }
    }

    pub(super) fn write(&self, writer: &mut BatchWriter<'_>) {
        match self {
            Self::Stored(batch) => writer.copied_messages(batch),
            Self::Records(Records { bytes, compressed, count, timestamp, .. }) => {
                match compressed {
                    Some(compressed) => writer.compressed_messages(compressed, *count, *timestamp),
                    None => writer.messages([&bytes[..]], *count, *timestamp),
                };
            }
        }
    }
}

/// Takes a batch apart: the records from `from` on, in pieces that need at most `room` bytes as long as they are not
/// compressed. What a producer sent in one request stays together.
pub(super) fn split(batch: &Batch<'_>, from: Offset, room: u64) -> Result<Vec<Records>, ArchiveError> {
    let header = &batch.header;
    let misfit =
        |reason: String| ArchiveError::Misfit { offset: header.base_offset, next_offset: from, reason };
    if header.first_timestamp != header.last_timestamp {
        let reason = "its messages are of several moments, and it has to be taken apart".to_owned();
        return Err(misfit(reason));
    }
    let uncompressed = batch.uncompressed().map_err(|invalid| misfit(invalid.to_string()))?;
    let bytes = uncompressed.into_bytes();
    let mut rest = &bytes[..];
    let (mut offset, mut pieces, mut piece, mut count) = (header.base_offset, Vec::new(), Vec::new(), 0);
    let finished = |bytes: Vec<u8>, count| {
        Records::new(bytes, count, header.codec, header.first_timestamp, header.fence)
    };
    while !rest.is_empty() {
        let unit = rest;
        let mut records = 1;
        let mut taken = 0;
        while taken < records {
            let record = Record::take(&mut rest).map_err(|invalid| misfit(invalid.to_string()))?;
            records = record.stamp.map_or(records, |stamp| stamp.record_count);
            taken += 1;
        }
        let unit = &unit[..unit.len() - rest.len()];
        let begins = offset;
        offset = Offset(offset.0 + records);
        if begins < from {
            if offset > from {
                return Err(misfit("what was written ends inside a producer's request".to_owned()));
            }
            continue;
        }
        if count > 0 && to_pages((HEADER_BYTES + piece.len() + unit.len()) as u64) > room {
            pieces.push(finished(std::mem::take(&mut piece), count));
            count = 0;
        }
        piece.extend_from_slice(unit);
        count += u32::try_from(records).map_err(|_| misfit("a request of too many messages".to_owned()))?;
    }
    if count > 0 {
        pieces.push(finished(piece, count));
    }
    Ok(pieces)
}
