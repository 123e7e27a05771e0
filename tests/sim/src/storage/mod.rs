//! The page blob service, and the way of each server to it.
//!
//! The service is the memory backend, which keeps the contract: a request is carried out in one step. Everything that can
//! go wrong goes wrong on the way:
//!
//! ```text
//!   server -- late, held up, lost --> carried out, in part, or not --> late, held up, lost -- server (or nobody)
//! ```
//!
//! A request is on its way by itself: whoever sent it may have given up, stand still, or be dead when it lands. Nothing is
//! carried out twice; a sender that tries again sends another request, and both may land.

mod service;
mod travel;

use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use vault_format::ids::{Position, Term};
use vault_format::limits::PAGE_BYTES;
use vault_format::names::{ContainerName, LEADER_BLOB};
use vault_server::env::Env;
use vault_server::limits::{AZURE_LARGE_REQUEST_TIME, AZURE_SMALL_BYTES, AZURE_SMALL_REQUEST_TIME};
use vault_server::storage::memory::MemoryStorage;
use vault_server::storage::operation::Operation;
use vault_server::storage::twice::twice;
use vault_server::storage::{
    BlobEntry, BlobName, BlobProperties, BlobRead, ContainerEntry, ETag, LeaseId, LeaseTarget, Metadata,
    ReadAccess, Storage, StorageError,
};
use vault_tests::history::Event;

use self::service::PutPages;
pub use self::service::Service;
use self::travel::{Carried, Travelling, unavailable};
use crate::world::Life;

/// The way of one life of a server to the service.
struct Link {
    service: Arc<Service>,
    life: Life,
    /// For its clock alone.
    env: Env,
    /// Leases that were taken by requests without an answer. The Azure backend takes such a lease by naming the id that it
    /// had proposed.
    unsure: Arc<Mutex<HashMap<LeaseTarget, LeaseId>>>,
}

impl Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", self.life.place())
    }
}

impl Link {
    fn new(service: &Arc<Service>, life: &Life) -> Self {
        Self {
            service: Arc::clone(service),
            life: life.clone(),
            env: life.env_from(0),
            unsure: Arc::default(),
        }
    }

    async fn send<T: Debug + Send + 'static>(
        &self,
        operation: Operation,
        about: impl std::fmt::Display,
        bytes: usize,
        request: impl FnOnce(&Service, Carried) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        if !self.life.lives() {
            // What is left of a dead server's tasks sends nothing.
            std::future::pending::<()>().await;
        }
        let (answer, answered) = oneshot::channel();
        let travelling = Travelling {
            service: Arc::clone(&self.service),
            life: self.life.clone(),
            number: self.life.world().number(),
            operation,
            what: format!("{operation} {about}"),
            request: Box::new(request),
            answer,
        };
        tokio::spawn(travelling.travel());
        // As the Azure backend gives up.
        let limit =
            if bytes <= AZURE_SMALL_BYTES { AZURE_SMALL_REQUEST_TIME } else { AZURE_LARGE_REQUEST_TIME };
        let waited = tokio::time::timeout(limit, answered).await;
        match waited {
            Ok(Ok(outcome)) => outcome,
            // Lost on the way: the sender waits as long as it does.
            Ok(Err(_)) => {
                tokio::time::sleep(limit).await;
                self.life.awake().await;
                Err(unavailable("no answer"))
            }
            Err(_) => {
                self.life.awake().await;
                Err(unavailable("no answer"))
            }
        }
    }

    /// A request that is carried out by the memory backend as it is.
    async fn simply<T: Debug + Send + 'static>(
        &self,
        operation: Operation,
        about: impl std::fmt::Display,
        request: impl for<'a> FnOnce(&'a MemoryStorage) -> BoxFuture<'a, Result<T, StorageError>> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.send(operation, about, 0, move |service, _| Service::now(request(&service.memory))).await
    }
}

#[async_trait]
impl Storage for Link {
    async fn create_container(&self, name: &ContainerName, metadata: &Metadata) -> Result<(), StorageError> {
        let (about, name, metadata) = (name.to_string(), name.clone(), metadata.clone());
        self.simply(Operation::CreateContainer, about, move |memory| {
            async move { memory.create_container(&name, &metadata).await }.boxed()
        })
        .await
    }

    async fn container_metadata(&self, name: &ContainerName) -> Result<Metadata, StorageError> {
        let (about, name) = (name.to_string(), name.clone());
        self.simply(Operation::ContainerMetadata, about, move |memory| {
            async move { memory.container_metadata(&name).await }.boxed()
        })
        .await
    }

    async fn set_container_metadata(
        &self,
        name: &ContainerName,
        metadata: &Metadata,
        lease: &LeaseId,
    ) -> Result<(), StorageError> {
        let about = format!("{name} {metadata:?}");
        let (name, metadata, lease) = (name.clone(), metadata.clone(), lease.clone());
        self.simply(Operation::SetContainerMetadata, about, move |memory| {
            async move { memory.set_container_metadata(&name, &metadata, &lease).await }.boxed()
        })
        .await
    }

