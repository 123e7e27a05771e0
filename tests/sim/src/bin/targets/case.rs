//! One load on one vault.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::task::LocalSet;
use tower::ServiceExt;
use vault_format::ids::{Offset, Position, StreamId, Term};
use vault_format::names::{ContainerName, Prefix, SegmentName};
use vault_server::access::Access;
use vault_server::env::Env;
use vault_server::http::app::HttpSettings;
use vault_server::log::Options;
use vault_server::log::pacing::Pacing;
use vault_server::node::Node;
use vault_server::storage::counted::Counted;
use vault_server::storage::memory::MemoryStorage;
use vault_server::storage::operation::Operation;
use vault_server::storage::{BlobName, Metadata, Storage};
use vault_sim::chance;
use vault_sim::targets::Paced;

use crate::load::{Load, VALUE_BYTES, body};

/// How long it goes before anything counts.
const WARM_UP: Duration = Duration::from_millis(500);

/// How long a producer waits at most, and half of it at least, whose request was refused because too much waits already.
const AGAIN: Duration = Duration::from_millis(100);

const PATIENCE: Duration = Duration::from_secs(30);

const PREFIX: &str = "mv-";

/// What is played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Streams that get the load.
    pub(crate) streams: usize,
    /// The load of each.
    pub(crate) load: Load,
    /// Of storage.
    pub(crate) latency: Duration,
    /// How long is measured.
    pub(crate) lasts: Duration,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { streams, load, latency, .. } = self;
        write!(f, "{streams} streams, {load}, {} ms", latency.as_millis())
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) case: Case,
    /// Messages that were acknowledged in the time measured.
    pub(crate) messages: u64,
    /// Requests that were refused meanwhile, because too much waited to be written; they were sent again.
    pub(crate) refused: u64,
    /// How long each request waited until it was acknowledged, from when it was sent first.
    pub(crate) latencies: Vec<Duration>,
    /// Put Pages in the time measured.
    pub(crate) puts: u64,
    /// All other requests to storage in the time measured.
    pub(crate) others: u64,
    /// Requests for one segment within any second.
    pub(crate) most_a_second: usize,
}

impl Found {
    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.case.lasts.as_secs_f64()
    }

    /// MiB of values a second.
    pub(crate) fn mib_a_second(&self) -> f64 {
        self.rate() * VALUE_BYTES as f64 / f64::from(1 << 20)
    }

    /// Put Pages that a million messages cost.
    pub(crate) fn puts_a_million(&self) -> f64 {
        self.puts as f64 * 1e6 / self.messages as f64
    }
}

/// What producers have in common.
#[derive(Debug)]
struct Tally {
    measuring: Cell<bool>,
    ending: Cell<bool>,
    all_messages: Cell<u64>,
    messages: Cell<u64>,
    refused: Cell<u64>,
    latencies: RefCell<Vec<Duration>>,
}

impl Tally {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            measuring: Cell::new(false),
            ending: Cell::new(false),
            all_messages: Cell::new(0),
            messages: Cell::new(0),
            refused: Cell::new(0),
            latencies: RefCell::default(),
        })
    }

    fn refused(&self) {
        self.refused.set(self.refused.get() + u64::from(self.measuring.get()));
    }

    fn acknowledged(&self, messages: usize, waited: Duration) {
        self.all_messages.set(self.all_messages.get() + messages as u64);
        if self.measuring.get() {
            self.messages.set(self.messages.get() + messages as u64);
            self.latencies.borrow_mut().push(waited);
        }
    }
}

impl Case {
    /// Plays it in a thread of its own, so that its randomness is its own too.
    pub(crate) fn play(self) -> anyhow::Result<Found> {
        let played = std::thread::Builder::new().stack_size(8 << 20).spawn(move || {
            chance::begin(1);
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
            LocalSet::new().block_on(&runtime, self.measure())
        })?;
        played.join().expect("nothing panics in it")
    }

    async fn measure(self) -> anyhow::Result<Found> {
        let env = Env::controlled(1);
        let paced = Arc::new(Paced::new(Arc::new(MemoryStorage::new(env.clone())), &env, self.latency));
        let counted = Arc::new(Counted::new(Arc::clone(&paced), &env));
        let tally = Tally::new();
        let (node, producers) = match self.load {
            Load::OneRequestEach { writers } => (None, self.write_each(&counted, writers, &tally).await?),
            Load::Closed { .. } | Load::Paced(_) => {
                let node = start(&env, Arc::clone(&counted) as Arc<dyn Storage>).await?;
                let producers = self.produce(&node.router(), &env, &tally).await?;
                (Some(node), producers)
            }
        };
        tokio::time::sleep(WARM_UP).await;
        let before = counted.snapshot();
        tally.measuring.set(true);
        tokio::time::sleep(self.lasts).await;
        tally.measuring.set(false);
        let counts = counted.snapshot().since(&before);
        tally.ending.set(true);
        for producer in producers {
            producer.await??;
        }
        if let Some(node) = node {
            let stored = stored(&node.router(), self.streams).await?;
            let acknowledged = tally.all_messages.get();
            ensure!(stored == acknowledged, "{acknowledged} messages were acknowledged, {stored} are stored");
        }
        let puts = counts.get(Operation::PutPages);
        Ok(Found {
            case: self,
            messages: tally.messages.get(),
            refused: tally.refused.get(),
            latencies: tally.latencies.take(),
            puts,
            others: counts.total() - puts,
            most_a_second: paced.most_for_a_segment(),
        })
    }

