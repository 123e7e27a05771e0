//! A second encoder of records, written from the document of the format and not from the crate, for tests to compare
//! with, and checksums for bytes that a test has changed.

use vault_format::limits::HEADER_BYTES;
use vault_format::record::{Record, STAMPED, Stamp};

/// A record with its headers spelled out, so that two can be compared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Plain<'a> {
    pub(crate) attributes: u8,
    pub(crate) timestamp_delta: u64,
    pub(crate) stamp: Option<Stamp<'a>>,
    pub(crate) key: &'a [u8],
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    pub(crate) value: &'a [u8],
}

impl<'a> From<&Record<'a>> for Plain<'a> {
    fn from(record: &Record<'a>) -> Self {
        Self {
            attributes: record.application_attributes(),
            timestamp_delta: record.timestamp_delta,
            stamp: record.stamp,
            key: record.key,
            headers: record.headers().collect(),
            value: record.value,
        }
    }
}

impl Plain<'_> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = vec![self.attributes | if self.stamp.is_some() { STAMPED } else { 0 }];
        put_varint(&mut body, self.timestamp_delta);
        if let Some(stamp) = &self.stamp {
            put_bytes(&mut body, stamp.producer);
            put_varint(&mut body, stamp.epoch);
            put_varint(&mut body, stamp.sequence);
            put_varint(&mut body, stamp.record_count);
        }
        put_bytes(&mut body, self.key);
        put_varint(&mut body, self.headers.len() as u64);
        for (name, value) in &self.headers {
            put_bytes(&mut body, name.as_bytes());
            put_bytes(&mut body, value.as_bytes());
        }
        put_bytes(&mut body, self.value);
        let mut out = Vec::new();
        put_bytes(&mut out, &body);
        out
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, value: u64) {
    let low = value.to_le_bytes()[0] & 0x7f;
    if value < 0x80 {
        out.push(low);
    } else {
        out.push(low | 0x80);
        put_varint(out, value >> 7);
    }
}

/// Makes the checksums of a batch right again, the payload's where the bytes hold all of it.
pub(crate) fn set_checksums(batch: &mut [u8]) {
    let Some(length) = batch.get(44..48).and_then(|field| field.try_into().ok()) else { return };
    let end = HEADER_BYTES.saturating_add(u32::from_le_bytes(length) as usize);
    if let Some(payload) = batch.get(HEADER_BYTES..end) {
        let crc = crc32c::crc32c(payload);
        batch[120..124].copy_from_slice(&crc.to_le_bytes());
    }
    if batch.len() >= HEADER_BYTES {
        let crc = crc32c::crc32c(&batch[..124]);
        batch[124..128].copy_from_slice(&crc.to_le_bytes());
    }
}
