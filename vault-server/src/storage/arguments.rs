//! What makes a request refused whatever is stored: the same for every backend that checks for itself.

use std::ops::Range;
use std::time::Duration;

use vault_format::ids::{Position, Term};
use vault_format::limits::PAGE_BYTES;

use super::{BlobName, StorageError};
use crate::limits::{
    LEASE_DURATION, MAX_BLOB_NAME_BYTES, MAX_BLOB_NAME_PART_BYTES, MAX_PAGE_BLOB_BYTES, MAX_PUT_BYTES,
    MAX_SEQUENCE_NUMBER,
};

/// A page as a length in memory.
pub(super) const PAGE: usize = 512;

const _: () = assert!(PAGE as u64 == PAGE_BYTES);

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), StorageError> {
    if holds { Ok(()) } else { Err(StorageError::Refused(why())) }
}

/// No file can be reached through a name that passes but the blob's own: no `..`, no hidden file, no empty part.
pub(super) fn check_name(blob: &BlobName) -> Result<(), StorageError> {
    let part_is_fine =
        |part: &str| !part.is_empty() && !part.starts_with('.') && part.len() <= MAX_BLOB_NAME_PART_BYTES;
    let fine = blob.name.len() <= MAX_BLOB_NAME_BYTES
        && blob.name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\')
        && blob.name.split('/').all(part_is_fine);
    ensure(fine, || format!("`{}` is not a name that a blob may have", blob.name.escape_debug()))
}

pub(super) fn check_sequence_number(number: Term) -> Result<(), StorageError> {
    ensure(number.0 <= MAX_SEQUENCE_NUMBER, || format!("the sequence number {number} is above 2^63 - 1"))
}

pub(super) fn check_create(blob: &BlobName, bytes: u64, number: Term) -> Result<(), StorageError> {
    check_name(blob)?;
    check_sequence_number(number)?;
    ensure(bytes.is_multiple_of(PAGE_BYTES) && (1..=MAX_PAGE_BLOB_BYTES).contains(&bytes), || {
        format!("a page blob has a multiple of 512 bytes, at most {MAX_PAGE_BLOB_BYTES}, not {bytes}")
    })
}

/// The range that a write covers.
pub(super) fn check_put(position: Position, bytes: usize) -> Result<Range<u64>, StorageError> {
    let bytes = bytes as u64;
    let end = position.0.saturating_add(bytes);
    ensure(bytes <= MAX_PUT_BYTES, || format!("one write takes {MAX_PUT_BYTES} bytes, not {bytes}"))?;
    check_pages(&(position.0..end))?;
    Ok(position.0..end)
}

/// The range of a blob's first page.
pub(super) fn check_rewrite(bytes: usize) -> Result<Range<u64>, StorageError> {
    ensure(bytes == PAGE, || format!("a page has 512 bytes, not {bytes}"))?;
    Ok(0..PAGE_BYTES)
}

pub(super) fn check_pages(range: &Range<u64>) -> Result<(), StorageError> {
    ensure(!range.is_empty(), || format!("{range:?} is empty"))?;
    check_aligned(range)
}

pub(super) fn check_aligned(range: &Range<u64>) -> Result<(), StorageError> {
    let aligned = range.start.is_multiple_of(PAGE_BYTES) && range.end.is_multiple_of(PAGE_BYTES);
    ensure(aligned, || format!("{range:?} is not whole pages of 512 bytes"))
}

pub(super) fn check_read(range: &Range<u64>) -> Result<(), StorageError> {
    ensure(!range.is_empty(), || format!("{range:?} is empty"))
}

pub(super) fn check_inside(range: &Range<u64>, blob_bytes: u64) -> Result<(), StorageError> {
    ensure(range.start <= range.end && range.end <= blob_bytes, || {
        format!("{range:?} is not inside a blob of {blob_bytes} bytes")
    })
}

pub(super) fn check_duration(duration: Duration) -> Result<(), StorageError> {
    ensure(LEASE_DURATION.contains(&duration), || {
        format!("a lease is taken for 15 to 60 s, not for {duration:?}")
    })
}

pub(super) fn not_a_page_blob(blob: &BlobName) -> StorageError {
    StorageError::Refused(format!("{blob} is a block blob; only page blobs have pages and sequence numbers"))
}

pub(super) fn not_a_block_blob(blob: &BlobName) -> StorageError {
    StorageError::Refused(format!("{blob} is a page blob, and no block blob may replace it"))
}
