//! Containers: directories that appear and disappear at once, by a rename.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use vault_format::names::ContainerName;

use super::super::{ContainerEntry, LeaseId, LeaseTarget, Metadata, StorageError};
use super::disk::{self, Temporary};
use super::files::Files;

impl Files {
    pub(super) fn create_container(
        &self,
        name: &ContainerName,
        metadata: &Metadata,
    ) -> Result<(), StorageError> {
        let place = self.layout.container(name);
        let taken = self.lock.take();
        // Looked at also without the lock: who finds a container need not hear that somebody else is at work.
        if fs::symlink_metadata(&place).is_ok() {
            return Err(StorageError::AlreadyExists);
        }
        let _held = taken?;
        let _structure = self.structure_write();
        if fs::symlink_metadata(&place).is_ok() {
            return Err(StorageError::AlreadyExists);
        }
        let directory = Temporary::new(&self.layout, &self.env);
        directory.directory()?;
        self.write_metadata(&directory.path().join(".metadata"), metadata)?;
        directory.place(&place)
    }

    pub(super) fn container_metadata(&self, name: &ContainerName) -> Result<Metadata, StorageError> {
        let path = self.layout.metadata(name);
        let text = fs::read(&path).map_err(|error| disk::refused("reading", &path, &error))?;
        serde_json::from_slice(&text).map_err(|error| disk::damaged(&path, error))
    }

    pub(super) fn set_container_metadata(
        &self,
        name: &ContainerName,
        metadata: &Metadata,
        lease: &LeaseId,
    ) -> Result<(), StorageError> {
        let _held = self.lock.take()?;
        let _structure = self.structure_write();
        self.check_container_lease(name, lease)?;
        self.write_metadata(&self.layout.metadata(name), metadata)
    }

    pub(super) fn delete_container(&self, name: &ContainerName, lease: &LeaseId) -> Result<(), StorageError> {
        let _held = self.lock.take()?;
        let structure = self.structure_write();
        self.check_container_lease(name, lease)?;
        let place = self.layout.container(name);
        let doomed = Temporary::new(&self.layout, &self.env);
        fs::rename(&place, doomed.path()).map_err(|error| disk::unknown("deleting", &place, &error))?;
        disk::sync_parent(&place)?;
        // Waits for writes in flight. Each looks at its path when it ends: none is acknowledged from now on.
        for slot in self.slots.of_container(name) {
            *slot.write() = None;
        }
        self.leases().forget(&LeaseTarget::Container(name.clone()));
        drop(structure);
        // It is gone already; what cannot be removed now is removed at the next start.
        drop(doomed);
        Ok(())
    }

    pub(super) fn list_containers(&self, prefix: &str) -> Result<Vec<ContainerEntry>, StorageError> {
        let root = &self.layout.root;
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => {
                StorageError::Unavailable(format!("`{}` is gone; put the directory back", root.display()))
            }
            _ => disk::refused("listing", root, &error),
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(root).map_err(failed)? {
            let file_name = entry.map_err(failed)?.file_name();
            let name =
                file_name.to_str().filter(|name| name.starts_with(prefix)).and_then(ContainerName::listed);
            let Some(name) = name else { continue };
            match self.container_metadata(&name) {
                Ok(metadata) => found.push(ContainerEntry { name, account: String::new(), metadata }),
                // Deleted meanwhile, or nothing of ours.
                Err(StorageError::NotFound) => {}
                // One damaged file must not hold back all the others.
                Err(error @ StorageError::Refused(_)) => {
                    tracing::error!(container = %name, %error, "the metadata cannot be read");
                    found.push(ContainerEntry { name, account: String::new(), metadata: Metadata::new() });
                }
                Err(error) => return Err(error),
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn check_container_lease(&self, name: &ContainerName, lease: &LeaseId) -> Result<(), StorageError> {
        self.check_container(name)?;
        let target = LeaseTarget::Container(name.clone());
        self.leases().check(&target, Some(lease), self.env.clock.monotonic())
    }

    fn write_metadata(&self, place: &Path, metadata: &Metadata) -> Result<(), StorageError> {
        let text = serde_json::to_vec_pretty(metadata).expect("texts are JSON");
        let file = Temporary::new(&self.layout, &self.env);
        file.write(&text)?;
        file.place(place)
    }
}
