//! Several storages as one: streams may live in different storage accounts.
//!
//! A container stands in one account. Where, is learned from listings, from creating it, or by asking each account, the
//! main one first; it is remembered until a request finds it gone.

use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use vault_format::ids::{Position, Term};
use vault_format::names::ContainerName;

use super::{
    ACCOUNT, BlobEntry, BlobName, BlobProperties, BlobRead, ContainerEntry, ETag, LeaseId, LeaseTarget,
    Metadata, ReadAccess, Storage, StorageError,
};

/// Storage accounts by their names. The first is the main one.
#[derive(Debug)]
pub struct Accounts {
    all: Vec<(String, Arc<dyn Storage>)>,
    /// The account, by its place in `all`, of every container that was seen.
    places: Mutex<HashMap<ContainerName, usize>>,
}

impl Accounts {
    /// Puts accounts together.
    ///
    /// # Panics
    ///
    /// Where there is none.
    #[must_use]
    pub fn new(all: Vec<(String, Arc<dyn Storage>)>) -> Self {
        assert!(!all.is_empty(), "there is a main account");
        Self { all, places: Mutex::default() }
    }

    fn main(&self) -> &Arc<dyn Storage> {
        &self.all[0].1
    }

    fn places(&self) -> MutexGuard<'_, HashMap<ContainerName, usize>> {
        // The map is whole between any two of its operations.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn place(&self, container: &ContainerName) -> Result<usize, StorageError> {
        if self.all.len() == 1 {
            return Ok(0);
        }
        let remembered = self.places().get(container).copied();
        if let Some(place) = remembered {
            return Ok(place);
        }
        for (place, (_, storage)) in self.all.iter().enumerate() {
            match storage.container_metadata(container).await {
                Err(StorageError::NotFound) => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    self.places().insert(container.clone(), place);
                    return Ok(place);
                }
            }
        }
        Err(StorageError::NotFound)
    }

    /// Sends a request to the account that has the container.
    async fn at<T, F>(
        &self,
        container: &ContainerName,
        request: impl FnOnce(Arc<dyn Storage>) -> F,
    ) -> Result<T, StorageError>
    where
        F: Future<Output = Result<T, StorageError>>,
    {
        let place = self.place(container).await?;
        let outcome = request(self.all[place].1.clone()).await;
        if matches!(outcome, Err(StorageError::NotFound)) {
            self.places().remove(container);
        }
        outcome
    }
}

fn container_of(target: &LeaseTarget) -> &ContainerName {
    match target {
        LeaseTarget::Container(name) => name,
        LeaseTarget::Blob(blob) => &blob.container,
    }
}

#[async_trait]
impl Storage for Accounts {
    async fn create_container(&self, name: &ContainerName, metadata: &Metadata) -> Result<(), StorageError> {
        let place = match metadata.get(ACCOUNT) {
            None => 0,
            Some(wanted) => {
                let found = self.all.iter().position(|(account, _)| account == wanted);
                found.ok_or_else(|| {
                    StorageError::Refused(format!(
                        "`{}` is not one of the storage accounts",
                        wanted.escape_debug()
                    ))
                })?
            }
        };
        self.all[place].1.create_container(name, metadata).await?;
        self.places().insert(name.clone(), place);
        Ok(())
    }

    async fn container_metadata(&self, name: &ContainerName) -> Result<Metadata, StorageError> {
        self.at(name, |storage| async move { storage.container_metadata(name).await }).await
    }

    async fn set_container_metadata(
        &self,
        name: &ContainerName,
        metadata: &Metadata,
        lease: &LeaseId,
    ) -> Result<(), StorageError> {
        self.at(name, |storage| async move { storage.set_container_metadata(name, metadata, lease).await })
            .await
    }

    async fn delete_container(&self, name: &ContainerName, lease: &LeaseId) -> Result<(), StorageError> {
        self.at(name, |storage| async move { storage.delete_container(name, lease).await }).await?;
        self.places().remove(name);
        Ok(())
    }

