//! Messages as JSON, written by hand: a generic serializer costs several times as much.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use vault_format::codec::Codec;
use vault_format::header::{Header, Kind};
use vault_format::ids::{MessageId, Offset, Timestamp};
use vault_format::record::{InvalidRecord, Record};

use crate::http::read::filter::Filter;
use crate::log::blocks::Batches;
use crate::log::error::{ReadError, StreamFault};
use crate::log::reading::StreamReader;

/// Goes through the messages of loaded batches that lie in a range of offsets.
pub(crate) struct Messages {
    batches: Batches,
    /// Where the next batch begins.
    at: usize,
    header: Option<Header>,
    /// The records of the batch in hand that are still to be looked at.
    records: Bytes,
    /// How many bytes were made by uncompressing.
    uncompressed_bytes: u64,
    offset: u64,
}

/// How messages are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Separator {
    /// The elements of an array.
    Comma,
    /// One a line.
    LineEnd,
    /// Server-sent events, each with the offset at which to go on behind it.
    Event,
}

/// Which messages are to be written, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// From this offset on.
    pub(crate) start: Offset,
    /// Before this one.
    pub(crate) end: Offset,
    /// `None` where all are wanted.
    pub(crate) filter: Option<&'a Filter>,
    pub(crate) separator: Separator,
}

/// How much may be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// No further message once so much has been written.
    pub(crate) bytes: usize,
    /// So many messages.
    pub(crate) messages: u64,
}

impl Messages {
    pub(crate) fn new(batches: Batches) -> Self {
        Self { batches, at: 0, header: None, records: Bytes::new(), uncompressed_bytes: 0, offset: 0 }
    }

    /// The offset behind the last message that was written or passed over.
    pub(crate) fn reached(&self) -> Offset {
        Offset(self.offset)
    }

    /// How many bytes were made by uncompressing so far.
    pub(crate) fn uncompressed_bytes(&self) -> u64 {
        self.uncompressed_bytes
    }

    /// Writes messages until the room is used up, from which it is taken. `false` when there are no more. Takes up one
    /// compressed batch at most: how much a few stored bytes hold is for the caller to limit.
    pub(crate) async fn write(
        &mut self,
        reader: &StreamReader,
        wanted: &Wanted<'_>,
        room: &mut Room,
        out: &mut Vec<u8>,
    ) -> Result<bool, ReadError> {
        let uncompressed_before = self.uncompressed_bytes;
        while out.len() < room.bytes && room.messages > 0 {
            if self.is_between_batches() && self.uncompressed_bytes > uncompressed_before {
                return Ok(true);
            }
            let Some(header) = self.batch_in_hand(reader, wanted).await? else { return Ok(false) };
            if self.offset >= wanted.end.0 {
                return Ok(false);
            }
            let offset = Offset(self.offset);
            let mut rest = &self.records[..];
            let record = Record::take(&mut rest).map_err(|reason| self.malformed(&header, &reason))?;
            let taken = self.records.len() - rest.len();
            self.offset += 1;
            if offset >= wanted.start && wanted.filter.is_none_or(|filter| filter.passes(&record)) {
                let timestamp = Timestamp(header.first_timestamp.0 + record.timestamp_delta);
                room.messages -= 1;
                wanted.separator.write_before(offset, out);
                write_message(&header, offset, timestamp, &record, out);
                wanted.separator.write_after(out);
            }
            self.records.advance(taken);
        }
        Ok(true)
    }

    fn is_between_batches(&self) -> bool {
        self.header.is_none_or(|header| self.offset >= header.next_offset().0)
    }

    /// The checksums held, so that the writer stored it like this.
    fn malformed(&self, header: &Header, reason: &InvalidRecord) -> StreamFault {
        let detail = format!("message {}: {reason}", self.offset);
        StreamFault::Corrupt { segment: self.batches.segment(), position: header.position, detail }
    }

    /// The batch that holds the next record, if there is one before the end.
    async fn batch_in_hand(
        &mut self,
        reader: &StreamReader,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Header>, ReadError> {
        while self.is_between_batches() {
            // What was uncompressed makes room before the next batch asks for some.
            self.records = Bytes::new();
            let at = self.at;
            let header = match self.batches.bytes.get(at..).map(Header::decode) {
                Some(Ok(header)) if header.base_offset < wanted.end => header,
                _ => return Ok(None),
            };
            if header.kind == Kind::Messages && header.next_offset() > wanted.start {
                self.records = reader.records(&self.batches, at, &header).await?;
                if header.codec != Codec::None {
                    self.uncompressed_bytes += u64::from(header.uncompressed_bytes);
                }
                self.offset = header.base_offset.0;
                self.header = Some(header);
            }
            let written = usize::try_from(header.written_bytes()).expect("a batch fits in memory");
            self.at = at + written;
        }
        Ok(self.header)
    }
}

impl Separator {
    fn write_before(self, offset: Offset, out: &mut Vec<u8>) {
        match self {
            // What follows is a document's first message only where nothing but its beginning was written.
            Self::Comma if out.last().is_none_or(|byte| *byte != b'[') => out.push(b','),
            Self::Comma | Self::LineEnd => {}
            Self::Event => {
                out.extend_from_slice(b"id: ");
                write_number(offset.0 + 1, out);
                out.extend_from_slice(b"\ndata: ");
            }
        }
    }

    fn write_after(self, out: &mut Vec<u8>) {
        match self {
            Self::Comma => {}
            Self::LineEnd => out.push(b'\n'),
            Self::Event => out.extend_from_slice(b"\n\n"),
        }
    }
}

fn write_message(
    header: &Header,
    offset: Offset,
    timestamp: Timestamp,
    record: &Record<'_>,
    out: &mut Vec<u8>,
) {
    out.reserve(record.value.len() + record.key.len() + 128);
    out.extend_from_slice(b"{\"offset\":");
    write_number(offset.0, out);
    out.extend_from_slice(b",\"timestamp\":");
    write_number(timestamp.0, out);
    out.extend_from_slice(b",\"id\":\"");
    write_hex(&MessageId::new(&header.stream, offset, timestamp).0, out);
    out.push(b'"');
    if !record.key.is_empty() {
        write_bytes("key", record.key, out);
    }
    write_bytes("value", record.value, out);
    let headers = record.headers();
    if headers.len() > 0 {
        out.extend_from_slice(b",\"headers\":{");
        for (index, (name, value)) in headers.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_text(name, out);
            out.push(b':');
            write_text(value, out);
        }
        out.push(b'}');
    }
    if record.application_attributes() != 0 {
        out.extend_from_slice(b",\"attributes\":");
        write_number(record.application_attributes().into(), out);
    }
    out.push(b'}');
}

/// A member with text where the bytes are text, else with base64 and a name that says so.
fn write_bytes(name: &str, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    if let Ok(text) = str::from_utf8(bytes) {
        out.extend_from_slice(b"\":");
        write_text(text, out);
        return;
    }
    out.extend_from_slice(b"_base64\":\"");
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("base64 makes four characters of three bytes");
    out.push(b'"');
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("text is written to memory as JSON");
}

pub(crate) fn write_number(number: u64, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &number).expect("a number is written to memory as JSON");
}

fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// The stored batches of `batches` in front of the first that begins at `end` or later.
pub(crate) fn clip(batches: &Batches, end: Offset) -> Bytes {
    if batches.after.next_offset < end {
        return batches.bytes.clone();
    }
    let behind = batches.headers().find(|(_, header)| header.base_offset >= end);
    behind.map_or_else(|| batches.bytes.clone(), |(at, _)| batches.bytes.slice(..at))
}
