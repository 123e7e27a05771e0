//! The directory's lock: one process at a time may change what is in it.
//!
//! The operating system frees it when the process ends, however it ends. Within the process it is counted: the first
//! request or lease that needs it takes it, the last one to end gives it back.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::super::StorageError;
use super::disk;

/// Names one stretch of time in which this process held the lock without a break. What was read from the disk in it
/// stays true to its end, since nobody else could change it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hold(u64);

#[derive(Debug)]
pub(super) struct DirectoryLock {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Open as long as the lock is held: closing it frees the lock.
    file: Option<File>,
    holders: usize,
    holds: u64,
}

/// The lock, held until this is dropped.
#[derive(Debug)]
pub(super) struct LockGuard {
    lock: Arc<DirectoryLock>,
    hold: Hold,
}

impl DirectoryLock {
    pub(super) fn new(path: PathBuf) -> Arc<Self> {
        Arc::new(Self { path, state: Mutex::default() })
    }

    /// Takes the lock, without waiting: `LeaseHeld` where another process has it.
    pub(super) fn take(self: &Arc<Self>) -> Result<LockGuard, StorageError> {
        let mut state = self.state();
        if state.file.is_none() {
            state.file = Some(lock_file(&self.path)?);
            state.holds += 1;
        }
        state.holders += 1;
        Ok(LockGuard { lock: self.clone(), hold: Hold(state.holds) })
    }

    /// The hold that goes on now, if this process has the lock.
    pub(super) fn hold(&self) -> Option<Hold> {
        let state = self.state();
        state.file.is_some().then_some(Hold(state.holds))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LockGuard {
    pub(super) fn hold(&self) -> Hold {
        self.hold
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let mut state = self.lock.state();
        state.holders -= 1;
        if state.holders == 0 {
            state.file = None;
        }
    }
}

fn lock_file(path: &Path) -> Result<File, StorageError> {
    let failed = |error: std::io::Error| disk::refused("locking", path, &error);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(StorageError::LeaseHeld),
        Err(error) => return Err(failed(error.into())),
    }
    // Whoever deleted the file between opening and locking it left us with a lock that nobody else will ask for.
    let (held, named) = (file.metadata().map_err(failed)?, std::fs::metadata(path).map_err(failed)?);
    if (held.dev(), held.ino()) == (named.dev(), named.ino()) {
        Ok(file)
    } else {
        Err(StorageError::LeaseHeld)
    }
}
