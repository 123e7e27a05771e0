//! Storage in this process, gone with it: for tests, simulations and trying out.

mod chunks;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use vault_format::ids::{Position, Term};
use vault_format::names::ContainerName;

use self::chunks::Chunks;
use super::leases::{self, Leases};
use super::{
    BlobEntry, BlobName, BlobProperties, BlobRead, ContainerEntry, ETag, LeaseId, LeaseTarget, Metadata,
    ReadAccess, Storage, StorageError, arguments,
};
use crate::env::Env;

/// Everything in one locked structure: requests are atomic and in order, as the contract asks.
#[derive(Debug)]
pub struct MemoryStorage {
    env: Env,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    containers: BTreeMap<ContainerName, Container>,
    leases: Leases<()>,
    changes: u64,
}

#[derive(Debug)]
struct Container {
    metadata: Metadata,
    blobs: BTreeMap<String, Blob>,
}

#[derive(Debug)]
struct Blob {
    /// Counted over all blobs, so that a successor of the same name never has it again.
    change: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Pages(Pages),
    Block(Bytes),
}

#[derive(Debug)]
struct Pages {
    bytes: u64,
    sequence_number: Term,
    chunks: Chunks,
}

impl MemoryStorage {
    /// Empty storage. Leases run out by the clock of `env`.
    #[must_use]
    pub fn new(env: Env) -> Self {
        Self { env, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The locked state, if `target` exists and a change of it that names `lease` may go on.
    fn state_to_change(
        &self,
        target: &LeaseTarget,
        lease: Option<&LeaseId>,
    ) -> Result<MutexGuard<'_, State>, StorageError> {
        let mut state = self.state();
        state.check_exists(target)?;
        state.leases.check(target, lease, self.env.clock.monotonic())?;
        Ok(state)
    }
}

impl State {
    fn container(&self, name: &ContainerName) -> Result<&Container, StorageError> {
        self.containers.get(name).ok_or(StorageError::NotFound)
    }

    fn blob(&self, blob: &BlobName) -> Result<&Blob, StorageError> {
        self.container(&blob.container)?.blobs.get(&blob.name).ok_or(StorageError::NotFound)
    }

    fn blobs(&mut self, container: &ContainerName) -> Result<&mut BTreeMap<String, Blob>, StorageError> {
        self.containers.get_mut(container).map(|found| &mut found.blobs).ok_or(StorageError::NotFound)
    }

    fn pages(&mut self, blob: &BlobName) -> Result<&mut Pages, StorageError> {
        let found = self.blobs(&blob.container)?.get_mut(&blob.name).ok_or(StorageError::NotFound)?;
        match &mut found.content {
            Content::Pages(pages) => Ok(pages),
            Content::Block(_) => Err(arguments::not_a_page_blob(blob)),
        }
    }

    fn check_exists(&self, target: &LeaseTarget) -> Result<(), StorageError> {
        match target {
            LeaseTarget::Container(name) => self.container(name).map(|_| ()),
            LeaseTarget::Blob(blob) => self.blob(blob).map(|_| ()),
        }
    }

    fn next_change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    /// Sets the sequence number and gives the blob its next ETag.
    fn number(&mut self, blob: &BlobName, number: impl FnOnce(Term) -> Term) -> Result<Term, StorageError> {
        let change = self.next_change();
        let pages = self.pages(blob)?;
        pages.sequence_number = number(pages.sequence_number);
        let in_force = pages.sequence_number;
        self.blobs(&blob.container)?.entry(blob.name.clone()).and_modify(|found| found.change = change);
        Ok(in_force)
    }

    /// No blob may have the name of another's folder: the file backend could not store it.
    fn check_folders(&mut self, blob: &BlobName) -> Result<(), StorageError> {
        let blobs = self.blobs(&blob.container)?;
        let folder = format!("{}/", blob.name);
        let is_folder =
            blobs.range(folder.clone()..).next().is_some_and(|(name, _)| name.starts_with(&folder));
        let in_blob = blob.name.match_indices('/').any(|(at, _)| blobs.contains_key(&blob.name[..at]));
        if is_folder || in_blob {
            return Err(StorageError::Refused(format!(
                "{blob} and another blob would be folder and blob of one name"
            )));
        }
        Ok(())
    }
}

impl Blob {
    fn etag(&self) -> ETag {
        ETag(self.change.to_string())
    }

    fn bytes(&self) -> u64 {
        match &self.content {
            Content::Pages(pages) => pages.bytes,
            Content::Block(bytes) => bytes.len() as u64,
        }
    }