    async fn list_containers(&self, prefix: &str) -> Result<Vec<ContainerEntry>, StorageError> {
        let mut all = Vec::new();
        for (place, (account, storage)) in self.all.iter().enumerate() {
            let listed = storage.list_containers(prefix).await?;
            all.extend(
                listed.into_iter().map(|entry| (place, ContainerEntry { account: account.clone(), ..entry })),
            );
        }
        // The sort is stable: of two containers with one name, the earlier account's comes first, and is remembered.
        all.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        let mut places = self.places();
        for (place, entry) in all.iter().rev() {
            places.insert(entry.name.clone(), *place);
        }
        drop(places);
        Ok(all.into_iter().map(|(_, entry)| entry).collect())
    }

    async fn create_page_blob(
        &self,
        blob: &BlobName,
        bytes: u64,
        sequence_number: Term,
    ) -> Result<ETag, StorageError> {
        self.at(&blob.container, |storage| async move {
            storage.create_page_blob(blob, bytes, sequence_number).await
        })
        .await
    }

    async fn properties(&self, blob: &BlobName) -> Result<BlobProperties, StorageError> {
        self.at(&blob.container, |storage| async move { storage.properties(blob).await }).await
    }

    async fn put_pages(
        &self,
        blob: &BlobName,
        position: Position,
        bytes: Bytes,
        fence: Term,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        self.at(&blob.container, |storage| async move {
            storage.put_pages(blob, position, bytes, fence, lease).await
        })
        .await
    }

    async fn rewrite_page(
        &self,
        blob: &BlobName,
        page: Bytes,
        fence: Term,
        if_match: &ETag,
        lease: &LeaseId,
    ) -> Result<ETag, StorageError> {
        self.at(&blob.container, |storage| async move {
            storage.rewrite_page(blob, page, fence, if_match, lease).await
        })
        .await
    }

    async fn clear_pages(&self, blob: &BlobName, range: Range<u64>, fence: Term) -> Result<(), StorageError> {
        self.at(&blob.container, |storage| async move { storage.clear_pages(blob, range, fence).await }).await
    }

    async fn read(&self, blob: &BlobName, range: Range<u64>) -> Result<BlobRead, StorageError> {
        self.at(&blob.container, |storage| async move { storage.read(blob, range).await }).await
    }

    async fn page_ranges(&self, blob: &BlobName, range: Range<u64>) -> Result<Vec<Range<u64>>, StorageError> {
        self.at(&blob.container, |storage| async move { storage.page_ranges(blob, range).await }).await
    }

    async fn raise_sequence_number(&self, blob: &BlobName, at_least: Term) -> Result<Term, StorageError> {
        self.at(&blob.container, |storage| async move { storage.raise_sequence_number(blob, at_least).await })
            .await
    }

    async fn set_sequence_number(
        &self,
        blob: &BlobName,
        number: Term,
        if_match: &ETag,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        self.at(&blob.container, |storage| async move {
            storage.set_sequence_number(blob, number, if_match, lease).await
        })
        .await
    }

    async fn put_block_blob(&self, blob: &BlobName, bytes: Bytes) -> Result<(), StorageError> {
        self.at(&blob.container, |storage| async move { storage.put_block_blob(blob, bytes).await }).await
    }

    async fn list_blobs(
        &self,
        container: &ContainerName,
        prefix: &str,
    ) -> Result<Vec<BlobEntry>, StorageError> {
        self.at(container, |storage| async move { storage.list_blobs(container, prefix).await }).await
    }

    async fn delete_blob(&self, blob: &BlobName, if_match: Option<&ETag>) -> Result<(), StorageError> {
        self.at(&blob.container, |storage| async move { storage.delete_blob(blob, if_match).await }).await
    }

    async fn acquire_lease(&self, target: &LeaseTarget, duration: Duration) -> Result<LeaseId, StorageError> {
        self.at(container_of(target), |storage| async move { storage.acquire_lease(target, duration).await })
            .await
    }

