//! Pages: written, cleared and read in place; and the sequence numbers that guard them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, pread};
use vault_format::ids::Term;

use super::super::{BlobName, BlobRead, ETag, LeaseId, StorageError, arguments};
use super::disk;
use super::extents;
use super::files::Files;
use super::lock::Hold;
use super::slots::{Loaded, OpenBlob};
use super::state::PageState;
use crate::limits::FILE_WRITE_BYTES;

impl Files {
    pub(super) fn put_pages(
        &self,
        blob: &BlobName,
        range: &Range<u64>,
        bytes: &[u8],
        fence: Term,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        self.change_pages(blob, range, fence, lease, |open, pages, hold| {
            open.ahead.make_room(&open.file, range, pages.bytes(), hold);
            let places = (range.start..).step_by(FILE_WRITE_BYTES);
            bytes
                .chunks(FILE_WRITE_BYTES)
                .zip(places)
                .try_for_each(|(piece, at)| open.file.write_all_at(piece, at))
        })
    }

    pub(super) fn clear_pages(
        &self,
        blob: &BlobName,
        range: &Range<u64>,
        fence: Term,
    ) -> Result<(), StorageError> {
        self.change_pages(blob, range, fence, None, |open, _, _| extents::punch(&open.file, range))
    }

    pub(super) fn change_pages(
        &self,
        blob: &BlobName,
        range: &Range<u64>,
        fence: Term,
        lease: Option<&LeaseId>,
        change: impl FnOnce(&OpenBlob, &PageState, Hold) -> io::Result<()>,
    ) -> Result<(), StorageError> {
        let held = self.lock.take()?;
        let slot = self.slots.get(blob);
        let current = self.current(&slot, blob, held.hold())?;
        let loaded = current.as_ref().expect("a current slot is loaded");
        self.check_lease(blob, lease)?;
        let pages = page_state(loaded, blob)?;
        arguments::check_inside(range, pages.bytes())?;
        if pages.sequence_number() != fence {
            return Err(StorageError::PreconditionFailed);
        }
        let path = self.layout.blob(blob);
        let ticket = loaded.open.sync.ticket();
        change(&loaded.open, pages, held.hold()).map_err(|error| disk::unknown("writing", &path, &error))?;
        let synced = loaded.open.sync.sync(ticket, || loaded.open.file.sync_data());
        synced.map_err(|error| disk::unknown("syncing", &path, &error))?;
        self.check_still_in_place(loaded, blob)
    }

    pub(super) fn read(&self, blob: &BlobName, range: &Range<u64>) -> Result<BlobRead, StorageError> {
        let found = self.find(blob)?;
        arguments::check_inside(range, found.properties.bytes)?;
        let path = self.layout.blob(blob);
        let bytes = read_exactly(&found.open.file, range, found.properties.bytes, &path)?;
        if self.lock.hold().is_none() {
            // Another process may have written this and not synced it yet: what a power cut could take back must not be
            // shown to anybody.
            found.open.file.sync_data().map_err(|error| disk::unknown("syncing", &path, &error))?;
        }
        let properties = found.properties;
        Ok(BlobRead {
            bytes: bytes.into(),
            sequence_number: properties.sequence_number,
            etag: properties.etag,
        })
    }

    pub(super) fn page_ranges(
        &self,
        blob: &BlobName,
        range: &Range<u64>,
    ) -> Result<Vec<Range<u64>>, StorageError> {
        let found = self.find(blob)?;
        let Some(pages) = &found.pages else { return Err(arguments::not_a_page_blob(blob)) };
        arguments::check_inside(range, pages.bytes())?;
        let path = self.layout.blob(blob);
        extents::page_ranges(&found.open.file, range, |part| {
            read_exactly(&found.open.file, part, pages.bytes(), &path)
        })
        .map_err(|error| match error {
            extents::Failure::Seek(error) => disk::unknown("reading", &path, &error),
            extents::Failure::Read(error) => error,
        })
    }

    pub(super) fn raise_sequence_number(
        &self,
        blob: &BlobName,
        at_least: Term,
    ) -> Result<Term, StorageError> {
        let raised = |pages: &PageState| Ok(pages.sequence_number().max(at_least));
        self.change_state(blob, None, raised, |_| Ok(())).map(|state| state.sequence_number())
    }

