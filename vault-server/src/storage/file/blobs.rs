//! Blobs as files: created, replaced, listed, deleted.
//!
//! A page blob is two files, and it is the data file that makes it exist. **The state file is durable before the data
//! file appears, and removed only after the data file is durably gone.** A crash in between leaves a state file alone,
//! which counts for nothing and is replaced with the next blob of that name. The other order could leave a data file
//! alone: a page blob without a sequence number, which would look like a block blob.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use vault_format::ids::Term;
use vault_format::names::ContainerName;

use super::super::{BlobEntry, BlobName, ETag, StorageError, arguments};
use super::disk::{self, Temporary};
use super::files::Files;
use super::state::PageState;

impl Files {
    pub(super) fn create_page_blob(
        &self,
        blob: &BlobName,
        bytes: u64,
        sequence_number: Term,
    ) -> Result<ETag, StorageError> {
        let _held = self.lock.take()?;
        let _structure = self.structure_read();
        let slot = self.slots.get(blob);
        let mut loaded = slot.write();
        self.check_container(&blob.container)?;
        if self.exists(blob)? {
            return Err(StorageError::AlreadyExists);
        }
        self.make_folders(blob)?;
        let data = Temporary::new(&self.layout, &self.env);
        let file = data.file()?;
        file.set_len(bytes).and_then(|()| file.sync_all()).map_err(|error| data.failed(&error))?;
        let state = PageState::new(bytes, sequence_number, &self.env);
        state.write(&self.layout.state(blob), &self.layout, &self.env)?;
        *loaded = None;
        data.place(&self.layout.blob(blob))?;
        Ok(state.etag())
    }

    pub(super) fn put_block_blob(&self, blob: &BlobName, bytes: &[u8]) -> Result<(), StorageError> {
        let _held = self.lock.take()?;
        let _structure = self.structure_read();
        let slot = self.slots.get(blob);
        let mut loaded = slot.write();
        self.check_container(&blob.container)?;
        self.check_lease(blob, None)?;
        if self.exists(blob)? && self.describe(blob)?.pages.is_some() {
            return Err(arguments::not_a_block_blob(blob));
        }
        self.make_folders(blob)?;
        // A state file that a crash left alone would turn the block blob into a page blob.
        self.remove_state(blob)?;
        let data = Temporary::new(&self.layout, &self.env);
        data.write(bytes)?;
        *loaded = None;
        data.place(&self.layout.blob(blob))
    }

    pub(super) fn delete_blob(&self, blob: &BlobName, if_match: Option<&ETag>) -> Result<(), StorageError> {
        let _held = self.lock.take()?;
        let _structure = self.structure_read();
        let slot = self.slots.get(blob);
        let mut loaded = slot.write();
        let found = self.describe(blob)?;
        self.check_lease(blob, None)?;
        if if_match.is_some_and(|etag| found.properties.etag != *etag) {
            return Err(StorageError::PreconditionFailed);
        }
        *loaded = None;
        let path = self.layout.blob(blob);
        fs::remove_file(&path).map_err(|error| disk::unknown("deleting", &path, &error))?;
        disk::sync_parent(&path)?;
        if let Err(error) = self.remove_state(blob) {
            tracing::warn!(%blob, %error, "the state file of a deleted blob stays behind");
        }
        Ok(())
    }

    pub(super) fn list_blobs(
        &self,
        container: &ContainerName,
        prefix: &str,
    ) -> Result<Vec<BlobEntry>, StorageError> {
        self.check_container(container)?;
        let mut found = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            self.list_folder(container, &folder, prefix, &mut folders, &mut found)?;
        }
        // Whoever deletes a container moves it away first: a listing that began before may lack anything.
        self.check_container(container)?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn list_folder(
        &self,
        container: &ContainerName,
        folder: &str,
        prefix: &str,
        folders: &mut Vec<String>,
        found: &mut Vec<BlobEntry>,
    ) -> Result<(), StorageError> {
        let path = self.layout.container(container).join(folder);
        let failed = |error: std::io::Error| disk::refused("listing", &path, &error);
        let entries = match fs::read_dir(&path).map_err(failed) {
            Err(StorageError::NotFound) => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let file_name = entry.file_name();
            let Some(part) = file_name.to_str().filter(|part| !part.starts_with('.')) else { continue };
            let name = format!("{folder}{part}");
            if entry.file_type().map_err(failed)?.is_dir() {
                let below = format!("{name}/");
                if below.starts_with(prefix) || prefix.starts_with(&below) {
                    folders.push(below);
                }
            } else if name.starts_with(prefix) {
                let blob = BlobName { container: container.clone(), name };
                match self.describe(&blob) {
                    Ok(described) => {
                        let properties = described.properties;
                        found.push(BlobEntry {
                            name: blob.name,
                            bytes: properties.bytes,
                            etag: properties.etag,
                        });
                    }
                    Err(StorageError::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Whether there is a blob of this name. A folder of its name, or a blob of a folder's, is refused.
    fn exists(&self, blob: &BlobName) -> Result<bool, StorageError> {
        let path = self.layout.blob(blob);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => Err(folder_and_blob(&path)),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) if error.kind() == ErrorKind::NotADirectory => Err(folder_and_blob(&path)),
            Err(error) => Err(disk::refused("reading", &path, &error)),
        }
    }

    /// Makes the folders that the blob's name goes through. The container itself must be there.
    fn make_folders(&self, blob: &BlobName) -> Result<(), StorageError> {
        let mut path = self.layout.container(&blob.container);
        let (folders, _) = blob.name.rsplit_once('/').unwrap_or_default();
        for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
            path.push(folder);
            match fs::create_dir(&path) {
                Ok(()) => disk::sync_parent(&path)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(disk::refused("making", &path, &error)),
            }
        }
        Ok(())
    }

    fn remove_state(&self, blob: &BlobName) -> Result<(), StorageError> {
        let path = self.layout.state(blob);
        match fs::remove_file(&path) {
            Ok(()) => disk::sync_parent(&path),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(disk::unknown("deleting", &path, &error)),
        }
    }
}

fn folder_and_blob(path: &Path) -> StorageError {
    StorageError::Refused(format!("`{}` would be a folder and a blob at once", path.display()))
}
