//! Page blobs as fast as Azure says they are, in simulated time: so many requests and bytes a second for each blob and for
//! the whole account, and every answer a while later.
//!
//! ```text
//!  asked --- turn of the blob, of the account --- bytes pass, the blob's and the account's --- latency --- answered
//! ```
//!
//! Requests take turns instead of being refused where there are too many, so that what is above a target shows as waiting.
//! The targets are those of "Scalability and performance targets for Blob storage" and "... for standard storage
//! accounts" in Azure's documentation.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use vault_format::ids::{Position, Term};
use vault_format::names::{ContainerName, SegmentName};
use vault_server::env::Env;
use vault_server::storage::{
    BlobEntry, BlobName, BlobProperties, BlobRead, ContainerEntry, ETag, LeaseId, LeaseTarget, Metadata,
    ReadAccess, Storage, StorageError,
};

/// Requests a second that a blob takes.
pub const BLOB_REQUESTS: u32 = 500;

/// Bytes a second that a page blob takes: 60 MiB.
pub const BLOB_BYTES: u32 = 60 << 20;

/// Requests a second that an account takes where nobody has asked for more.
pub const ACCOUNT_REQUESTS: u32 = 20_000;

/// Bytes a second that an account takes: 25 Gbit.
pub const ACCOUNT_BYTES: u32 = 3_125_000_000;

const SECOND: Duration = Duration::from_secs(1);

/// Another backend at the speed of the targets.
#[derive(Debug)]
pub struct Paced {
    inner: Arc<dyn Storage>,
    env: Env,
    latency: Duration,
    account: Mutex<Pace>,
    blobs: Mutex<HashMap<BlobName, Pace>>,
}

/// How one blob or account gets on. Times are of the monotonic clock.
#[derive(Clone, Debug)]
struct Pace {
    a_request: Duration,
    bytes_a_second: u32,
    /// When the next request has its turn.
    turn: Duration,
    /// When the bytes of all requests so far have passed.
    passed: Duration,
    /// Those asked for within the last second.
    recent: VecDeque<Duration>,
    most: usize,
}

impl Pace {
    fn new(requests_a_second: u32, bytes_a_second: u32) -> Self {
        Self {
            a_request: SECOND / requests_a_second,
            bytes_a_second,
            turn: Duration::ZERO,
            passed: Duration::ZERO,
            recent: VecDeque::new(),
            most: 0,
        }
    }

    /// When a request that comes now has had its turn and its bytes have passed.
    fn admit(&mut self, now: Duration, bytes: usize) -> Duration {
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|first| *first + SECOND <= now) {
            self.recent.pop_front();
        }
        self.most = self.most.max(self.recent.len());
        let begins = self.turn.max(now);
        self.turn = begins + self.a_request;
        self.passed = self.passed.max(begins) + SECOND.mul_f64(bytes as f64 / f64::from(self.bytes_a_second));
        self.passed
    }
}

impl Paced {
    /// One whose answers come after `latency` where nothing else holds them up.
    #[must_use]
    pub fn new(inner: Arc<dyn Storage>, env: &Env, latency: Duration) -> Self {
        let account = Mutex::new(Pace::new(ACCOUNT_REQUESTS, ACCOUNT_BYTES));
        Self { inner, env: env.clone(), latency, account, blobs: Mutex::default() }
    }

    /// The most requests for one segment within any second so far.
    #[must_use]
    pub fn most_for_a_segment(&self) -> usize {
        let blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        let segments = blobs.iter().filter(|(blob, _)| SegmentName::parse(&blob.name).is_some());
        segments.map(|(_, pace)| pace.most).max().unwrap_or(0)
    }

    /// Waits as long as a request takes that moves so many bytes.
    async fn take(&self, blob: Option<&BlobName>, bytes: usize) {
        let now = self.env.clock.monotonic();
        let mut done = self.account.lock().unwrap_or_else(PoisonError::into_inner).admit(now, bytes);
        if let Some(blob) = blob {
            let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
            let pace = blobs.entry(blob.clone());
            done = done.max(pace.or_insert_with(|| Pace::new(BLOB_REQUESTS, BLOB_BYTES)).admit(now, bytes));
        }
        self.env.clock.sleep(done.saturating_sub(now) + self.latency).await;
    }

    async fn take_target(&self, target: &LeaseTarget) {
        let blob = match target {
            LeaseTarget::Blob(blob) => Some(blob),
            LeaseTarget::Container(_) => None,
        };
        self.take(blob, 0).await;
    }
}

/// The bytes of a range that is read.
fn length(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)
}

#[async_trait]
impl Storage for Paced {
    async fn create_container(&self, name: &ContainerName, metadata: &Metadata) -> Result<(), StorageError> {
        self.take(None, 0).await;
        self.inner.create_container(name, metadata).await
    }

    async fn container_metadata(&self, name: &ContainerName) -> Result<Metadata, StorageError> {
        self.take(None, 0).await;
        self.inner.container_metadata(name).await
    }

    async fn set_container_metadata(
        &self,
        name: &ContainerName,
        metadata: &Metadata,
        lease: &LeaseId,
    ) -> Result<(), StorageError> {
        self.take(None, 0).await;
        self.inner.set_container_metadata(name, metadata, lease).await
    }

    async fn delete_container(&self, name: &ContainerName, lease: &LeaseId) -> Result<(), StorageError> {
        self.take(None, 0).await;
        self.inner.delete_container(name, lease).await
    }

    async fn list_containers(&self, prefix: &str) -> Result<Vec<ContainerEntry>, StorageError> {
        self.take(None, 0).await;
        self.inner.list_containers(prefix).await
    }