    async fn renew_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        self.at(container_of(target), |storage| async move { storage.renew_lease(target, lease).await }).await
    }

    async fn release_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        self.at(container_of(target), |storage| async move { storage.release_lease(target, lease).await })
            .await
    }

    async fn break_lease(&self, blob: &BlobName, if_match: &ETag) -> Result<(), StorageError> {
        self.at(&blob.container, |storage| async move { storage.break_lease(blob, if_match).await }).await
    }

    async fn grant_reads(&self, container: &ContainerName) -> Result<ReadAccess, StorageError> {
        self.at(container, |storage| async move { storage.grant_reads(container).await }).await
    }

    /// The main account has the vault's leader.
    fn leases_last(&self) -> bool {
        self.main().leases_last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use crate::storage::counted::Counted;
    use crate::storage::memory::MemoryStorage;
    use crate::storage::operation::Operation;

    struct Two {
        one: Arc<Counted<MemoryStorage>>,
        two: Arc<Counted<MemoryStorage>>,
        both: Accounts,
    }

    fn two() -> Two {
        let new = || Arc::new(Counted::new(Arc::new(MemoryStorage::new(Env::real())), &Env::real()));
        let (one, two) = (new(), new());
        let both = Accounts::new(vec![("one".to_owned(), one.clone()), ("two".to_owned(), two.clone())]);
        Two { one, two, both }
    }

    fn name(name: &str) -> ContainerName {
        ContainerName::listed(name).unwrap()
    }

    fn in_account(account: &str) -> Metadata {
        Metadata::from([(ACCOUNT.to_owned(), account.to_owned())])
    }

    #[tokio::test]
    async fn a_container_is_created_in_the_account_that_its_metadata_names_else_in_the_main_one() {
        let Two { one, two, both } = two();
        both.create_container(&name("plain"), &Metadata::new()).await.unwrap();
        both.create_container(&name("first"), &in_account("one")).await.unwrap();
        both.create_container(&name("second"), &in_account("two")).await.unwrap();
        let refused = both.create_container(&name("third"), &in_account("three")).await.unwrap_err();
        assert!(matches!(refused, StorageError::Refused(why) if why.contains("`three`")));
        one.container_metadata(&name("plain")).await.unwrap();
        one.container_metadata(&name("first")).await.unwrap();
        assert_eq!(two.container_metadata(&name("second")).await.unwrap(), in_account("two"));
        assert_eq!(two.list_containers("").await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn listings_are_merged_and_doubles_kept() {
        let Two { one, two, both } = two();
        for (storage, names) in [(&one, ["aaa", "double"]), (&two, ["bbb", "double"])] {
            for each in names {
                storage.create_container(&name(each), &Metadata::new()).await.unwrap();
            }
        }
        let listed = both.list_containers("").await.unwrap();
        let found: Vec<_> =
            listed.iter().map(|entry| (entry.name.as_str(), entry.account.as_str())).collect();
        assert_eq!(found, [("aaa", "one"), ("bbb", "two"), ("double", "one"), ("double", "two")]);
    }

    #[tokio::test]
    async fn a_container_that_was_never_seen_is_looked_for_once_and_one_that_was_listed_not_at_all() {
        let Two { one, two, both } = two();
        for each in ["sought", "listed"] {
            two.create_container(&name(each), &Metadata::new()).await.unwrap();
        }
        for _ in 0..2 {
            both.list_blobs(&name("sought"), "").await.unwrap();
        }
        assert_eq!(one.snapshot().get(Operation::ContainerMetadata), 1);
        both.list_containers("").await.unwrap();
        both.list_blobs(&name("listed"), "").await.unwrap();
        assert_eq!(one.snapshot().get(Operation::ContainerMetadata), 1);
        assert_eq!(one.snapshot().get(Operation::ListBlobs), 0);
    }

    #[tokio::test]
    async fn a_place_is_forgotten_when_the_container_is_found_gone() {
        let Two { one, two, both } = two();
        both.create_container(&name("moved"), &in_account("two")).await.unwrap();
        let target = LeaseTarget::Container(name("moved"));
        let lease = two.acquire_lease(&target, Duration::from_secs(15)).await.unwrap();
        two.delete_container(&name("moved"), &lease).await.unwrap();
        one.create_container(&name("moved"), &Metadata::new()).await.unwrap();
        assert_eq!(both.list_blobs(&name("moved"), "").await.unwrap_err(), StorageError::NotFound);
        both.list_blobs(&name("moved"), "").await.unwrap();
    }

    #[tokio::test]
    async fn the_suite_passes_through_it() {
        let storage = || Arc::new(two().both) as Arc<dyn Storage>;
        crate::storage::conformance::run(&Env::real(), "accounts-", storage).await;
    }
}
