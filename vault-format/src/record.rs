//! One message inside a batch.
//!
//! ```text
//! varint length of what follows
//! attributes, 1 byte (bit 0: a producer's stamp follows; bits 1 to 7 belong to the application)
//! varint timestamp delta, ms after the batch's first timestamp
//! [varint id length, id, varint epoch, varint sequence, varint messages in the request]   with bit 0 only
//! varint key length, key (no key is a key of length 0)
//! varint number of headers, for each: varint name length, name, varint value length, value (both UTF-8)
//! varint value length, value
//! ```

use std::str;

use thiserror::Error;

use crate::limits::{
    MAX_HEADER_NAME_BYTES, MAX_HEADERS, MAX_HEADERS_BYTES, MAX_KEY_BYTES, MAX_PRODUCER_ID_BYTES,
    MAX_VALUE_BYTES,
};
use crate::varint;

/// The attribute bit that says that a producer's stamp follows.
pub const STAMPED: u8 = 1;

/// A message to be encoded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// Bits 1 to 7 belong to the application, bit 0 must be clear.
    pub attributes: u8,
    /// 0 to 1,024 bytes; empty means none.
    pub key: &'a [u8],
    /// Names and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// The message itself.
    pub value: &'a [u8],
}

/// What an idempotent producer sent along, on the first record of its request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp<'a> {
    /// 1 to 64 bytes.
    pub producer: &'a [u8],
    /// Rises when the producer starts anew.
    pub epoch: u64,
    /// The request's number in its epoch.
    pub sequence: u64,
    /// How many records the request has.
    pub record_count: u64,
}

/// A record as it stands in a payload.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// All eight bits as stored.
    pub attributes: u8,
    /// Milliseconds after the batch's first timestamp.
    pub timestamp_delta: u64,
    /// The producer's stamp, on the first record of an idempotent request.
    pub stamp: Option<Stamp<'a>>,
    /// Empty means none.
    pub key: &'a [u8],
    header_count: usize,
    headers: &'a [u8],
    /// The message itself.
    pub value: &'a [u8],
}

/// Why bytes are not a record, or a message may not be stored.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum InvalidRecord {
    /// Lengths that do not add up.
    #[error("the record is truncated or its lengths do not add up")]
    Truncated,
    /// The key is too long.
    #[error("the key is longer than {MAX_KEY_BYTES} bytes")]
    KeyTooLong,
    /// The value is longer than the limit in force.
    #[error("the value has {bytes} bytes, {limit} are allowed")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many headers.
    #[error("there are more than {MAX_HEADERS} headers")]
    TooManyHeaders,
    /// The headers are too long together.
    #[error("names and values of the headers have more than {MAX_HEADERS_BYTES} bytes")]
    HeadersTooLong,
    /// A header's name is empty or too long.
    #[error("a header's name must have 1 to {MAX_HEADER_NAME_BYTES} bytes")]
    HeaderName,
    /// A header that is not text.
    #[error("a header's name or value is not UTF-8")]
    HeaderNotText,
    /// Two headers of one name.
    #[error("two headers have the same name")]
    RepeatedHeader,
    /// A stamp that breaks its rules.
    #[error("the producer's stamp is malformed")]
    Stamp,
    /// A record that was appended after the batch's last timestamp.
    #[error("the timestamp delta reaches beyond the batch's last timestamp")]
    Timestamp,
    /// What only the server may set was set.
    #[error("attribute bit 0 and the timestamp delta are the server's to set")]
    Reserved,
}

