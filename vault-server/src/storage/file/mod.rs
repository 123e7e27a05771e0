//! Storage in one directory: the embedded default.
//!
//! ```text
//! <root>/.lock                         whoever holds it may change things; see `lock`
//! <root>/.tmp/                         made there and renamed into place, or renamed there and removed
//! <root>/<container>/.metadata         JSON
//! <root>/<container>/<blob>            the bytes; of a page blob a sparse file of its full size
//! <root>/<container>/.<blob>.state     of a page blob: size, sequence number and ETag, JSON; see `state`
//! ```
//!
//! | module | subject |
//! |---|---|
//! | `lock` | the directory's lock, which decides between processes |
//! | `sync` | one sync for many writes, and what a failed one means |
//! | `ahead` | zeros ahead of small writes, for short syncs |
//! | `slots` | the blobs at hand, and the locks that order requests to one blob |
//! | `state` | the small file beside a page blob |
//! | `disk` | paths, durable renames, errors |
//! | `files` | what everything below shares: finding a blob as it now is |
//! | `containers`, `blobs`, `pages` | the requests, by what they are about |
//! | `extents` | where a sparse file holds bytes |
//! | `probe` | whether the file system can do what is needed |
//!
//! Every request that touches the disk runs as one job on the blocking pool. A job runs to its end although its sender
//! stops waiting, and keeps the directory's lock until then.

mod ahead;
mod blobs;
mod containers;
mod disk;
mod extents;
mod files;
mod lock;
mod pages;
mod probe;
mod slots;
mod state;
mod sync;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use vault_format::ids::{Position, Term};
use vault_format::names::ContainerName;

use self::files::Files;
use super::{
    BlobEntry, BlobName, BlobProperties, BlobRead, ContainerEntry, ETag, LeaseId, LeaseTarget, Metadata,
    ReadAccess, Storage, StorageError, arguments,
};
use crate::env::Env;

/// One directory as storage.
///
/// A lease on a blob is the lock on the directory: it lasts until it is released or its process ends, and no other
/// process can change anything meanwhile. Leases on containers run out, and keep the lock as long.
#[derive(Debug)]
pub struct FileStorage(Arc<Files>);

impl FileStorage {
    /// Opens a directory and makes it where it is missing. Blocks.
    ///
    /// Fails with `Refused` where the directory cannot be used, with a sentence that says what to do.
    pub fn open(root: &Path, env: Env) -> Result<Self, StorageError> {
        Ok(Self(Arc::new(Files::open(root, env)?)))
    }

    async fn job<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Files) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let files = self.0.clone();
        match tokio::task::spawn_blocking(move || job(&files)).await {
            Ok(outcome) => outcome,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(StorageError::Unavailable("the server shuts down".to_owned())),
            },
        }
    }
}

#[async_trait]
impl Storage for FileStorage {
    async fn create_container(&self, name: &ContainerName, metadata: &Metadata) -> Result<(), StorageError> {
        let (name, metadata) = (name.clone(), metadata.clone());
        self.job(move |files| files.create_container(&name, &metadata)).await
    }

    async fn container_metadata(&self, name: &ContainerName) -> Result<Metadata, StorageError> {
        let name = name.clone();
        self.job(move |files| files.container_metadata(&name)).await
    }

    async fn set_container_metadata(
        &self,
        name: &ContainerName,
        metadata: &Metadata,
        lease: &LeaseId,
    ) -> Result<(), StorageError> {
        let (name, metadata, lease) = (name.clone(), metadata.clone(), lease.clone());
        self.job(move |files| files.set_container_metadata(&name, &metadata, &lease)).await
    }

    async fn delete_container(&self, name: &ContainerName, lease: &LeaseId) -> Result<(), StorageError> {
        let (name, lease) = (name.clone(), lease.clone());
        self.job(move |files| files.delete_container(&name, &lease)).await
    }

    async fn list_containers(&self, prefix: &str) -> Result<Vec<ContainerEntry>, StorageError> {
        let prefix = prefix.to_owned();
        self.job(move |files| files.list_containers(&prefix)).await
    }

    async fn create_page_blob(
        &self,
        blob: &BlobName,
        bytes: u64,
        sequence_number: Term,
    ) -> Result<ETag, StorageError> {
        arguments::check_create(blob, bytes, sequence_number)?;
        let blob = blob.clone();
        self.job(move |files| files.create_page_blob(&blob, bytes, sequence_number)).await
    }

    async fn properties(&self, blob: &BlobName) -> Result<BlobProperties, StorageError> {
        arguments::check_name(blob)?;
        let blob = blob.clone();
        self.job(move |files| files.properties(&blob)).await
    }

