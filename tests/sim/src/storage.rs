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

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use vault_format::batch::Batch;
use vault_format::chain::Chain;
use vault_format::header::{Header, Kind};
use vault_format::ids::{Offset, Position, Term};
use vault_format::limits::PAGE_BYTES;
use vault_format::names::{ContainerName, LEADER_BLOB, Prefix, SegmentName};
use vault_server::env::Env;
use vault_server::limits::{AZURE_LARGE_REQUEST_TIME, AZURE_SMALL_BYTES, AZURE_SMALL_REQUEST_TIME};
use vault_server::storage::memory::MemoryStorage;
use vault_server::storage::operation::Operation;
use vault_server::storage::twice::twice;
use vault_server::storage::{
    BlobEntry, BlobName, BlobProperties, BlobRead, ContainerEntry, ETag, LeaseId, LeaseTarget, Metadata,
    ReadAccess, Storage, StorageError,
};
use vault_tests::history::{Event, Placed, Stored};
use vault_tests::message::push_messages;

use crate::chance::Dice;
use crate::load::Stream;
use crate::world::{Life, Place, Weather, World};

/// How long the way takes, in ms, when nothing is wrong.
const LATENCY_MS: (u64, u64) = (1, 12);

/// How long a request may be held up somewhere and still land.
const STRAY_MS: (u64, u64) = (2_000, 40_000);

/// How long it takes until a sender notices that its connection has broken, once bytes pass again: TCP sends what was not
/// acknowledged again, and hears that nobody knows of it.
const NOTICE_MS: (u64, u64) = (1, 2_000);

/// The service.
#[derive(Debug)]
pub struct Service {
    world: World,
    memory: MemoryStorage,
}

impl Service {
    /// One that holds nothing.
    #[must_use]
    pub fn new(world: &World) -> Arc<Self> {
        let memory = MemoryStorage::new(world.clients().env());
        Arc::new(Self { world: world.clone(), memory })
    }

    /// The way of one life of a server to it.
    #[must_use]
    pub fn link(self: &Arc<Self>, life: &Life) -> Arc<dyn Storage> {
        Arc::new(Link { service: Arc::clone(self), life: life.clone(), env: life.env_from(0) })
    }