    async fn create_page_blob(
        &self,
        blob: &BlobName,
        bytes: u64,
        sequence_number: Term,
    ) -> Result<ETag, StorageError> {
        self.take(Some(blob), 0).await;
        self.inner.create_page_blob(blob, bytes, sequence_number).await
    }

    async fn properties(&self, blob: &BlobName) -> Result<BlobProperties, StorageError> {
        self.take(Some(blob), 0).await;
        self.inner.properties(blob).await
    }

    async fn put_pages(
        &self,
        blob: &BlobName,
        position: Position,
        bytes: Bytes,
        fence: Term,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        self.take(Some(blob), bytes.len()).await;
        self.inner.put_pages(blob, position, bytes, fence, lease).await
    }

    async fn rewrite_page(
        &self,
        blob: &BlobName,
        page: Bytes,
        fence: Term,
        if_match: &ETag,
        lease: &LeaseId,
    ) -> Result<ETag, StorageError> {
        self.take(Some(blob), page.len()).await;
        self.inner.rewrite_page(blob, page, fence, if_match, lease).await
    }

    async fn clear_pages(&self, blob: &BlobName, range: Range<u64>, fence: Term) -> Result<(), StorageError> {
        self.take(Some(blob), 0).await;
        self.inner.clear_pages(blob, range, fence).await
    }

    async fn read(&self, blob: &BlobName, range: Range<u64>) -> Result<BlobRead, StorageError> {
        self.take(Some(blob), length(&range)).await;
        self.inner.read(blob, range).await
    }

    async fn page_ranges(&self, blob: &BlobName, range: Range<u64>) -> Result<Vec<Range<u64>>, StorageError> {
        self.take(Some(blob), 0).await;
        self.inner.page_ranges(blob, range).await
    }

    async fn raise_sequence_number(&self, blob: &BlobName, at_least: Term) -> Result<Term, StorageError> {
        self.take(Some(blob), 0).await;
        self.inner.raise_sequence_number(blob, at_least).await
    }

    async fn set_sequence_number(
        &self,
        blob: &BlobName,
        number: Term,
        if_match: &ETag,
        lease: Option<&LeaseId>,
    ) -> Result<(), StorageError> {
        self.take(Some(blob), 0).await;
        self.inner.set_sequence_number(blob, number, if_match, lease).await
    }

    async fn put_block_blob(&self, blob: &BlobName, bytes: Bytes) -> Result<(), StorageError> {
        self.take(Some(blob), bytes.len()).await;
        self.inner.put_block_blob(blob, bytes).await
    }

    async fn list_blobs(
        &self,
        container: &ContainerName,
        prefix: &str,
    ) -> Result<Vec<BlobEntry>, StorageError> {
        self.take(None, 0).await;
        self.inner.list_blobs(container, prefix).await
    }

    async fn delete_blob(&self, blob: &BlobName, if_match: Option<&ETag>) -> Result<(), StorageError> {
        self.take(Some(blob), 0).await;
        self.inner.delete_blob(blob, if_match).await
    }

    async fn acquire_lease(&self, target: &LeaseTarget, duration: Duration) -> Result<LeaseId, StorageError> {
        self.take_target(target).await;
        self.inner.acquire_lease(target, duration).await
    }

    async fn renew_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        self.take_target(target).await;
        self.inner.renew_lease(target, lease).await
    }

    async fn release_lease(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        self.take_target(target).await;
        self.inner.release_lease(target, lease).await
    }

    async fn break_lease(&self, blob: &BlobName, if_match: &ETag) -> Result<(), StorageError> {
        self.take(Some(blob), 0).await;
        self.inner.break_lease(blob, if_match).await
    }

    async fn grant_reads(&self, container: &ContainerName) -> Result<ReadAccess, StorageError> {
        self.take(None, 0).await;
        self.inner.grant_reads(container).await
    }

    fn leases_last(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use vault_format::ids::{Offset, StreamId};
    use vault_server::storage::memory::MemoryStorage;

    use super::*;

    const MIB: usize = 1 << 20;

    /// A blob, and how long so many puts of so many bytes take, all asked for at once.
    async fn puts(count: usize, bytes: usize) -> (f64, usize) {
        let env = Env::controlled(1);
        let paced = Paced::new(Arc::new(MemoryStorage::new(env.clone())), &env, Duration::from_millis(10));
        let container = ContainerName::listed("abc").expect("it is one");
        let segment = SegmentName { stream: StreamId([1; 16]), base: Offset(0) };
        let blob = BlobName { container: container.clone(), name: segment.to_string() };
        paced.create_container(&container, &Metadata::new()).await.expect("it is new");
        paced.create_page_blob(&blob, 1 << 30, Term(1)).await.expect("it is new");
        let began = env.clock.monotonic();
        let put = |index| {
            let at = Position((index * bytes) as u64);
            paced.put_pages(&blob, at, Bytes::from(vec![1; bytes]), Term(1), None)
        };
        futures::future::try_join_all((0..count).map(put)).await.expect("all are stored");
        let took = (env.clock.monotonic() - began).as_secs_f64();
        (took, paced.most_for_a_segment())
    }

    #[tokio::test(start_paused = true)]
    async fn a_blob_takes_so_many_bytes_a_second() {
        let (took, _) = puts(30, 4 * MIB).await;
        assert!((2.009..2.02).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_blob_takes_so_many_requests_a_second() {
        let (took, most) = puts(1_001, 512).await;
        assert!((2.009..2.02).contains(&took), "{took}");
        // That it was made was asked for within the same second.
        assert_eq!(most, 1_002);
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_takes_the_latency() {
        let (took, _) = puts(1, 512).await;
        assert!((0.010..0.012).contains(&took), "{took}");
    }
}