    async fn delete_container(&self, name: &ContainerName, lease: &LeaseId) -> Result<(), StorageError> {
        let (about, name, lease) = (name.to_string(), name.clone(), lease.clone());
        self.simply(Operation::DeleteContainer, about, move |memory| {
            async move { memory.delete_container(&name, &lease).await }.boxed()
        })
        .await
    }

    async fn list_containers(&self, prefix: &str) -> Result<Vec<ContainerEntry>, StorageError> {
        let prefix = prefix.to_owned();
        self.simply(Operation::ListContainers, prefix.clone(), move |memory| {
            async move { memory.list_containers(&prefix).await }.boxed()
        })
        .await
    }

    async fn create_page_blob(
        &self,
        blob: &BlobName,
        bytes: u64,
        sequence_number: Term,
    ) -> Result<ETag, StorageError> {
        let (about, blob) = (format!("{blob} {sequence_number}"), blob.clone());
        self.send(Operation::CreatePageBlob, about, 0, move |service, _| {
            Service::now(service.memory.create_page_blob(&blob, bytes, sequence_number))
        })
        .await
    }

    async fn properties(&self, blob: &BlobName) -> Result<BlobProperties, StorageError> {
        let (about, blob) = (blob.to_string(), blob.clone());
        self.simply(Operation::Properties, about, move |memory| {
            async move { memory.properties(&blob).await }.boxed()
        })
        .await
    }

    async fn put_pages(
        &self,
        blob: &BlobName,
        position: Position,
        bytes: Bytes,
        fence: Term,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        let length = bytes.len();
        let about = format!("{blob} {position} {length} {:08x} {fence}", crc32c::crc32c(&bytes));
        let put = PutPages { blob: blob.clone(), position, bytes, fence, lease: lease.cloned() };
        let request = || {
            let put = put.clone();
            self.send(Operation::PutPages, about.clone(), length, move |service, carried| match carried {
                Carried::Whole => service.put(&put, None),
                Carried::Torn => {
                    let count = length / usize::try_from(PAGE_BYTES).expect("a page is small");
                    let pages: Vec<usize> =
                        service.world.draw(|dice| (0..count).filter(|_| dice.per_mille(500)).collect());
                    service.put(&put, Some(&pages))
                }
            })
        };
        // As the Azure backend does it.
        if lease.is_none() { twice(&self.env, length, || (), request).await } else { request().await }
    }

    async fn rewrite_page(
        &self,
        blob: &BlobName,
        page: Bytes,
        fence: Term,
        if_match: &ETag,
        lease: &LeaseId,
    ) -> Result<ETag, StorageError> {
        let about = format!("{blob} {:08x} {fence} {if_match:?}", crc32c::crc32c(&page));
        let request = || {
            let (blob, page, if_match, lease) = (blob.clone(), page.clone(), if_match.clone(), lease.clone());
            self.send(Operation::RewritePage, about.clone(), page.len(), move |service, _| {
                Service::now(service.memory.rewrite_page(&blob, page, fence, &if_match, &lease))
            })
        };
        // As the Azure backend does it.
        twice(&self.env, page.len(), || (), request).await
    }

    async fn clear_pages(&self, blob: &BlobName, range: Range<u64>, fence: Term) -> Result<(), StorageError> {
        let (about, blob) = (format!("{blob} {range:?} {fence}"), blob.clone());
        self.send(Operation::ClearPages, about, 0, move |service, _| service.clear(&blob, range, fence)).await
    }

    async fn read(&self, blob: &BlobName, range: Range<u64>) -> Result<BlobRead, StorageError> {
        let bytes = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let about = format!("{blob} {range:?}");
        let request = || {
            let (blob, range) = (blob.clone(), range.clone());
            self.send(Operation::Read, about.clone(), bytes, move |service, _| {
                Service::now(service.memory.read(&blob, range)).map(Whole)
            })
        };
        let read = twice(&self.env, bytes, || (), request).await;
        read.map(|Whole(read)| read)
    }

    async fn page_ranges(&self, blob: &BlobName, range: Range<u64>) -> Result<Vec<Range<u64>>, StorageError> {
        let (about, blob) = (format!("{blob} {range:?}"), blob.clone());
        self.simply(Operation::PageRanges, about, move |memory| {
            async move { memory.page_ranges(&blob, range).await }.boxed()
        })
        .await
    }

    async fn raise_sequence_number(&self, blob: &BlobName, at_least: Term) -> Result<Term, StorageError> {
        let about = format!("{blob} {at_least}");
        let request = || {
            let blob = blob.clone();
            self.send(Operation::RaiseSequenceNumber, about.clone(), 0, move |service, _| {
                let term = Service::now(service.memory.raise_sequence_number(&blob, at_least))?;
                if term != Term::UNUSED {
                    service.world.record(Event::Claim { blob: blob.to_string(), term: term.0 });
                }
                Ok(term)
            })
        };
        twice(&self.env, 0, || (), request).await
    }

