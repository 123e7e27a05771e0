//! Two servers on memory storage and simulated time.

mod beats;
mod handovers;
mod idle;
mod owners;
mod streams;
mod terms;
mod vaults;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vault_format::ids::{Offset, Term};
use vault_format::leader::LeaderPage;
use vault_format::names::{ContainerName, LEADER_BLOB, Prefix, SegmentName, StreamName};

use super::{Candidacy, Conflict, Election, Standing};
use crate::env::Env;
use crate::limits::{LEADER_BYTES, LEASE};
use crate::log::Options;
use crate::log::settings::SettingsPatch;
use crate::log::stream::{Condition, Stream};
use crate::log::tests::{append, labels};
use crate::log::vault::Vault;
use crate::storage::counted::Counted;
use crate::storage::faulty::{Chances, Fault, Faulty, Hold};
use crate::storage::memory::MemoryStorage;
use crate::storage::operation::Operation;
use crate::storage::{BlobName, LeaseTarget, Metadata, Storage, StorageError};

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// Storage that several servers share.
struct Place {
    env: Env,
    memory: Arc<MemoryStorage>,
}

/// A server that takes part in the election.
struct Server {
    env: Env,
    vault: Vault,
    counted: Arc<Counted<Faulty<MemoryStorage>>>,
    faulty: Arc<Faulty<MemoryStorage>>,
    standing: tokio::sync::watch::Receiver<Standing>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), Conflict>>,
}

impl Place {
    fn new(seed: u64) -> Self {
        let env = Env::controlled(seed);
        Self { memory: Arc::new(MemoryStorage::new(env.clone())), env }
    }

    fn start(&self, name: &str) -> Server {
        self.start_as("mv-", name, None)
    }

    fn start_as(&self, prefix: &str, name: &str, vault_uid: Option<&str>) -> Server {
        let seed = name.bytes().map(u64::from).sum();
        let faulty = Arc::new(Faulty::new(Arc::clone(&self.memory), self.env.clone(), seed));
        let counted = Arc::new(Counted::new(Arc::clone(&faulty), &self.env));
        let storage: Arc<dyn Storage> = counted.clone();
        let prefix = Prefix::new(prefix).unwrap();
        let (vault, over) = Vault::new(storage, self.env.clone(), prefix, Options::new(PATIENCE));
        let endpoint = format!("http://{name}");
        let candidacy = Candidacy { endpoint, vault_uid: vault_uid.map(str::to_owned) };
        let mut election = Election::new(vault.clone(), over, candidacy);
        let (standing, stop) = (election.standing(), CancellationToken::new());
        let stopping = stop.clone();
        let running = tokio::spawn(async move { election.run(&stopping).await });
        Server { env: self.env.clone(), vault, counted, faulty, standing, stop, running }
    }

    /// A server that leads, and one that follows and has listed the streams.
    async fn pair(&self) -> (Server, Server) {
        let a = self.start("a");
        a.leads().await;
        let b = self.start("b");
        b.follows("http://a").await;
        (a, b)
    }

    async fn rest(&self, duration: Duration) {
        self.env.clock.sleep(duration).await;
    }

    fn system() -> ContainerName {
        Prefix::new("mv-").unwrap().system_container()
    }

    fn leader_blob() -> BlobName {
        BlobName { container: Self::system(), name: LEADER_BLOB.to_owned() }
    }

    async fn page(&self) -> LeaderPage {
        let read = self.memory.read(&Self::leader_blob(), 0..LEADER_BYTES).await.unwrap();
        LeaderPage::decode(&read.bytes).unwrap()
    }

    /// The highest term given out.
    async fn number(&self) -> Term {
        self.memory.properties(&Self::leader_blob()).await.unwrap().sequence_number
    }

    /// Waits until the leader has shown again that it lives; answers when, or a little before.
    async fn beat(&self) -> Duration {
        let before = self.page().await.beat;
        loop {
            let now = self.env.clock.monotonic();
            self.rest(Duration::from_millis(5)).await;
            if self.page().await.beat != before {
                return now;
            }
        }
    }

    /// Deletes a container as somebody with the account's key would.
    async fn delete_container(&self, container: &ContainerName) {
        let lease = self.memory.acquire_lease(&LeaseTarget::Container(container.clone()), LEASE).await;
        self.memory.delete_container(container, &lease.unwrap()).await.unwrap();
    }

    async fn make_vault(&self, container: &ContainerName, uid: &str) {
        let metadata = Metadata::from([("vault_uid".to_owned(), uid.to_owned())]);
        self.memory.create_container(container, &metadata).await.unwrap();
    }

    async fn vault_uid(&self) -> String {
        self.memory.container_metadata(&Self::system()).await.unwrap()["vault_uid"].clone()
    }

    fn first_segment(stream: &Stream) -> BlobName {
        let name = SegmentName { stream: stream.meta().id, base: Offset(0) }.to_string();
        BlobName { container: Prefix::new("mv-").unwrap().container(stream.name()), name }
    }
}

impl Server {
    async fn leads(&self) {
        self.vault.until_led(PATIENCE).await;
        assert!(self.term().is_some(), "it leads: {:?}", self.standing.borrow());
    }

    async fn follows(&self, endpoint: &str) {
        let mut standing = self.standing.clone();
        let follows = |standing: &Standing| {
            standing.listed && standing.leader.as_ref().is_some_and(|leader| leader.endpoint == endpoint)
        };
        self.env.timeout(PATIENCE, standing.wait_for(follows)).await.unwrap().unwrap();
    }

    fn term(&self) -> Option<Term> {
        self.vault.term()
    }

    fn name(&self, name: &str) -> StreamName {
        self.vault.name(name).unwrap()
    }

    async fn create(&self, name: &str) -> Arc<Stream> {
        self.vault.create(&self.name(name), SettingsPatch::default()).await.unwrap().1
    }

    fn stream(&self, name: &str) -> Arc<Stream> {
        self.vault.stream(&self.name(name)).unwrap()
    }

    fn lists(&self, name: &str) -> bool {
        self.vault.list(name, None, 1).0.iter().any(|stream| stream.name().as_str() == name)
    }

    async fn append(&self, name: &str, label: &str) -> u64 {
        append(&self.stream(name), label, 10).await.unwrap().first_offset.0
    }

    /// Ends as a process does that is killed: nothing it sends arrives any more, and its lease is not given back.
    async fn die(self) {
        self.faulty.crash();
        self.running.abort();
        let _ = self.running.await;
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}