impl Message<'_> {
    /// Checks the message against the format and `max_value_bytes`.
    pub fn check(&self, max_value_bytes: usize) -> Result<(), InvalidRecord> {
        if self.attributes & STAMPED != 0 {
            return Err(InvalidRecord::Reserved);
        }
        if self.headers.len() > MAX_HEADERS {
            return Err(InvalidRecord::TooManyHeaders);
        }
        check_key_and_value(self.key, self.value, max_value_bytes)?;
        check_headers(self.headers)
    }

    /// Appends the record to `out`. The message must have passed [`Message::check`].
    pub fn encode(&self, timestamp_delta: u64, out: &mut Vec<u8>) {
        let headers: usize =
            self.headers.iter().map(|(name, value)| prefixed(name.len()) + prefixed(value.len())).sum();
        let body = 1
            + varint::len(timestamp_delta)
            + prefixed(self.key.len())
            + varint::len(self.headers.len() as u64)
            + headers
            + prefixed(self.value.len());
        out.reserve(body + varint::len(body as u64));
        varint::put(out, body as u64);
        let start = out.len();
        out.push(self.attributes);
        varint::put(out, timestamp_delta);
        put_bytes(out, self.key);
        varint::put(out, self.headers.len() as u64);
        for (name, value) in self.headers {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
        }
        put_bytes(out, self.value);
        assert_eq!(out.len() - start, body, "the length in front of a record is the record's");
    }
}

impl<'a> Record<'a> {
    /// Reads the record at the front of `bytes` and moves `bytes` past it. The format's limits are checked.
    pub fn take(bytes: &mut &'a [u8]) -> Result<Self, InvalidRecord> {
        let mut rest = take_bytes(bytes)?;
        let (&attributes, after) = rest.split_first().ok_or(InvalidRecord::Truncated)?;
        rest = after;
        let timestamp_delta = number(&mut rest)?;
        let stamp = if attributes & STAMPED == 0 { None } else { Some(Stamp::take(&mut rest)?) };
        let key = take_bytes(&mut rest)?;
        let header_count = usize::try_from(number(&mut rest)?).map_err(|_| InvalidRecord::TooManyHeaders)?;
        if header_count > MAX_HEADERS {
            return Err(InvalidRecord::TooManyHeaders);
        }
        let headers = rest;
        if header_count > 0 {
            let mut texts = [("", ""); MAX_HEADERS];
            for text in &mut texts[..header_count] {
                *text = (take_text(&mut rest)?, take_text(&mut rest)?);
            }
            check_headers(&texts[..header_count])?;
        }
        let headers = &headers[..headers.len() - rest.len()];
        let value = take_bytes(&mut rest)?;
        if !rest.is_empty() {
            return Err(InvalidRecord::Truncated);
        }
        check_key_and_value(key, value, MAX_VALUE_BYTES)?;
        Ok(Self { attributes, timestamp_delta, stamp, key, header_count, headers, value })
    }

    /// Names and values of the headers, in the order in which they were given.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut rest = self.headers;
        (0..self.header_count).map(move |_| {
            let mut text = || take_text(&mut rest).unwrap_or_default();
            (text(), text())
        })
    }

    /// The attribute bits that belong to the application.
    #[must_use]
    pub fn application_attributes(&self) -> u8 {
        self.attributes & !STAMPED
    }
}

impl<'a> Stamp<'a> {
    fn take(rest: &mut &'a [u8]) -> Result<Self, InvalidRecord> {
        let producer = take_bytes(rest)?;
        let stamp =
            Self { producer, epoch: number(rest)?, sequence: number(rest)?, record_count: number(rest)? };
        let fits = (1..=MAX_PRODUCER_ID_BYTES).contains(&producer.len()) && stamp.record_count > 0;
        if fits { Ok(stamp) } else { Err(InvalidRecord::Stamp) }
    }
}

/// The run with a producer's stamp on its first record. The run must have passed [`check_run`], or have been encoded here.
#[must_use]
pub fn stamped(run: &[u8], stamp: &Stamp<'_>) -> Vec<u8> {
    assert!((1..=MAX_PRODUCER_ID_BYTES).contains(&stamp.producer.len()) && stamp.record_count > 0);
    let mut rest = run;
    let body = take_bytes(&mut rest).expect("a run begins with a record");
    let (attributes, mut fields) = body.split_first().expect("a record begins with its attributes");
    assert!(attributes & STAMPED == 0, "a run is stamped once");
    let delta = number(&mut fields).expect("a timestamp delta follows");
    let mut head = vec![attributes | STAMPED];
    varint::put(&mut head, delta);
    put_bytes(&mut head, stamp.producer);
    for number in [stamp.epoch, stamp.sequence, stamp.record_count] {
        varint::put(&mut head, number);
    }
    let length = head.len() + fields.len();
    let mut out = Vec::with_capacity(varint::len(length as u64) + length + rest.len());
    varint::put(&mut out, length as u64);
    out.extend_from_slice(&head);
    out.extend_from_slice(fields);
    out.extend_from_slice(rest);
    out
}

