//! Messages as they are sent, and as they come out.

use std::fmt;

use bytes::Bytes;
use vault_format::ids::{MessageId, Offset, StreamId, Timestamp};
use vault_format::record::{self, InvalidRecord, Record};

use crate::parts::{PART_BITS, PART_HEADER};

/// A message to be sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// What it is about, at most 1,024 bytes; empty means none.
    pub key: Bytes,
    /// Names and values: at most 64, each name once, at most 16 KiB all together.
    pub headers: Vec<(String, String)>,
    /// The message itself.
    pub value: Bytes,
    /// Bits 1 to 5 belong to the application: an even number from 0 to 62. Bits 6 and 7 mark the parts of long values.
    pub attributes: u8,
}

impl Message {
    /// A message with a value and nothing else.
    #[must_use]
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), ..Self::default() }
    }

    /// With a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = key.into();
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Runs `work` with the message as the format takes it, `value` in the place of its own and `more` headers behind its
    /// own.
    pub(crate) fn with_format<T>(
        &self,
        value: &[u8],
        attributes: u8,
        more: Option<(&str, &str)>,
        work: impl FnOnce(&record::Message<'_>) -> T,
    ) -> T {
        let message = |headers| record::Message { attributes, key: &self.key, headers, value };
        if self.headers.is_empty() && more.is_none() {
            return work(&message(&[]));
        }
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let headers: Vec<_> = own.chain(more).collect();
        work(&message(&headers))
    }
}

impl<T: Into<Bytes>> From<T> for Message {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

/// A message that was read. Cheap to clone: its bytes are shared with the batch that it came in, which therefore stays in
/// memory as long as any of its messages; copy what is kept for long.
#[derive(Clone)]
pub struct Received {
    stream: StreamId,
    offset: Offset,
    timestamp: Timestamp,
    attributes: u8,
    key: Bytes,
    value: Bytes,
    /// The record as it is stored, for the headers, which few want.
    record: Bytes,
    /// Put together from several.
    joined: bool,
}

impl Received {
    /// The record at the front of `bytes[*at..]`, and moves `at` past it.
    pub(crate) fn take(
        bytes: &Bytes,
        at: &mut usize,
        stream: StreamId,
        offset: Offset,
        first_timestamp: Timestamp,
    ) -> Result<Self, InvalidRecord> {
        let start = *at;
        let mut rest = &bytes[start..];
        let record = Record::take(&mut rest)?;
        *at = bytes.len() - rest.len();
        Ok(Self {
            stream,
            offset,
            // One that is beyond all time is beyond the batch's last too, which is checked.
            timestamp: Timestamp(first_timestamp.0.saturating_add(record.timestamp_delta)),
            attributes: record.application_attributes(),
            key: bytes.slice_ref(record.key),
            value: bytes.slice_ref(record.value),
            record: bytes.slice(start..*at),
            joined: false,
        })
    }

    /// Its place in the stream.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// When it was appended, in ms since 1970, UTC.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// What it is known by across streams: sorts by time, then by offset.
    #[must_use]
    pub fn id(&self) -> MessageId {
        MessageId::new(&self.stream, self.offset, self.timestamp)
    }

    /// The id of the stream that it stands in.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The key; empty where there is none.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The message itself.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The value, shared and not copied.
    #[must_use]
    pub fn value_bytes(&self) -> Bytes {
        self.value.clone()
    }

    /// The application's attribute bits.
    #[must_use]
    pub fn attributes(&self) -> u8 {
        self.attributes
    }

    /// Names and values of the headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let record = Record::take(&mut &self.record[..]);
        let headers = record.into_iter().flat_map(|record| record.headers());
        headers.filter(|(name, _)| !(self.joined && *name == PART_HEADER))
    }

    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The last part of a long value, with the whole value in the place of its own.
    pub(crate) fn joined(self, value: Bytes) -> Self {
        Self { value, attributes: self.attributes & !PART_BITS, joined: true, ..self }
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp)
            .field("key", &String::from_utf8_lossy(self.key()))
            .field("value", &String::from_utf8_lossy(self.value()))
            .finish_non_exhaustive()
    }
}
