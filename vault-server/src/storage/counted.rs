//! Counts the requests to another backend, for status pages, metrics and benchmarks.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::trace::SpanKind;
use vault_format::ids::{Position, Term};
use vault_format::names::ContainerName;

use super::ended::Ended;
use super::operation::Operation;
use super::{
    BlobEntry, BlobName, BlobProperties, BlobRead, ContainerEntry, ETag, LeaseId, LeaseTarget, Metadata,
    ReadAccess, Storage, StorageError,
};
use crate::env::Env;
use crate::traces;

/// Another backend, how many requests it was sent, and how they ended.
#[derive(Debug)]
pub struct Counted<S: ?Sized> {
    counts: [AtomicU64; Operation::ALL.len()],
    ended: Ended,
    env: Env,
    inner: Arc<S>,
}

/// How many requests of each kind were sent up to a moment, failed ones too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts([u64; Operation::ALL.len()]);

impl Counts {
    /// The requests of one kind.
    #[must_use]
    pub fn get(&self, operation: Operation) -> u64 {
        self.0[operation as usize]
    }

    /// All requests.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every kind with its requests.
    pub fn iter(&self) -> impl Iterator<Item = (Operation, u64)> + '_ {
        Operation::ALL.into_iter().map(|operation| (operation, self.get(operation)))
    }

    /// The requests since an `earlier` moment of the same [`Counted`].
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|index| self.0[index] - earlier.0[index]))
    }
}

impl<S: ?Sized> Counted<S> {
    /// Counts the requests to `inner` that go through the answer, and how long they take by the clock of `env`.
    #[must_use]
    pub fn new(inner: Arc<S>, env: &Env) -> Self {
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        Self { counts, ended: Ended::default(), env: env.clone(), inner }
    }

    /// The requests up to now.
    #[must_use]
    pub fn snapshot(&self) -> Counts {
        Counts(std::array::from_fn(|index| self.counts[index].load(Ordering::Relaxed)))
    }

    /// How requests have ended up to now.
    pub(crate) fn ended(&self) -> &Ended {
        &self.ended
    }

    async fn run<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        self.counts[operation as usize].fetch_add(1, Ordering::Relaxed);
        let clock = &self.env.clock;
        let (sent, ending) = (clock.monotonic(), self.ended.begin(operation));
        let answer = traces::part(operation.as_str(), SpanKind::Client, Vec::new, request).await;
        ending.answered(answer.as_ref().err(), clock.monotonic().saturating_sub(sent));
        answer
    }
}

#[async_trait]
impl<S: Storage + ?Sized> Storage for Counted<S> {
    async fn create_container(&self, name: &ContainerName, metadata: &Metadata) -> Result<(), StorageError> {
        self.run(Operation::CreateContainer, self.inner.create_container(name, metadata)).await
    }

    async fn container_metadata(&self, name: &ContainerName) -> Result<Metadata, StorageError> {
        self.run(Operation::ContainerMetadata, self.inner.container_metadata(name)).await
    }

    async fn set_container_metadata(
        &self,
        name: &ContainerName,
        metadata: &Metadata,
        lease: &LeaseId,
    ) -> Result<(), StorageError> {
        self.run(Operation::SetContainerMetadata, self.inner.set_container_metadata(name, metadata, lease))
            .await
    }

    async fn delete_container(&self, name: &ContainerName, lease: &LeaseId) -> Result<(), StorageError> {
        self.run(Operation::DeleteContainer, self.inner.delete_container(name, lease)).await
    }

    async fn list_containers(&self, prefix: &str) -> Result<Vec<ContainerEntry>, StorageError> {
        self.run(Operation::ListContainers, self.inner.list_containers(prefix)).await
    }

    async fn create_page_blob(
        &self,
        blob: &BlobName,
        bytes: u64,
        sequence_number: Term,
    ) -> Result<ETag, StorageError> {
        self.run(Operation::CreatePageBlob, self.inner.create_page_blob(blob, bytes, sequence_number)).await
    }

    async fn properties(&self, blob: &BlobName) -> Result<BlobProperties, StorageError> {
        self.run(Operation::Properties, self.inner.properties(blob)).await
    }

    async fn put_pages(
        &self,
        blob: &BlobName,
        position: Position,
        bytes: Bytes,
        fence: Term,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        self.run(Operation::PutPages, self.inner.put_pages(blob, position, bytes, fence, lease)).await
    }

