//! The requests, each turned into one that stands alone: it may be carried out after its sender is gone.

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use vault_format::ids::{Position, Term};
use vault_format::limits::PAGE_BYTES;
use vault_format::names::ContainerName;

use super::super::arguments::PAGE;
use super::super::operation::Operation;
use super::super::{
    BlobEntry, BlobName, BlobProperties, BlobRead, ContainerEntry, ETag, LeaseId, LeaseTarget, Metadata,
    ReadAccess, Storage, StorageError,
};
use super::Faulty;

fn shown(target: &LeaseTarget) -> String {
    match target {
        LeaseTarget::Container(name) => name.to_string(),
        LeaseTarget::Blob(blob) => blob.to_string(),
    }
}

impl<S: Storage + ?Sized + 'static> Faulty<S> {
    /// Carries out a request that cannot be torn.
    async fn send<T: Send + 'static>(
        &self,
        operation: Operation,
        target: String,
        request: impl Future<Output = Result<T, StorageError>> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.carry_out(operation, target, request.boxed(), |_| futures::future::ready(()).boxed()).await
    }
}

#[async_trait]
impl<S: Storage + ?Sized + 'static> Storage for Faulty<S> {
    async fn create_container(&self, name: &ContainerName, metadata: &Metadata) -> Result<(), StorageError> {
        let inner = self.inner.clone();
        let name = name.clone();
        let metadata = metadata.clone();
        self.send(Operation::CreateContainer, name.to_string(), async move {
            inner.create_container(&name, &metadata).await
        })
        .await
    }

    async fn container_metadata(&self, name: &ContainerName) -> Result<Metadata, StorageError> {
        let inner = self.inner.clone();
        let name = name.clone();
        self.send(Operation::ContainerMetadata, name.to_string(), async move {
            inner.container_metadata(&name).await
        })
        .await
    }

    async fn set_container_metadata(
        &self,
        name: &ContainerName,
        metadata: &Metadata,
        lease: &LeaseId,
    ) -> Result<(), StorageError> {
        let inner = self.inner.clone();
        let name = name.clone();
        let metadata = metadata.clone();
        let lease = lease.clone();
        self.send(Operation::SetContainerMetadata, name.to_string(), async move {
            inner.set_container_metadata(&name, &metadata, &lease).await
        })
        .await
    }

    async fn delete_container(&self, name: &ContainerName, lease: &LeaseId) -> Result<(), StorageError> {
        let inner = self.inner.clone();
        let name = name.clone();
        let lease = lease.clone();
        self.send(Operation::DeleteContainer, name.to_string(), async move {
            inner.delete_container(&name, &lease).await
        })
        .await
    }

    async fn list_containers(&self, prefix: &str) -> Result<Vec<ContainerEntry>, StorageError> {
        let inner = self.inner.clone();
        let prefix = prefix.to_owned();
        self.send(
            Operation::ListContainers,
            prefix.clone(),
            async move { inner.list_containers(&prefix).await },
        )
        .await
    }

    async fn create_page_blob(
        &self,
        blob: &BlobName,
        bytes: u64,
        sequence_number: Term,
    ) -> Result<ETag, StorageError> {
        let inner = self.inner.clone();
        let blob = blob.clone();
        self.send(Operation::CreatePageBlob, blob.to_string(), async move {
            inner.create_page_blob(&blob, bytes, sequence_number).await
        })
        .await
    }

    async fn properties(&self, blob: &BlobName) -> Result<BlobProperties, StorageError> {
        let inner = self.inner.clone();
        let blob = blob.clone();
        self.send(Operation::Properties, blob.to_string(), async move { inner.properties(&blob).await }).await
    }

    async fn put_pages(
        &self,
        blob: &BlobName,
        position: Position,
        bytes: Bytes,
        fence: Term,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        let put = |blob: BlobName, position: Position, bytes: Bytes, lease: Option<LeaseId>| {
            let inner = self.inner.clone();
            async move { inner.put_pages(&blob, position, bytes, fence, lease.as_ref()).await }
        };
        let whole = put(blob.clone(), position, bytes.clone(), lease.cloned()).boxed();
        self.carry_out(Operation::PutPages, blob.to_string(), whole, |pages| {
            let stored = self.draw(pages, bytes.len() / PAGE);
            let puts: Vec<_> = stored
                .into_iter()
                .map(|page| {
                    let part = bytes.slice(page * PAGE..(page + 1) * PAGE);
                    put(blob.clone(), position + page as u64 * PAGE_BYTES, part, lease.cloned())
                })
                .collect();
            async move {
                for put in puts {
                    let _unheard = put.await;
                }
            }
            .boxed()
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
        let inner = self.inner.clone();
        let (blob, if_match, lease) = (blob.clone(), if_match.clone(), lease.clone());
        self.send(Operation::RewritePage, blob.to_string(), async move {
            inner.rewrite_page(&blob, page, fence, &if_match, &lease).await
        })
        .await
    }

    async fn clear_pages(&self, blob: &BlobName, range: Range<u64>, fence: Term) -> Result<(), StorageError> {
        let clear = |blob: BlobName, range: Range<u64>| {
            let inner = self.inner.clone();
            async move { inner.clear_pages(&blob, range, fence).await }
        };
        let whole = clear(blob.clone(), range.clone()).boxed();
        self.carry_out(Operation::ClearPages, blob.to_string(), whole, |pages| {
            let count = usize::try_from((range.end - range.start) / PAGE_BYTES).unwrap_or(usize::MAX);
            let cleared: Vec<_> = self
                .draw(pages, count)
                .into_iter()
                .map(|page| {
                    let at = range.start + page as u64 * PAGE_BYTES;
                    clear(blob.clone(), at..at + PAGE_BYTES)
                })
                .collect();
            async move {
                for clear in cleared {
                    let _unheard = clear.await;
                }
            }
            .boxed()
        })
        .await
    }

    async fn read(&self, blob: &BlobName, range: Range<u64>) -> Result<BlobRead, StorageError> {
        let inner = self.inner.clone();
        let blob = blob.clone();
        self.send(Operation::Read, blob.to_string(), async move { inner.read(&blob, range).await }).await
    }

    async fn page_ranges(&self, blob: &BlobName, range: Range<u64>) -> Result<Vec<Range<u64>>, StorageError> {
        let inner = self.inner.clone();
        let blob = blob.clone();
        self.send(
            Operation::PageRanges,
            blob.to_string(),
            async move { inner.page_ranges(&blob, range).await },
        )
        .await
    }

    async fn raise_sequence_number(&self, blob: &BlobName, at_least: Term) -> Result<Term, StorageError> {
        let inner = self.inner.clone();
        let blob = blob.clone();
        self.send(Operation::RaiseSequenceNumber, blob.to_string(), async move {
            inner.raise_sequence_number(&blob, at_least).await
        })
        .await
    }

    async fn set_sequence_number(
        &self,
        blob: &BlobName,
        number: Term,
        if_match: &ETag,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        let inner = self.inner.clone();
        let blob = blob.clone();
        let if_match = if_match.clone();
        let lease = lease.cloned();
        self.send(Operation::SetSequenceNumber, blob.to_string(), async move {
            inner.set_sequence_number(&blob, number, &if_match, lease.as_ref()).await
        })
        .await
    }

    async fn put_block_blob(&self, blob: &BlobName, bytes: Bytes) -> Result<(), StorageError> {
        let inner = self.inner.clone();
        let blob = blob.clone();
        self.send(Operation::PutBlockBlob, blob.to_string(), async move {
            inner.put_block_blob(&blob, bytes).await
        })
        .await
    }

    async fn list_blobs(
        &self,
        container: &ContainerName,
        prefix: &str,
    ) -> Result<Vec<BlobEntry>, StorageError> {
        let inner = self.inner.clone();
        let container = container.clone();
        let prefix = prefix.to_owned();
        self.send(Operation::ListBlobs, format!("{container}/{prefix}"), async move {
            inner.list_blobs(&container, &prefix).await
        })
        .await
    }

    async fn delete_blob(&self, blob: &BlobName, if_match: Option<&ETag>) -> Result<(), StorageError> {
        let inner = self.inner.clone();
        let blob = blob.clone();
        let if_match = if_match.cloned();
        self.send(Operation::DeleteBlob, blob.to_string(), async move {
            inner.delete_blob(&blob, if_match.as_ref()).await
        })
        .await
    }

    async fn acquire_lease(&self, target: &LeaseTarget, duration: Duration) -> Result<LeaseId, StorageError> {
        let inner = self.inner.clone();
        let target = target.clone();
        self.send(Operation::AcquireLease, shown(&target), async move {
            inner.acquire_lease(&target, duration).await
        })
        .await
    }

    async fn renew_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        let inner = self.inner.clone();
        let target = target.clone();
        let lease = lease.clone();
        self.send(
            Operation::RenewLease,
            shown(&target),
            async move { inner.renew_lease(&target, &lease).await },
        )
        .await
    }

    async fn release_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        let inner = self.inner.clone();
        let target = target.clone();
        let lease = lease.clone();
        self.send(Operation::ReleaseLease, shown(&target), async move {
            inner.release_lease(&target, &lease).await
        })
        .await
    }

    async fn break_lease(&self, blob: &BlobName, if_match: &ETag) -> Result<(), StorageError> {
        let inner = self.inner.clone();
        let blob = blob.clone();
        let if_match = if_match.clone();
        self.send(Operation::BreakLease, blob.to_string(), async move {
            inner.break_lease(&blob, &if_match).await
        })
        .await
    }

    async fn grant_reads(&self, container: &ContainerName) -> Result<ReadAccess, StorageError> {
        let inner = self.inner.clone();
        let container = container.clone();
        self.send(
            Operation::GrantReads,
            container.to_string(),
            async move { inner.grant_reads(&container).await },
        )
        .await
    }

    fn leases_last(&self) -> bool {
        self.inner.leases_last()
    }
}