    fn sequence_number(&self) -> Term {
        match &self.content {
            Content::Pages(pages) => pages.sequence_number,
            Content::Block(_) => Term::ZERO,
        }
    }
}

impl Pages {
    fn check(&self, range: &Range<u64>, fence: Term) -> Result<(), StorageError> {
        arguments::check_inside(range, self.bytes)?;
        if self.sequence_number == fence { Ok(()) } else { Err(StorageError::PreconditionFailed) }
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn create_container(&self, name: &ContainerName, metadata: &Metadata) -> Result<(), StorageError> {
        let mut state = self.state();
        if state.containers.contains_key(name) {
            return Err(StorageError::AlreadyExists);
        }
        let container = Container { metadata: metadata.clone(), blobs: BTreeMap::new() };
        state.containers.insert(name.clone(), container);
        Ok(())
    }

    async fn container_metadata(&self, name: &ContainerName) -> Result<Metadata, StorageError> {
        Ok(self.state().container(name)?.metadata.clone())
    }

    async fn set_container_metadata(
        &self,
        name: &ContainerName,
        metadata: &Metadata,
        lease: &LeaseId,
    ) -> Result<(), StorageError> {
        let mut state = self.state_to_change(&LeaseTarget::Container(name.clone()), Some(lease))?;
        state.containers.entry(name.clone()).and_modify(|found| found.metadata = metadata.clone());
        Ok(())
    }

    async fn delete_container(&self, name: &ContainerName, lease: &LeaseId) -> Result<(), StorageError> {
        let target = LeaseTarget::Container(name.clone());
        let mut state = self.state_to_change(&target, Some(lease))?;
        state.containers.remove(name);
        state.leases.forget(&target);
        Ok(())
    }

    async fn list_containers(&self, prefix: &str) -> Result<Vec<ContainerEntry>, StorageError> {
        let state = self.state();
        let listed = state.containers.iter().filter(|(name, _)| name.as_str().starts_with(prefix));
        Ok(listed
            .map(|(name, found)| ContainerEntry {
                name: name.clone(),
                account: String::new(),
                metadata: found.metadata.clone(),
            })
            .collect())
    }

    async fn create_page_blob(
        &self,
        blob: &BlobName,
        bytes: u64,
        sequence_number: Term,
    ) -> Result<ETag, StorageError> {
        arguments::check_create(blob, bytes, sequence_number)?;
        let mut state = self.state();
        if state.blobs(&blob.container)?.contains_key(&blob.name) {
            return Err(StorageError::AlreadyExists);
        }
        state.check_folders(blob)?;
        let content = Content::Pages(Pages { bytes, sequence_number, chunks: Chunks::default() });
        let created = Blob { change: state.next_change(), content };
        let etag = created.etag();
        state.blobs(&blob.container)?.insert(blob.name.clone(), created);
        Ok(etag)
    }

    async fn properties(&self, blob: &BlobName) -> Result<BlobProperties, StorageError> {
        let state = self.state();
        let found = state.blob(blob)?;
        Ok(BlobProperties {
            bytes: found.bytes(),
            sequence_number: found.sequence_number(),
            etag: found.etag(),
        })
    }

    async fn put_pages(
        &self,
        blob: &BlobName,
        position: Position,
        bytes: Bytes,
        fence: Term,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        let range = arguments::check_put(position, bytes.len())?;
        let mut state = self.state_to_change(&LeaseTarget::Blob(blob.clone()), lease)?;
        let pages = state.pages(blob)?;
        pages.check(&range, fence)?;
        pages.chunks.write(range.start, &bytes);
        let change = state.next_change();
        state.blobs(&blob.container)?.entry(blob.name.clone()).and_modify(|found| found.change = change);
        Ok(())
    }

    async fn rewrite_page(
        &self,
        blob: &BlobName,
        page: Bytes,
        fence: Term,
        if_match: &ETag,
        lease: &LeaseId,
    ) -> Result<ETag, StorageError> {
        let range = arguments::check_rewrite(page.len())?;
        let mut state = self.state_to_change(&LeaseTarget::Blob(blob.clone()), Some(lease))?;
        if state.blob(blob)?.etag() != *if_match {
            return Err(StorageError::PreconditionFailed);
        }
        let pages = state.pages(blob)?;
        pages.check(&range, fence)?;
        pages.chunks.write(range.start, &page);
        // It stays the number that it is.
        state.number(blob, |number| number)?;
        Ok(state.blob(blob)?.etag())
    }

    async fn clear_pages(&self, blob: &BlobName, range: Range<u64>, fence: Term) -> Result<(), StorageError> {
        arguments::check_pages(&range)?;
        let mut state = self.state_to_change(&LeaseTarget::Blob(blob.clone()), None)?;
        let pages = state.pages(blob)?;
        pages.check(&range, fence)?;
        pages.chunks.clear(&range);
        Ok(())
    }

    async fn read(&self, blob: &BlobName, range: Range<u64>) -> Result<BlobRead, StorageError> {
        arguments::check_read(&range)?;
        let state = self.state();
        let found = state.blob(blob)?;
        arguments::check_inside(&range, found.bytes())?;
        let bytes = match &found.content {
            Content::Pages(pages) => pages.chunks.read(&range).into(),
            Content::Block(bytes) => {
                let at = |at: u64| usize::try_from(at).expect("a range inside a block blob fits in memory");
                bytes.slice(at(range.start)..at(range.end))
            }
        };
        Ok(BlobRead { bytes, sequence_number: found.sequence_number(), etag: found.etag() })
    }

    async fn page_ranges(&self, blob: &BlobName, range: Range<u64>) -> Result<Vec<Range<u64>>, StorageError> {
        arguments::check_aligned(&range)?;
        let mut state = self.state();
        let pages = state.pages(blob)?;
        arguments::check_inside(&range, pages.bytes)?;
        Ok(pages.chunks.page_ranges(&range))
    }

    async fn raise_sequence_number(&self, blob: &BlobName, at_least: Term) -> Result<Term, StorageError> {
        arguments::check_sequence_number(at_least)?;
        let mut state = self.state_to_change(&LeaseTarget::Blob(blob.clone()), None)?;
        state.number(blob, |number| number.max(at_least))
    }

    async fn set_sequence_number(
        &self,
        blob: &BlobName,
        number: Term,
        if_match: &ETag,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        arguments::check_sequence_number(number)?;
        let mut state = self.state_to_change(&LeaseTarget::Blob(blob.clone()), lease)?;
        if state.blob(blob)?.etag() != *if_match {
            return Err(StorageError::PreconditionFailed);
        }
        state.number(blob, |_| number).map(|_| ())
    }

    async fn put_block_blob(&self, blob: &BlobName, bytes: Bytes) -> Result<(), StorageError> {
        arguments::check_name(blob)?;
        let mut state = self.state();
        state.leases.check(&LeaseTarget::Blob(blob.clone()), None, self.env.clock.monotonic())?;
        if state.pages(blob).is_ok() {
            return Err(arguments::not_a_block_blob(blob));
        }
        state.check_folders(blob)?;
        let created = Blob { change: state.next_change(), content: Content::Block(bytes) };
        state.blobs(&blob.container)?.insert(blob.name.clone(), created);
        Ok(())
    }

    async fn list_blobs(
        &self,
        container: &ContainerName,
        prefix: &str,
    ) -> Result<Vec<BlobEntry>, StorageError> {
        let state = self.state();
        let blobs = &state.container(container)?.blobs;
        let listed = blobs.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
        Ok(listed
            .map(|(name, found)| BlobEntry { name: name.clone(), bytes: found.bytes(), etag: found.etag() })
            .collect())
    }

    async fn delete_blob(&self, blob: &BlobName, if_match: Option<&ETag>) -> Result<(), StorageError> {
        let mut state = self.state_to_change(&LeaseTarget::Blob(blob.clone()), None)?;
        if if_match.is_some_and(|etag| state.blob(blob).is_ok_and(|found| found.etag() != *etag)) {
            return Err(StorageError::PreconditionFailed);
        }
        state.blobs(&blob.container)?.remove(&blob.name);
        Ok(())
    }

    async fn acquire_lease(&self, target: &LeaseTarget, duration: Duration) -> Result<LeaseId, StorageError> {
        arguments::check_duration(duration)?;
        let now = self.env.clock.monotonic();
        let mut state = self.state();
        state.check_exists(target)?;
        state.leases.acquire(target, leases::new_id(&self.env), Some(duration), now, ())
    }

    async fn renew_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        let now = self.env.clock.monotonic();
        let mut state = self.state();
        state.check_exists(target)?;
        state.leases.renew(target, lease, now)
    }

    async fn release_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        let now = self.env.clock.monotonic();
        let mut state = self.state();
        state.check_exists(target)?;
        state.leases.release(target, lease, now)
    }

    async fn break_lease(&self, blob: &BlobName, if_match: &ETag) -> Result<(), StorageError> {
        let now = self.env.clock.monotonic();
        let mut state = self.state();
        if state.blob(blob)?.etag() != *if_match {
            return Err(StorageError::PreconditionFailed);
        }
        state.leases.break_lease(&LeaseTarget::Blob(blob.clone()), now)
    }

    async fn grant_reads(&self, _: &ContainerName) -> Result<ReadAccess, StorageError> {
        Ok(ReadAccess::None("the messages are in this server's memory, where nobody else can read them"))
    }

    fn leases_last(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let env = Env::real();
        let storage = || Arc::new(MemoryStorage::new(Env::real())) as Arc<dyn Storage>;
        crate::storage::conformance::run(&env, "memory-", storage).await;
    }
}