    async fn rewrite_page(
        &self,
        blob: &BlobName,
        page: Bytes,
        fence: Term,
        if_match: &ETag,
        lease: &LeaseId,
    ) -> Result<ETag, StorageError> {
        self.run(Operation::RewritePage, self.inner.rewrite_page(blob, page, fence, if_match, lease)).await
    }

    async fn clear_pages(&self, blob: &BlobName, range: Range<u64>, fence: Term) -> Result<(), StorageError> {
        self.run(Operation::ClearPages, self.inner.clear_pages(blob, range, fence)).await
    }

    async fn read(&self, blob: &BlobName, range: Range<u64>) -> Result<BlobRead, StorageError> {
        self.run(Operation::Read, self.inner.read(blob, range)).await
    }

    async fn page_ranges(&self, blob: &BlobName, range: Range<u64>) -> Result<Vec<Range<u64>>, StorageError> {
        self.run(Operation::PageRanges, self.inner.page_ranges(blob, range)).await
    }

    async fn raise_sequence_number(&self, blob: &BlobName, at_least: Term) -> Result<Term, StorageError> {
        self.run(Operation::RaiseSequenceNumber, self.inner.raise_sequence_number(blob, at_least)).await
    }

    async fn set_sequence_number(
        &self,
        blob: &BlobName,
        number: Term,
        if_match: &ETag,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        self.run(Operation::SetSequenceNumber, self.inner.set_sequence_number(blob, number, if_match, lease))
            .await
    }

    async fn put_block_blob(&self, blob: &BlobName, bytes: Bytes) -> Result<(), StorageError> {
        self.run(Operation::PutBlockBlob, self.inner.put_block_blob(blob, bytes)).await
    }

    async fn list_blobs(
        &self,
        container: &ContainerName,
        prefix: &str,
    ) -> Result<Vec<BlobEntry>, StorageError> {
        self.run(Operation::ListBlobs, self.inner.list_blobs(container, prefix)).await
    }

    async fn delete_blob(&self, blob: &BlobName, if_match: Option<&ETag>) -> Result<(), StorageError> {
        self.run(Operation::DeleteBlob, self.inner.delete_blob(blob, if_match)).await
    }

    async fn acquire_lease(&self, target: &LeaseTarget, duration: Duration) -> Result<LeaseId, StorageError> {
        self.run(Operation::AcquireLease, self.inner.acquire_lease(target, duration)).await
    }

    async fn renew_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        self.run(Operation::RenewLease, self.inner.renew_lease(target, lease)).await
    }

    async fn release_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        self.run(Operation::ReleaseLease, self.inner.release_lease(target, lease)).await
    }

    async fn break_lease(&self, blob: &BlobName, if_match: &ETag) -> Result<(), StorageError> {
        self.run(Operation::BreakLease, self.inner.break_lease(blob, if_match)).await
    }

    async fn grant_reads(&self, container: &ContainerName) -> Result<ReadAccess, StorageError> {
        self.run(Operation::GrantReads, self.inner.grant_reads(container)).await
    }

    fn leases_last(&self) -> bool {
        self.inner.leases_last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    #[tokio::test]
    async fn every_request_is_counted_by_its_kind_also_a_failed_one() {
        let counted = Counted::new(Arc::new(MemoryStorage::new(Env::real())), &Env::real());
        let name = ContainerName::listed("abc").unwrap();
        counted.create_container(&name, &Metadata::new()).await.unwrap();
        let before = counted.snapshot();
        counted.create_container(&name, &Metadata::new()).await.unwrap_err();
        counted.list_containers("").await.unwrap();
        let counts = counted.snapshot();
        assert_eq!((counts.get(Operation::CreateContainer), counts.total()), (2, 3));
        assert_eq!(counts.since(&before).get(Operation::CreateContainer), 1);
    }

    #[tokio::test]
    async fn the_suite_passes_through_it() {
        let env = Env::real();
        let memory = || Arc::new(MemoryStorage::new(Env::real()));
        let storage = || Arc::new(Counted::new(memory(), &Env::real())) as Arc<dyn Storage>;
        crate::storage::conformance::run(&env, "counted-", storage).await;
    }
}
