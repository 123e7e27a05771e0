//! What the requests share: finding a blob as it now is, leases, and opening the directory.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use vault_format::ids::Term;
use vault_format::names::ContainerName;

use super::super::leases::{self, Leases};
use super::super::{BlobName, BlobProperties, LeaseId, LeaseTarget, StorageError, arguments};
use super::ahead::Ahead;
use super::disk::{self, Layout};
use super::lock::{DirectoryLock, Hold, LockGuard};
use super::probe;
use super::slots::{FileId, Loaded, OpenBlob, Slot, Slots};
use super::state::PageState;
use super::sync::GroupSync;
use crate::env::Env;
use crate::limits::FILE_OPEN_BLOBS;

/// How often a blob is looked at again that is replaced while it is looked at.
const LOOKS: usize = 8;

/// The directory. Locks are taken in this order: `lock`, `structure`, a slot, `leases`.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) env: Env,
    pub(super) layout: Layout,
    pub(super) lock: Arc<DirectoryLock>,
    pub(super) slots: Slots,
    /// Held for writing where a container comes, changes or goes, for reading where a blob comes or goes.
    pub(super) structure: RwLock<()>,
    leases: Mutex<Leases<LockGuard>>,
}

/// A blob as a read finds it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) open: Arc<OpenBlob>,
    pub(super) pages: Option<PageState>,
    pub(super) properties: BlobProperties,
}

/// A blob's data file and state file as they belong together.
#[derive(Debug)]
pub(super) struct Described {
    id: FileId,
    pub(super) pages: Option<PageState>,
    pub(super) properties: BlobProperties,
}

impl Files {
    pub(super) fn open(root: &Path, env: Env) -> Result<Self, StorageError> {
        let root = std::path::absolute(root).map_err(|error| disk::refused("opening", root, &error))?;
        let layout = Layout { root };
        fs::create_dir_all(layout.temporary()).map_err(|error| match error.kind() {
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => StorageError::Refused(format!(
                "`{}` is not a directory; name one that is, or that can be made",
                layout.root.display()
            )),
            _ => disk::refused("making", &layout.temporary(), &error),
        })?;
        probe::check(&layout, &env)?;
        let lock = DirectoryLock::new(layout.lock());
        let files = Self {
            env,
            layout,
            lock,
            slots: Slots::new(FILE_OPEN_BLOBS),
            structure: RwLock::default(),
            leases: Mutex::default(),
        };
        files.sweep()?;
        Ok(files)
    }

