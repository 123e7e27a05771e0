//! The blobs at hand: open files, what is known of them, and the locks that order requests to one blob.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use vault_format::names::ContainerName;

use super::super::BlobName;
use super::ahead::Ahead;
use super::lock::Hold;
use super::state::PageState;
use super::sync::GroupSync;

/// One blob's name. Writes of pages hold its lock for reading from the check of the fence to the end of the sync,
/// whatever changes the sequence number, the lease or the blob itself holds it for writing: so a check and the write
/// that rests on it are one step.
#[derive(Debug, Default)]
pub(super) struct Slot(RwLock<Option<Loaded>>);

impl Slot {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Option<Loaded>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Option<Loaded>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A blob as it was found.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) open: Arc<OpenBlob>,
    /// `None` for a block blob.
    pub(super) pages: Option<PageState>,
    /// The hold of the directory's lock in which this was read, and to whose end it is true.
    pub(super) read_in: Option<Hold>,
}

/// An open data file.
#[derive(Debug)]
pub(super) struct OpenBlob {
    pub(super) file: File,
    pub(super) id: FileId,
    pub(super) sync: GroupSync,
    pub(super) ahead: Ahead,
}

/// Tells files apart. While a file is open no other gets its id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FileId(u64, u64);

impl FileId {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// The slots by name, the least recently used given up first. One in use is never given up: were a second one made for
/// its name, requests would no longer exclude each other. That is why this is not a general-purpose cache.
#[derive(Debug)]
pub(super) struct Slots {
    limit: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    slots: HashMap<BlobName, (Arc<Slot>, u64)>,
    uses: u64,
}

impl Slots {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, table: Mutex::default() }
    }

    pub(super) fn get(&self, blob: &BlobName) -> Arc<Slot> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.uses += 1;
        let uses = table.uses;
        if let Some((slot, used)) = table.slots.get_mut(blob) {
            *used = uses;
            return slot.clone();
        }
        if table.slots.len() >= self.limit {
            table.give_one_up();
        }
        let slot = Arc::new(Slot::default());
        table.slots.insert(blob.clone(), (slot.clone(), uses));
        slot
    }

    pub(super) fn of_container(&self, container: &ContainerName) -> Vec<Arc<Slot>> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let inside = table.slots.iter().filter(|(blob, _)| blob.container == *container);
        inside.map(|(_, (slot, _))| slot.clone()).collect()
    }
}

impl Table {
    fn give_one_up(&mut self) {
        // Nobody can begin to use a slot meanwhile: the table is locked.
        let unused = self.slots.iter().filter(|(_, (slot, _))| Arc::strong_count(slot) == 1);
        let oldest = unused.min_by_key(|(_, (_, used))| *used).map(|(blob, _)| blob.clone());
        if let Some(blob) = oldest {
            self.slots.remove(&blob);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(name: &str) -> BlobName {
        BlobName { container: ContainerName::listed("abc").unwrap(), name: name.to_owned() }
    }

    #[test]
    fn a_slot_in_use_is_kept_and_the_least_recently_used_goes_first() {
        let slots = Slots::new(2);
        let in_use = slots.get(&blob("a"));
        let b = Arc::downgrade(&slots.get(&blob("b")));
        let c = Arc::downgrade(&slots.get(&blob("c")));
        assert!(b.upgrade().is_none(), "a is older but in use");
        slots.get(&blob("d"));
        assert!(c.upgrade().is_none());
        assert!(Arc::ptr_eq(&in_use, &slots.get(&blob("a"))));
        let other = slots.get(&blob("e"));
        let third = slots.get(&blob("f"));
        assert!(Arc::ptr_eq(&other, &slots.get(&blob("e"))) && Arc::ptr_eq(&third, &slots.get(&blob("f"))));
    }
}
