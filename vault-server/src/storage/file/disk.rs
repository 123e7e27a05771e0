//! Paths, durable renames, and errors that name the path and say what to do.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use vault_format::names::ContainerName;

use super::super::leases::random_hex;
use super::super::{BlobName, StorageError};
use crate::env::Env;

/// Where everything is. No name of a container, and no part of a blob's, begins with a dot.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
}

impl Layout {
    pub(super) fn lock(&self) -> PathBuf {
        self.root.join(".lock")
    }

    pub(super) fn temporary(&self) -> PathBuf {
        self.root.join(".tmp")
    }

    pub(super) fn container(&self, name: &ContainerName) -> PathBuf {
        self.root.join(name.as_str())
    }

    pub(super) fn metadata(&self, name: &ContainerName) -> PathBuf {
        self.container(name).join(".metadata")
    }

    pub(super) fn blob(&self, blob: &BlobName) -> PathBuf {
        self.container(&blob.container).join(&blob.name)
    }

    pub(super) fn state(&self, blob: &BlobName) -> PathBuf {
        let (folder, file) = blob.name.rsplit_once('/').unwrap_or(("", &blob.name));
        self.container(&blob.container).join(folder).join(format!(".{file}.state"))
    }
}

/// Something in the making, out of sight. It is removed when dropped unless it was put in its place; what a crash
/// leaves behind is removed when the directory is opened next.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    placed: bool,
}

impl Temporary {
    pub(super) fn new(layout: &Layout, env: &Env) -> Self {
        Self { path: layout.temporary().join(random_hex(env)), placed: false }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A new, empty file that only this process's user can read.
    pub(super) fn file(&self) -> Result<File, StorageError> {
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&self.path);
        made.map_err(|error| self.failed(&error))
    }

    /// A new file with this content, which survives a crash once it is placed.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), StorageError> {
        let mut file = self.file()?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| self.failed(&error))
    }

    pub(super) fn directory(&self) -> Result<(), StorageError> {
        fs::create_dir(&self.path).map_err(|error| self.failed(&error))
    }

    /// Renames it to `place`, over what is there, and makes that durable.
    pub(super) fn place(mut self, place: &Path) -> Result<(), StorageError> {
        match fs::rename(&self.path, place) {
            // Only the directory in which it is to be placed can be missing: a container that was deleted.
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(StorageError::NotFound),
            renamed => renamed.map_err(|error| unknown("writing", place, &error))?,
        }
        self.placed = true;
        sync_parent(place)
    }

    pub(super) fn failed(&self, error: &io::Error) -> StorageError {
        if error.kind() == ErrorKind::NotFound {
            let path = self.path.parent().unwrap_or(&self.path).display();
            return StorageError::Unavailable(format!(
                "`{path}` is gone; put the directory back and restart"
            ));
        }
        // Nothing that anybody can see was changed.
        refused("writing", &self.path, error)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.placed {
            // Whatever cannot be removed now is removed at the next start.
            let _ = fs::remove_file(&self.path).or_else(|_| fs::remove_dir_all(&self.path));
        }
    }
}

/// Makes what was renamed, made or removed in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), StorageError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| unknown("syncing", path, &error))
}

pub(super) fn sync_parent(path: &Path) -> Result<(), StorageError> {
    sync_directory(path.parent().expect("everything lies in the root"))
}

/// Why something could not be looked at or opened. Nothing was changed.
pub(super) fn refused(doing: &str, path: &Path, error: &io::Error) -> StorageError {
    let shown = path.display();
    match error.kind() {
        // A path through a file, or to a folder, names no blob.
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => StorageError::NotFound,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StorageError::Refused(format!(
            "{doing} `{shown}` is not allowed ({error}); let the server's user read and write it"
        )),
        _ => unknown(doing, path, error),
    }
}

/// Why a change failed of which a part may have happened.
pub(super) fn unknown(doing: &str, path: &Path, error: &io::Error) -> StorageError {
    let shown = path.display();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            StorageError::Full(format!("{doing} `{shown}`: {error}; free space or raise the limit"))
        }
        _ if error.raw_os_error() == Some(TOO_MANY_OPEN) => StorageError::Unavailable(format!(
            "{doing} `{shown}`: {error}; raise the limit on open files (ulimit -n)"
        )),
        _ => StorageError::Unavailable(format!(
            "{doing} `{shown}`: {error}; look at the disk and the system's log"
        )),
    }
}

const TOO_MANY_OPEN: i32 = rustix::io::Errno::MFILE.raw_os_error();

/// A file that cannot be what this server wrote.
pub(super) fn damaged(path: &Path, why: impl std::fmt::Display) -> StorageError {
    StorageError::Refused(format!("`{}` is damaged ({why}); put a backup in its place", path.display()))
}

/// A data file that ends before its blob does.
pub(super) fn cut_short(path: &Path, bytes: u64) -> StorageError {
    StorageError::Refused(format!(
        "`{}` is shorter than its {bytes} bytes, was it truncated? Put a backup in its place",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn errors_are_sorted_by_what_they_leave_open() {
        let path = Path::new("/data/vault/x");
        let kind = |error: StorageError| match error {
            StorageError::NotFound => "not found",
            StorageError::Full(_) => "full",
            StorageError::Refused(_) => "refused",
            StorageError::Unavailable(_) => "unavailable",
            _ => "other",
        };
        for (errno, before, during) in [
            (Errno::NOENT, "not found", "unavailable"),
            (Errno::NOSPC, "full", "full"),
            (Errno::DQUOT, "full", "full"),
            (Errno::FBIG, "full", "full"),
            (Errno::ACCESS, "refused", "unavailable"),
            (Errno::ROFS, "refused", "unavailable"),
            (Errno::IO, "unavailable", "unavailable"),
            (Errno::MFILE, "unavailable", "unavailable"),
        ] {
            let error = io::Error::from(errno);
            assert_eq!(kind(refused("reading", path, &error)), before, "{errno}");
            assert_eq!(kind(unknown("writing", path, &error)), during, "{errno}");
        }
        let shown = unknown("writing", path, &Errno::MFILE.into()).to_string();
        assert!(shown.contains("`/data/vault/x`") && shown.contains("ulimit -n"), "{shown}");
    }
}