    /// What is carried out here is carried out in one step.
    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("the memory backend never waits")
    }

    fn put(&self, put: &PutPages, pages: Option<&[usize]>) -> Result<(), StorageError> {
        let PutPages { blob, position, bytes, fence, lease } = put;
        let lease = lease.as_ref();
        let Some(pages) = pages else {
            Self::now(self.memory.put_pages(blob, *position, bytes.clone(), *fence, lease))?;
            self.landed(put);
            return Ok(());
        };
        let page = usize::try_from(PAGE_BYTES).expect("a page is small");
        for index in pages {
            let part = bytes.slice(index * page..(index + 1) * page);
            let at = *position + *index as u64 * PAGE_BYTES;
            Self::now(self.memory.put_pages(blob, at, part, *fence, lease))?;
        }
        if pages.contains(&0) {
            self.landed(put);
        }
        Ok(())
    }

    /// A batch has landed in a segment.
    fn landed(&self, put: &PutPages) {
        if SegmentName::parse(&put.blob.name).is_some()
            && let Ok(header) = Header::decode(&put.bytes)
        {
            self.world.record(Event::Write {
                blob: put.blob.to_string(),
                position: put.position.0,
                fence: header.fence.0,
                checksum: crc32c::crc32c(&put.bytes),
            });
        }
    }

    /// The messages of a segment, for the history, before it is deleted.
    pub fn keep_messages(&self, blob: &BlobName) {
        let Some(name) = SegmentName::parse(&blob.name) else { return };
        let messages = self.messages(blob, name.base);
        if !messages.is_empty() {
            let stream = blob.container.as_str().trim_start_matches(crate::run::PREFIX).to_owned();
            self.world.record(Event::Stored(Stored { stream, messages }));
        }
    }

    /// The messages of all segments.
    pub fn keep_all_messages(&self) {
        for container in Self::now(self.memory.list_containers(crate::run::PREFIX)).unwrap_or_default() {
            for blob in Self::now(self.memory.list_blobs(&container.name, "")).unwrap_or_default() {
                self.keep_messages(&BlobName { container: container.name.clone(), name: blob.name });
            }
        }
    }

    /// Turns a bit over in what a stream's segments hold. Says where.
    pub fn turn_a_bit(&self, stream: &Stream, dice: &mut Dice) -> Option<String> {
        let prefix = Prefix::new(crate::run::PREFIX).expect("it is one");
        let container = prefix.container(&prefix.stream(&stream.name).ok()?);
        let mut pages = Vec::new();
        for entry in Self::now(self.memory.list_blobs(&container, "")).ok()? {
            let blob = BlobName { container: container.clone(), name: entry.name };
            if SegmentName::parse(&blob.name).is_some() {
                for range in Self::now(self.memory.page_ranges(&blob, 0..entry.bytes)).ok()? {
                    let starts = range.step_by(usize::try_from(PAGE_BYTES).expect("a page is small"));
                    pages.extend(starts.map(|start| (blob.clone(), start)));
                }
            }
        }
        let index = usize::try_from(dice.below(pages.len().max(1) as u64)).expect("it fits in memory");
        let (blob, start) = pages.get(index)?;
        let mut page = Self::now(self.memory.read(blob, *start..start + PAGE_BYTES)).ok()?.bytes.to_vec();
        let (at, bit) = (dice.below(PAGE_BYTES), dice.below(8));
        page[usize::try_from(at).expect("a page is small")] ^= 1 << bit;
        let fence = Self::now(self.memory.properties(blob)).ok()?.sequence_number;
        Self::now(self.memory.put_pages(blob, Position(*start), page.into(), fence, None)).ok()?;
        Some(format!("{blob} at {}", start + at))
    }

    /// Ends the leader's lease, whoever holds it.
    pub fn break_leaders_lease(&self) {
        let prefix = Prefix::new(crate::run::PREFIX).expect("it is one");
        let blob = BlobName { container: prefix.system_container(), name: LEADER_BLOB.to_owned() };
        if let Ok(properties) = Self::now(self.memory.properties(&blob)) {
            let broken = Self::now(self.memory.break_lease(&blob, &properties.etag));
            self.world.trace(format_args!("lease broken: {broken:?}"));
        }
    }

    fn messages(&self, blob: &BlobName, base: Offset) -> Vec<Placed> {
        let Ok(properties) = Self::now(self.memory.properties(blob)) else { return Vec::new() };
        let Ok(read) = Self::now(self.memory.read(blob, 0..properties.bytes)) else { return Vec::new() };
        let Ok(first) = Header::decode(&read.bytes) else { return Vec::new() };
        let mut chain = Chain::at_segment_start(first.stream, base);
        let mut found = Vec::new();
        while let Some(rest) = read.bytes.get(usize::try_from(chain.position.0).unwrap_or(usize::MAX)..) {
            let Ok(batch): Result<Batch<'_>, _> = chain.accept(rest) else { break };
            push_messages(&batch, &mut found);
            if batch.header.kind == Kind::Seal {
                break;
            }
        }
        found
            .into_iter()
            .map(|stored| Placed {
                offset: stored.offset,
                timestamp: stored.timestamp,
                id: crate::load::id_of(&stored.message.value),
            })
            .collect()
    }
}

/// A write, which alone can be carried out in part.
#[derive(Clone)]
struct PutPages {
    blob: BlobName,
    position: Position,
    bytes: Bytes,
    fence: Term,
    lease: Option<LeaseId>,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Done,
    Fails,
    Lost,
    Strays,
    Torn,
}

struct Link {
    service: Arc<Service>,
    life: Life,
    /// For its clock alone.
    env: Env,
}

impl Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", self.life.place())
    }
}

type Request<T> = Box<dyn FnOnce(&Service, Carried) -> Result<T, StorageError> + Send>;

/// How much of a request is carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carried {
    Whole,
    /// Some of its pages.
    Torn,
}

/// A request on its way.
struct Travelling<T> {
    service: Arc<Service>,
    life: Life,
    number: u64,
    what: String,
    request: Request<T>,
    answer: oneshot::Sender<Result<T, StorageError>>,
}

fn unavailable(why: &str) -> StorageError {
    StorageError::Unavailable(why.to_owned())
}