    /// Starts the producers of all streams.
    async fn produce(
        self,
        router: &Router,
        env: &Env,
        tally: &Rc<Tally>,
    ) -> anyhow::Result<Vec<tokio::task::JoinHandle<anyhow::Result<()>>>> {
        let mut producers = Vec::new();
        for stream in 0..self.streams {
            let uri = format!("/streams/{}", name(stream));
            send(router, Method::PUT, &uri, Bytes::from_static(b"{}")).await?;
            let uri = format!("{uri}/messages");
            let (count, messages) = match self.load {
                Load::Closed { producers, messages } => (producers, messages),
                // Enough of them that none is late where storage takes 30 ms.
                Load::Paced(rate) => (usize::try_from(rate)?.clamp(1, 1_000), 1),
                Load::OneRequestEach { .. } => continue,
            };
            let body = body(messages);
            for producer in 0..count {
                let (router, env, tally) = (router.clone(), env.clone(), Rc::clone(tally));
                let (uri, body) = (uri.clone(), body.clone());
                let due = match self.load {
                    Load::Paced(rate) => {
                        let every = Duration::from_secs(count as u64) / rate;
                        Some((every * u32::try_from(producer)? / u32::try_from(count)?, every))
                    }
                    Load::Closed { .. } | Load::OneRequestEach { .. } => None,
                };
                producers.push(tokio::task::spawn_local(async move {
                    let mut next = env.clock.monotonic() + due.map_or(Duration::ZERO, |(first, _)| first);
                    while !tally.ending.get() {
                        if let Some((_, every)) = due {
                            env.clock.sleep(next.saturating_sub(env.clock.monotonic())).await;
                            next += every;
                        }
                        let sent = env.clock.monotonic();
                        while send(&router, Method::POST, &uri, body.clone()).await?.is_none() {
                            tally.refused();
                            env.clock.sleep(env.jitter(AGAIN)).await;
                        }
                        tally.acknowledged(messages, env.clock.monotonic() - sent);
                    }
                    Ok(())
                }));
            }
        }
        Ok(producers)
    }

    /// Starts writers that put every message into a page blob by a request of its own.
    async fn write_each(
        self,
        storage: &Arc<Counted<Paced>>,
        writers: usize,
        tally: &Rc<Tally>,
    ) -> anyhow::Result<Vec<tokio::task::JoinHandle<anyhow::Result<()>>>> {
        // A message and its header.
        const BYTES: usize = 1_536;
        let mut all = Vec::new();
        for stream in 0..self.streams {
            let container = ContainerName::listed(&format!("{PREFIX}{}", name(stream))).context("no name")?;
            storage.create_container(&container, &Metadata::new()).await?;
            let segment = SegmentName { stream: StreamId([1; 16]), base: Offset(0) };
            let blob = BlobName { container, name: segment.to_string() };
            storage.create_page_blob(&blob, 1 << 33, Term(1)).await?;
            let next = Rc::new(Cell::new(0));
            for _ in 0..writers {
                let (storage, blob, next) = (Arc::clone(storage), blob.clone(), Rc::clone(&next));
                let tally = Rc::clone(tally);
                all.push(tokio::task::spawn_local(async move {
                    while !tally.ending.get() {
                        let at = next.replace(next.get() + BYTES as u64);
                        let sent = tokio::time::Instant::now();
                        storage.put_pages(&blob, Position(at), vec![1; BYTES].into(), Term(1), None).await?;
                        tally.acknowledged(1, sent.elapsed());
                    }
                    Ok(())
                }));
            }
        }
        Ok(all)
    }
}

fn name(stream: usize) -> String {
    format!("stream-{stream}")
}

/// A server as it is on Azure, but for the storage itself.
async fn start(env: &Env, storage: Arc<dyn Storage>) -> anyhow::Result<Node> {
    let (prefix, access) = (Prefix::new(PREFIX)?, Access::for_everybody(env.clone()));
    let settings = HttpSettings::new("http://server-0:8480".to_owned(), "simulated", &prefix, access);
    let options = Options { pacing: Pacing::AZURE, ..Options::new(PATIENCE) };
    let node = Node::start(storage, env.clone(), prefix, None, options, settings);
    let app = node.app();
    let mut standing = app.standing.clone();
    standing.wait_for(|_| app.vault.term().is_some()).await.context("the server ended")?;
    drop(app);
    Ok(node)
}

/// `None`: too much waits to be written.
async fn send(router: &Router, method: Method, uri: &str, body: Bytes) -> anyhow::Result<Option<Value>> {
    let kind = match method {
        Method::POST => "application/vnd.messagevault.records",
        _ => "application/json",
    };
    let request =
        Request::builder().method(method).uri(uri).header("content-type", kind).body(Body::from(body))?;
    let response = match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(impossible) => match impossible {},
    };
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Ok(None);
    }
    ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    Ok(Some(serde_json::from_slice(&body)?))
}

/// How many messages all streams hold.
async fn stored(router: &Router, streams: usize) -> anyhow::Result<u64> {
    let mut stored = 0;
    for stream in 0..streams {
        let described =
            send(router, Method::GET, &format!("/streams/{}", name(stream)), Bytes::new()).await?;
        let described = described.context("a question was refused")?;
        stored += described["next_offset"].as_u64().context("a stream has no next_offset")?;
    }
    Ok(stored)
}