    async fn set_sequence_number(
        &self,
        blob: &BlobName,
        number: Term,
        if_match: &ETag,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        let about = format!("{blob} {number} {if_match:?}");
        let (blob, if_match, lease, life) =
            (blob.clone(), if_match.clone(), lease.cloned(), self.life.clone());
        self.send(Operation::SetSequenceNumber, about, 0, move |service, _| {
            let lease = lease.as_ref();
            Service::now(service.memory.set_sequence_number(&blob, number, &if_match, lease))?;
            if blob.name == LEADER_BLOB {
                service.world.record(Event::Term { term: number.0, holder: life.to_string() });
            } else {
                service.world.record(Event::Claim { blob: blob.to_string(), term: number.0 });
            }
            Ok(())
        })
        .await
    }

    async fn put_block_blob(&self, blob: &BlobName, bytes: Bytes) -> Result<(), StorageError> {
        let (length, blob) = (bytes.len(), blob.clone());
        self.send(Operation::PutBlockBlob, format!("{blob} {length}"), length, move |service, _| {
            Service::now(service.memory.put_block_blob(&blob, bytes))
        })
        .await
    }

    async fn list_blobs(
        &self,
        container: &ContainerName,
        prefix: &str,
    ) -> Result<Vec<BlobEntry>, StorageError> {
        let (about, container, prefix) =
            (format!("{container} {prefix}"), container.clone(), prefix.to_owned());
        self.simply(Operation::ListBlobs, about, move |memory| {
            async move { memory.list_blobs(&container, &prefix).await }.boxed()
        })
        .await
    }

    async fn delete_blob(&self, blob: &BlobName, if_match: Option<&ETag>) -> Result<(), StorageError> {
        let (about, blob, if_match) = (blob.to_string(), blob.clone(), if_match.cloned());
        if self.life.lives() {
            self.service.deleting(&blob, if_match.as_ref());
        }
        self.send(Operation::DeleteBlob, about, 0, move |service, _| {
            let state = Service::now(service.memory.properties(&blob))?.etag;
            if if_match.as_ref().is_none_or(|wanted| *wanted == state) {
                service.keep_messages(&blob);
            }
            Service::now(service.memory.delete_blob(&blob, if_match.as_ref()))
        })
        .await
    }

    async fn acquire_lease(&self, target: &LeaseTarget, duration: Duration) -> Result<LeaseId, StorageError> {
        let about = format!("{target:?}");
        let heard = Arc::new(AtomicBool::new(false));
        let (target, unsure, was_heard) = (target.clone(), Arc::clone(&self.unsure), Arc::clone(&heard));
        let wanted = target.clone();
        let taken = self.simply(Operation::AcquireLease, about, move |memory| {
            async move {
                let before = unsure.lock().expect("nobody panics").get(&wanted).cloned();
                let taken = match (memory.acquire_lease(&wanted, duration).await, before) {
                    (Err(StorageError::LeaseHeld), Some(before)) => {
                        let renewed = memory.renew_lease(&wanted, &before).await;
                        renewed.map(|()| before).map_err(|_| StorageError::LeaseHeld)
                    }
                    (taken, _) => taken,
                };
                if let Ok(lease) = &taken
                    && !was_heard.load(Ordering::Relaxed)
                {
                    unsure.lock().expect("nobody panics").insert(wanted, lease.clone());
                }
                taken
            }
            .boxed()
        });
        let taken = taken.await;
        if taken.is_ok() {
            heard.store(true, Ordering::Relaxed);
            self.unsure.lock().expect("nobody panics").remove(&target);
        }
        taken
    }

    async fn renew_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        let (target, lease) = (target.clone(), lease.clone());
        self.simply(Operation::RenewLease, format!("{target:?}"), move |memory| {
            async move { memory.renew_lease(&target, &lease).await }.boxed()
        })
        .await
    }

    async fn release_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        let (target, lease) = (target.clone(), lease.clone());
        self.simply(Operation::ReleaseLease, format!("{target:?}"), move |memory| {
            async move { memory.release_lease(&target, &lease).await }.boxed()
        })
        .await
    }

    async fn break_lease(&self, blob: &BlobName, if_match: &ETag) -> Result<(), StorageError> {
        let (about, blob, if_match) = (blob.to_string(), blob.clone(), if_match.clone());
        self.simply(Operation::BreakLease, about, move |memory| {
            async move { memory.break_lease(&blob, &if_match).await }.boxed()
        })
        .await
    }

    async fn grant_reads(&self, container: &ContainerName) -> Result<ReadAccess, StorageError> {
        self.service.memory.grant_reads(container).await
    }

    fn leases_last(&self) -> bool {
        false
    }
}

/// Shown without its bytes.
struct Whole(BlobRead);

impl Debug for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let BlobRead { bytes, sequence_number, etag } = &self.0;
        write!(f, "{} bytes {:08x} {sequence_number} {}", bytes.len(), crc32c::crc32c(bytes), etag.0)
    }
}