impl<T: Debug + Send + 'static> Travelling<T> {
    async fn travel(self) {
        let Self { service, life, number, what, request, answer } = self;
        let (world, here) = (life.world().clone(), life.place());
        let weather = world.weather();
        let (fate, there, back) = world
            .draw(|dice| (Fate::drawn(weather, dice), Way::drawn(weather, dice), Way::drawn(weather, dice)));
        let (stray_ms, notice_ms, breaks) = world.draw(|dice| {
            let stray_ms = dice.between(STRAY_MS.0, STRAY_MS.1);
            (stray_ms, dice.between(NOTICE_MS.0, NOTICE_MS.1), dice.per_mille(500))
        });
        let failed = Way { ms: notice_ms, slower: 0 };
        world.trace(format_args!("{here} #{number} {what} {fate:?}"));
        there.go(&world).await;
        if fate == Fate::Fails {
            return reply(&life, back, answer, Err(unavailable("503 as planned"))).await;
        }
        let mut answer = Some(answer);
        if fate == Fate::Strays {
            // The sender sees its connection break, long before the request lands.
            let (life, answer) = (life.clone(), answer.take());
            tokio::spawn(async move {
                reply_to(&life, failed, answer, Err(unavailable("the connection broke"))).await;
            });
            tokio::time::sleep(Duration::from_millis(stray_ms)).await;
        }
        if !world.is_open(here, Place::Storage) {
            world.until_open(here, Place::Storage).await;
            // What is under way when a connection breaks is gone, or waits in a buffer and arrives later.
            if breaks {
                world.trace(format_args!("{here} #{number} gone"));
                return reply_to(&life, failed, answer, Err(unavailable("the connection is gone"))).await;
            }
            there.go(&world).await;
        }
        let mut carried = if fate == Fate::Torn { Carried::Torn } else { Carried::Whole };
        if !life.lives() {
            // Its connection was broken by the sender's end.
            let (left, later_ms) = world.draw(|dice| (dice.below(3), dice.below(10_000)));
            if left == 0 {
                return world.trace(format_args!("{here} #{number} gone with its sender"));
            }
            if left == 1 {
                carried = Carried::Torn;
            }
            tokio::time::sleep(Duration::from_millis(later_ms)).await;
        }
        let outcome = request(&service, carried);
        world.trace(format_args!("{here} #{number} -> {}", shown(&outcome)));
        let broke = || Err(unavailable("the connection broke"));
        let outcome = if carried == Carried::Torn { outcome.and(broke()) } else { outcome };
        let (back, outcome) = if fate == Fate::Lost { (failed, broke()) } else { (back, outcome) };
        reply_to(&life, back, answer, outcome).await;
    }
}

impl Fate {
    fn drawn(weather: Weather, dice: &mut Dice) -> Self {
        let mut roll = dice.below(1_000);
        for (chance, fate) in [
            (weather.fails, Self::Fails),
            (weather.lost, Self::Lost),
            (weather.strays, Self::Strays),
            (weather.torn, Self::Torn),
        ] {
            if roll < chance {
                return fate;
            }
            roll -= chance;
        }
        Self::Done
    }
}

/// How long one way takes.
#[derive(Clone, Copy)]
struct Way {
    ms: u64,
    slower: u64,
}

impl Way {
    fn drawn(weather: Weather, dice: &mut Dice) -> Self {
        let seldom = if dice.per_mille(10) { 20 } else { 1 };
        Self { ms: dice.between(LATENCY_MS.0, LATENCY_MS.1) * seldom, slower: weather.slower }
    }

    /// What is slow gets faster when the weather does.
    async fn go(self, world: &World) {
        let all = Duration::from_millis(self.ms * (1 + self.slower));
        let faster = async {
            if self.slower == 0 {
                std::future::pending::<()>().await;
            }
            world.until_faster_than(self.slower).await;
            tokio::time::sleep(Duration::from_millis(self.ms)).await;
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep(all) => {}
            () = faster => {}
        }
    }
}

/// A success is shown by its kind alone where it holds much.
fn shown<T: Debug>(outcome: &Result<T, StorageError>) -> String {
    match outcome {
        Ok(value) => {
            let text = format!("{value:?}");
            if text.len() <= 120 {
                text
            } else {
                format!("{} bytes, {:08x}", text.len(), crc32c::crc32c(text.as_bytes()))
            }
        }
        Err(error) => format!("{error:?}"),
    }
}

/// Replies where nobody has yet.
async fn reply_to<T>(
    life: &Life,
    back: Way,
    answer: Option<oneshot::Sender<Result<T, StorageError>>>,
    outcome: Result<T, StorageError>,
) {
    if let Some(answer) = answer {
        reply(life, back, answer, outcome).await;
    }
}

async fn reply<T>(
    life: &Life,
    back: Way,
    answer: oneshot::Sender<Result<T, StorageError>>,
    outcome: Result<T, StorageError>,
) {
    let world = life.world();
    back.go(world).await;
    if !world.is_open(Place::Storage, life.place()) {
        world.until_open(Place::Storage, life.place()).await;
        back.go(world).await;
    }
    life.awake().await;
    // Nobody may be waiting any more.
    let _ = answer.send(outcome);
}

impl Link {
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
        self.simply(Operation::ClearPages, about, move |memory| {
            async move { memory.clear_pages(&blob, range, fence).await }.boxed()
        })
        .await
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
        let target = target.clone();
        self.simply(Operation::AcquireLease, format!("{target:?}"), move |memory| {
            async move { memory.acquire_lease(&target, duration).await }.boxed()
        })
        .await
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