/// Takes the record at the front of `bytes` and reads no more of it than whether it has a stamp. Answers those that do.
pub(crate) fn take_if_stamped<'a>(bytes: &mut &'a [u8]) -> Result<Option<Record<'a>>, InvalidRecord> {
    let mut record = *bytes;
    let attributes = take_bytes(bytes)?.first().ok_or(InvalidRecord::Truncated)?;
    if attributes & STAMPED == 0 { Ok(None) } else { Record::take(&mut record).map(Some) }
}

/// The stamp on the first record of a run that was encoded here.
#[must_use]
pub fn stamp_of(mut run: &[u8]) -> Option<Stamp<'_>> {
    take_if_stamped(&mut run).ok()??.stamp
}

/// A run of records that came from outside breaks a rule.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("message {index}: {reason}")]
pub struct InvalidRun {
    /// Which message, counted from 0.
    pub index: u32,
    /// What is wrong with it.
    pub reason: InvalidRecord,
}

/// Checks records that a client encoded and counts them. The server may store them as they are afterwards.
pub fn check_run(mut bytes: &[u8], max_value_bytes: usize) -> Result<u32, InvalidRun> {
    let mut count = 0;
    while !bytes.is_empty() {
        let checked = Record::take(&mut bytes).and_then(|record| {
            if record.attributes & STAMPED != 0 || record.timestamp_delta != 0 {
                return Err(InvalidRecord::Reserved);
            }
            check_key_and_value(record.key, record.value, max_value_bytes)
        });
        checked.map_err(|reason| InvalidRun { index: count, reason })?;
        count += 1;
    }
    Ok(count)
}

fn check_key_and_value(key: &[u8], value: &[u8], max_value_bytes: usize) -> Result<(), InvalidRecord> {
    if key.len() > MAX_KEY_BYTES {
        return Err(InvalidRecord::KeyTooLong);
    }
    let limit = max_value_bytes.min(MAX_VALUE_BYTES);
    if value.len() > limit {
        return Err(InvalidRecord::ValueTooLong { bytes: value.len(), limit });
    }
    Ok(())
}

/// Few headers are usual, and at most 64 allowed: comparing each with all before it costs less than a set.
fn check_headers(headers: &[(&str, &str)]) -> Result<(), InvalidRecord> {
    let mut bytes = 0;
    for (index, (name, value)) in headers.iter().enumerate() {
        if !(1..=MAX_HEADER_NAME_BYTES).contains(&name.len()) {
            return Err(InvalidRecord::HeaderName);
        }
        bytes += name.len() + value.len();
        if bytes > MAX_HEADERS_BYTES {
            return Err(InvalidRecord::HeadersTooLong);
        }
        if headers[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(InvalidRecord::RepeatedHeader);
        }
    }
    Ok(())
}

fn prefixed(bytes: usize) -> usize {
    varint::len(bytes as u64) + bytes
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn number(rest: &mut &[u8]) -> Result<u64, InvalidRecord> {
    varint::take(rest).ok_or(InvalidRecord::Truncated)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], InvalidRecord> {
    let len = usize::try_from(number(rest)?).map_err(|_| InvalidRecord::Truncated)?;
    let (bytes, after) = rest.split_at_checked(len).ok_or(InvalidRecord::Truncated)?;
    *rest = after;
    Ok(bytes)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, InvalidRecord> {
    str::from_utf8(take_bytes(rest)?).map_err(|_| InvalidRecord::HeaderNotText)
}