    /// Removes what crashes left behind. Whoever has the lock may have something in the making, so that without the
    /// lock it is left for a later start.
    fn sweep(&self) -> Result<(), StorageError> {
        let _held = match self.lock.take() {
            Err(StorageError::LeaseHeld) => return Ok(()),
            taken => taken?,
        };
        let temporary = self.layout.temporary();
        let failed = |error: std::io::Error| disk::refused("reading", &temporary, &error);
        for entry in fs::read_dir(&temporary).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if let Err(error) = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)) {
                tracing::warn!(path = %path.display(), %error, "a left-over could not be removed");
            }
        }
        Ok(())
    }

    pub(super) fn leases(&self) -> MutexGuard<'_, Leases<LockGuard>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn structure_read(&self) -> RwLockReadGuard<'_, ()> {
        self.structure.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn structure_write(&self) -> RwLockWriteGuard<'_, ()> {
        self.structure.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check_container(&self, name: &ContainerName) -> Result<(), StorageError> {
        let path = self.layout.metadata(name);
        fs::metadata(&path).map(|_| ()).map_err(|error| disk::refused("reading", &path, &error))
    }

    /// Whether a change of a blob may go on that names `lease`. Call it with the blob's slot locked.
    pub(super) fn check_lease(&self, blob: &BlobName, lease: Option<&LeaseId>) -> Result<(), StorageError> {
        self.leases().check(&LeaseTarget::Blob(blob.clone()), lease, self.env.clock.monotonic())
    }

    /// The slot locked for reading, its blob as it now is. Only whoever has the lock may rely on it.
    pub(super) fn current<'a>(
        &self,
        slot: &'a Slot,
        blob: &BlobName,
        hold: Hold,
    ) -> Result<RwLockReadGuard<'a, Option<Loaded>>, StorageError> {
        let read = slot.read();
        if let Some(loaded) = &*read
            && loaded.read_in == Some(hold)
            && self.is_in_place(loaded, blob)?
        {
            return Ok(read);
        }
        drop(read);
        let mut write = slot.write();
        self.reload(&mut write, blob, hold)?;
        Ok(RwLockWriteGuard::downgrade(write))
    }

    /// Reads the blob anew where what is known of it may be wrong. The slot is locked for writing.
    pub(super) fn reload<'a>(
        &self,
        slot: &'a mut Option<Loaded>,
        blob: &BlobName,
        hold: Hold,
    ) -> Result<&'a mut Loaded, StorageError> {
        let known = slot.take();
        if let Some(loaded) = known.as_ref().filter(|loaded| loaded.read_in == Some(hold))
            && self.is_in_place(loaded, blob)?
        {
            return Ok(slot.insert(loaded.clone()));
        }
        let found = self.look(blob, known.as_ref().map(|loaded| &loaded.open))?;
        Ok(slot.insert(Loaded { open: found.open, pages: found.pages, read_in: Some(hold) }))
    }

    /// The blob as it now is, whoever has the lock.
    pub(super) fn find(&self, blob: &BlobName) -> Result<Found, StorageError> {
        let slot = self.slots.get(blob);
        let known = slot.read().clone();
        if let (Some(loaded), Some(hold)) = (&known, self.lock.hold())
            && loaded.read_in == Some(hold)
            && let Some(pages) = &loaded.pages
            && self.is_in_place(loaded, blob)?
        {
            let properties = page_properties(pages);
            return Ok(Found { open: loaded.open.clone(), pages: loaded.pages.clone(), properties });
        }
        let known = known.map(|loaded| loaded.open);
        let found = self.look(blob, known.as_ref())?;
        if known.is_none_or(|known| known.id != found.open.id) {
            // Kept for the file alone: without the lock nothing else of it stays true.
            let loaded = Loaded { open: found.open.clone(), pages: found.pages.clone(), read_in: None };
            *slot.write() = Some(loaded);
        }
        Ok(found)
    }

    /// Whether the path still leads to the file that is open. Somebody may have deleted, moved or replaced it, or a
    /// directory above it: nothing that is written to it then may count.
    fn is_in_place(&self, loaded: &Loaded, blob: &BlobName) -> Result<bool, StorageError> {
        let path = self.layout.blob(blob);
        match fs::metadata(&path) {
            Err(error) => match disk::refused("reading", &path, &error) {
                StorageError::NotFound => Ok(false),
                other => Err(other),
            },
            Ok(metadata) if FileId::of(&metadata) != loaded.open.id => Ok(false),
            Ok(metadata) => match &loaded.pages {
                Some(pages) if metadata.len() < pages.bytes() => Err(disk::cut_short(&path, pages.bytes())),
                _ => Ok(true),
            },
        }
    }

    /// For a request that wrote something: `NotFound` where it wrote to a file that is gone.
    pub(super) fn check_still_in_place(&self, loaded: &Loaded, blob: &BlobName) -> Result<(), StorageError> {
        match self.is_in_place(loaded, blob) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StorageError::NotFound),
            // Not definite: the bytes are written.
            Err(error) => Err(StorageError::Unavailable(error.to_string())),
        }
    }

    /// Opens the blob, unless `known` is its file, and reads its state.
    fn look(&self, blob: &BlobName, known: Option<&Arc<OpenBlob>>) -> Result<Found, StorageError> {
        let path = self.layout.blob(blob);
        for _ in 0..LOOKS {
            let described = self.describe(blob)?;
            let open = match known {
                Some(known) if known.id == described.id => known.clone(),
                _ => {
                    let opened = fs::OpenOptions::new().read(true).write(true).open(&path);
                    let file = opened.map_err(|error| disk::refused("opening", &path, &error))?;
                    let metadata =
                        file.metadata().map_err(|error| disk::refused("reading", &path, &error))?;
                    let id = FileId::of(&metadata);
                    Arc::new(OpenBlob { file, id, sync: GroupSync::default(), ahead: Ahead::default() })
                }
            };
            if open.id == described.id {
                let Described { pages, properties, .. } = described;
                return Ok(Found { open, pages, properties });
            }
        }
        Err(StorageError::Unavailable(format!("`{}` is replaced all the time", path.display())))
    }

    /// Size, sequence number and ETag, without opening the blob.
    pub(super) fn describe(&self, blob: &BlobName) -> Result<Described, StorageError> {
        let (path, state_path) = (self.layout.blob(blob), self.layout.state(blob));
        let look = || fs::metadata(&path).map_err(|error| disk::refused("reading", &path, &error));
        let mut before = look()?;
        for _ in 0..LOOKS {
            if !before.is_file() {
                return Err(StorageError::NotFound);
            }
            let pages = PageState::read(&state_path)?;
            // The state file is written before the data file appears and removed after it is gone. So if the data file
            // is still the same one, the state is its own.
            let after = look()?;
            if FileId::of(&before) == FileId::of(&after) {
                let pages = pages.map(|pages| pages.with_file_of(after.len()));
                let properties = pages.as_ref().map_or_else(|| block_properties(&after), page_properties);
                return Ok(Described { id: FileId::of(&after), pages, properties });
            }
            before = after;
        }
        Err(StorageError::Unavailable(format!("`{}` is replaced all the time", path.display())))
    }

    pub(super) fn properties(&self, blob: &BlobName) -> Result<BlobProperties, StorageError> {
        Ok(self.find(blob)?.properties)
    }

    pub(super) fn acquire_lease(
        &self,
        target: &LeaseTarget,
        duration: Duration,
    ) -> Result<LeaseId, StorageError> {
        let now = self.env.clock.monotonic();
        self.leases().forget_run_out(now);
        let held = self.lock.take()?;
        let (id, hold) = (leases::new_id(&self.env), held.hold());
        match target {
            LeaseTarget::Container(name) => {
                let _structure = self.structure_write();
                self.check_container(name)?;
                self.leases().acquire(target, id, Some(duration), now, held)
            }
            LeaseTarget::Blob(blob) => {
                arguments::check_name(blob)?;
                let slot = self.slots.get(blob);
                // Writes in flight end before the lease is somebody's.
                let mut loaded = slot.write();
                self.reload(&mut loaded, blob, hold)?;
                self.leases().acquire(target, id, None, now, held)
            }
        }
    }

    pub(super) fn renew_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        self.leases().renew(target, lease, self.env.clock.monotonic())
    }

    /// The directory's lock is free once the writes in flight have ended too: each holds it.
    pub(super) fn release_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        let release = || self.leases().release(target, lease, self.env.clock.monotonic());
        let released = match target {
            LeaseTarget::Container(_) => {
                let _structure = self.structure_write();
                release()
            }
            LeaseTarget::Blob(blob) => {
                let slot = self.slots.get(blob);
                let _loaded = slot.write();
                release()
            }
        };
        released.map_err(|_| self.why_not_held(target))
    }

    /// Why a lease that was named is not held: its target is gone, or somebody else's.
    pub(super) fn why_not_held(&self, target: &LeaseTarget) -> StorageError {
        let exists = match target {
            LeaseTarget::Container(name) => self.check_container(name),
            LeaseTarget::Blob(blob) => {
                arguments::check_name(blob).and_then(|()| self.describe(blob).map(|_| ()))
            }
        };
        exists.err().unwrap_or(StorageError::PreconditionFailed)
    }
}

fn page_properties(pages: &PageState) -> BlobProperties {
    BlobProperties { bytes: pages.bytes(), sequence_number: pages.sequence_number(), etag: pages.etag() }
}

/// A block blob is replaced by another file, never changed, so that the file tells its state.
fn block_properties(metadata: &fs::Metadata) -> BlobProperties {
    use std::os::unix::fs::MetadataExt;
    let etag = format!("{}-{}-{}", metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
    BlobProperties { bytes: metadata.len(), sequence_number: Term::ZERO, etag: super::ETag(etag) }
}