    pub(super) fn set_sequence_number(
        &self,
        blob: &BlobName,
        number: Term,
        if_match: &ETag,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        let number = |pages: &PageState| {
            if pages.etag() == *if_match { Ok(number) } else { Err(StorageError::PreconditionFailed) }
        };
        self.change_state(blob, lease, number, |_| Ok(())).map(|_| ())
    }

    pub(super) fn rewrite_page(
        &self,
        blob: &BlobName,
        page: &[u8],
        fence: Term,
        if_match: &ETag,
        lease: &LeaseId,
    ) -> Result<ETag, StorageError> {
        let range = arguments::check_rewrite(page.len())?;
        let same = |pages: &PageState| {
            arguments::check_inside(&range, pages.bytes())?;
            if pages.etag() == *if_match && pages.sequence_number() == fence {
                Ok(fence)
            } else {
                Err(StorageError::PreconditionFailed)
            }
        };
        let write = |file: &File| file.write_all_at(page, range.start);
        self.change_state(blob, Some(lease), same, write).map(|state| state.etag())
    }

    /// Gives the blob its next state, with this number, after something was written to it. Written and synced also where the
    /// number stays the same: it may be there by a write that did not get durable.
    fn change_state(
        &self,
        blob: &BlobName,
        lease: Option<&LeaseId>,
        number: impl FnOnce(&PageState) -> Result<Term, StorageError>,
        write: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<PageState, StorageError> {
        let held = self.lock.take()?;
        let slot = self.slots.get(blob);
        // Waits for the writes in flight under the old number.
        let mut current = slot.write();
        let loaded = self.reload(&mut current, blob, held.hold())?;
        self.check_lease(blob, lease)?;
        let pages = page_state(loaded, blob)?;
        let changed = pages.with_number(number(pages)?);
        // A process that died may have left pages that can be read and are not on the disk yet. Who takes over builds
        // on what it reads, so that it must be durable first.
        let path = self.layout.blob(blob);
        let open = loaded.open.clone();
        let ticket = open.sync.ticket();
        write(&open.file).map_err(|error| disk::unknown("writing", &path, &error))?;
        let synced = open.sync.sync(ticket, || open.file.sync_data());
        synced.map_err(|error| disk::unknown("syncing", &path, &error))?;
        // Pages that an earlier write-back failed for are in the cache and taken for clean, but not on the disk: drop
        // what is cached, so that what is read from now on is what the disk has.
        fadvise(&open.file, 0, None, Advice::DontNeed)
            .map_err(|error| disk::unknown("reading", &path, &error.into()))?;
        self.check_still_in_place(loaded, blob)?;
        // Until the new state is known to be there, nothing is known.
        let open = loaded.open.clone();
        *current = None;
        changed.write(&self.layout.state(blob), &self.layout, &self.env)?;
        *current = Some(Loaded { open, pages: Some(changed.clone()), read_in: Some(held.hold()) });
        Ok(changed)
    }
}

fn page_state<'a>(loaded: &'a Loaded, blob: &BlobName) -> Result<&'a PageState, StorageError> {
    loaded.pages.as_ref().ok_or_else(|| arguments::not_a_page_blob(blob))
}

/// Reads without filling the buffer with zeros first.
fn read_exactly(
    file: &File,
    range: &Range<u64>,
    blob_bytes: u64,
    path: &Path,
) -> Result<Vec<u8>, StorageError> {
    let wanted = usize::try_from(range.end - range.start)
        .map_err(|_| StorageError::Refused(format!("{range:?} is more than memory can hold")))?;
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(wanted)
        .map_err(|_| StorageError::Unavailable(format!("there is no memory to read {wanted} bytes")))?;
    while bytes.len() < wanted {
        let at = range.start + bytes.len() as u64;
        match pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(disk::cut_short(path, blob_bytes)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(disk::unknown("reading", path, &error.into())),
        }
    }
    // The allocator may have given more room than was asked for.
    bytes.truncate(wanted);
    Ok(bytes)
}