    async fn put_pages(
        &self,
        blob: &BlobName,
        position: Position,
        bytes: Bytes,
        fence: Term,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        arguments::check_name(blob)?;
        let range = arguments::check_put(position, bytes.len())?;
        let (blob, lease) = (blob.clone(), lease.cloned());
        self.job(move |files| files.put_pages(&blob, &range, &bytes, fence, lease.as_ref())).await
    }

    async fn rewrite_page(
        &self,
        blob: &BlobName,
        page: Bytes,
        fence: Term,
        if_match: &ETag,
        lease: &LeaseId,
    ) -> Result<ETag, StorageError> {
        arguments::check_name(blob)?;
        arguments::check_rewrite(page.len())?;
        let (blob, if_match, lease) = (blob.clone(), if_match.clone(), lease.clone());
        self.job(move |files| files.rewrite_page(&blob, &page, fence, &if_match, &lease)).await
    }

    async fn clear_pages(&self, blob: &BlobName, range: Range<u64>, fence: Term) -> Result<(), StorageError> {
        arguments::check_name(blob)?;
        arguments::check_pages(&range)?;
        let blob = blob.clone();
        self.job(move |files| files.clear_pages(&blob, &range, fence)).await
    }

    async fn read(&self, blob: &BlobName, range: Range<u64>) -> Result<BlobRead, StorageError> {
        arguments::check_name(blob)?;
        arguments::check_read(&range)?;
        let blob = blob.clone();
        self.job(move |files| files.read(&blob, &range)).await
    }

    async fn page_ranges(&self, blob: &BlobName, range: Range<u64>) -> Result<Vec<Range<u64>>, StorageError> {
        arguments::check_name(blob)?;
        arguments::check_aligned(&range)?;
        let blob = blob.clone();
        self.job(move |files| files.page_ranges(&blob, &range)).await
    }

    async fn raise_sequence_number(&self, blob: &BlobName, at_least: Term) -> Result<Term, StorageError> {
        arguments::check_name(blob)?;
        arguments::check_sequence_number(at_least)?;
        let blob = blob.clone();
        self.job(move |files| files.raise_sequence_number(&blob, at_least)).await
    }

    async fn set_sequence_number(
        &self,
        blob: &BlobName,
        number: Term,
        if_match: &ETag,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        arguments::check_name(blob)?;
        arguments::check_sequence_number(number)?;
        let (blob, if_match, lease) = (blob.clone(), if_match.clone(), lease.cloned());
        self.job(move |files| files.set_sequence_number(&blob, number, &if_match, lease.as_ref())).await
    }

    async fn put_block_blob(&self, blob: &BlobName, bytes: Bytes) -> Result<(), StorageError> {
        arguments::check_name(blob)?;
        let blob = blob.clone();
        self.job(move |files| files.put_block_blob(&blob, &bytes)).await
    }

    async fn list_blobs(
        &self,
        container: &ContainerName,
        prefix: &str,
    ) -> Result<Vec<BlobEntry>, StorageError> {
        let (container, prefix) = (container.clone(), prefix.to_owned());
        self.job(move |files| files.list_blobs(&container, &prefix)).await
    }

    async fn delete_blob(&self, blob: &BlobName, if_match: Option<&ETag>) -> Result<(), StorageError> {
        arguments::check_name(blob)?;
        let (blob, if_match) = (blob.clone(), if_match.cloned());
        self.job(move |files| files.delete_blob(&blob, if_match.as_ref())).await
    }

    async fn acquire_lease(&self, target: &LeaseTarget, duration: Duration) -> Result<LeaseId, StorageError> {
        arguments::check_duration(duration)?;
        let target = target.clone();
        self.job(move |files| files.acquire_lease(&target, duration)).await
    }

    async fn renew_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        // Not a job where nothing is wrong: a renewal must not wait behind writes to a slow disk.
        if self.0.renew_lease(target, lease).is_ok() {
            return Ok(());
        }
        let target = target.clone();
        self.job(move |files| Err(files.why_not_held(&target))).await
    }

    async fn release_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        let (target, lease) = (target.clone(), lease.clone());
        self.job(move |files| files.release_lease(&target, &lease)).await
    }

    async fn break_lease(&self, _blob: &BlobName, _if_match: &ETag) -> Result<(), StorageError> {
        Err(StorageError::Refused(
            "a lock on a directory ends with its process and cannot be broken".to_owned(),
        ))
    }

    async fn grant_reads(&self, _: &ContainerName) -> Result<ReadAccess, StorageError> {
        Ok(ReadAccess::None(
            "the messages are in files of this server's machine, which it hands out to nobody",
        ))
    }

    fn leases_last(&self) -> bool {
        true
    }
}
