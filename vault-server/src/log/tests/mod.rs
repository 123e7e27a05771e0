//! The log on memory storage whose requests go wrong as planned. Time is the runtime's, paused.

mod accounts;
mod appending;
mod claiming;
mod clocks;
mod compression;
mod crashes;
mod damage;
mod following;
mod making;
mod measured;
mod producers;
mod reading_ahead;
mod retention;
mod retention_races;
mod retention_readers;
mod scanning;
mod steps;
mod takeover;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vault_format::header::Kind;
use vault_format::ids::{Offset, Term};
use vault_format::limits::BLOCK_BYTES;
use vault_format::names::{LEADER_BLOB, Prefix, StreamName};
use vault_format::record::{Message, Record};

use crate::election::standing::Standing;
use crate::election::{Candidacy, Conflict, Election};
use crate::env::Env;
use crate::limits::LEADER_BYTES;
use crate::log::appender::Appended;
use crate::log::context::Options;
use crate::log::error::{AppendError, ReadError, Unusable};
use crate::log::reign::Reign;
use crate::log::settings::SettingsPatch;
use crate::log::stream::{Append, Condition, Freshness, Stream};
use crate::log::vault::Vault;
use crate::log::writer::Command;
use crate::storage::faulty::Faulty;
use crate::storage::memory::MemoryStorage;
use crate::storage::{BlobName, Metadata, Storage};

const PATIENCE: Duration = Duration::from_secs(30);

/// One server: a vault over storage that fails as planned.
struct Server {
    env: Env,
    memory: Arc<MemoryStorage>,
    faulty: Arc<Faulty<MemoryStorage>>,
    vault: Vault,
    /// Kept, so that notices of a reign's end have somewhere to go.
    reign_over: tokio::sync::mpsc::Receiver<crate::log::reign::ReignEnd>,
}

impl Server {
    /// The first server of a new vault, leading.
    async fn first(seed: u64) -> Self {
        Self::first_with(Env::controlled(seed), seed).await
    }

    /// The same, with a clock of the test's.
    async fn first_with(env: Env, seed: u64) -> Self {
        let server = Self::on(Arc::new(MemoryStorage::new(env.clone())), env, seed);
        let container = server.vault.context.prefix.system_container();
        let metadata = Metadata::from([("vault_uid".to_owned(), "tests".to_owned())]);
        server.memory.create_container(&container, &metadata).await.unwrap();
        let leader_blob = BlobName { container, name: LEADER_BLOB.to_owned() };
        server.memory.create_page_blob(&leader_blob, LEADER_BYTES, Term(1)).await.unwrap();
        server.lead().await;
        server
    }

    /// Another server on the same storage, which does not lead yet.
    fn beside(&self, seed: u64) -> Self {
        Self::on(Arc::clone(&self.memory), self.env.clone(), seed)
    }

    /// Another server on the same storage, with other options.
    fn with(&self, options: Options) -> Self {
        let (memory, env) = (Arc::clone(&self.memory), self.env.clone());
        let faulty = Arc::new(Faulty::new(Arc::clone(&memory), env.clone(), 1));
        Self::over(memory, env, faulty, options)
    }

    fn on(memory: Arc<MemoryStorage>, env: Env, seed: u64) -> Self {
        let faulty = Arc::new(Faulty::new(Arc::clone(&memory), env.clone(), seed));
        Self::over(memory, env, faulty, Options::new(PATIENCE))
    }

    fn over(
        memory: Arc<MemoryStorage>,
        env: Env,
        faulty: Arc<Faulty<MemoryStorage>>,
        options: Options,
    ) -> Self {
        let storage: Arc<dyn Storage> = faulty.clone();
        let (vault, reign_over) = Vault::new(storage, env.clone(), Prefix::new("mv-").unwrap(), options);
        Self { env, memory, faulty, vault, reign_over }
    }

    /// Leads under the next term, without an election: that has tests of its own.
    async fn lead(&self) {
        let container = self.vault.context.prefix.system_container();
        let leader_blob = BlobName { container, name: LEADER_BLOB.to_owned() };
        let before = self.memory.properties(&leader_blob).await.unwrap().sequence_number;
        let term = Term(before.0 + 1);
        assert_eq!(self.memory.raise_sequence_number(&leader_blob, term).await.unwrap(), term);
        self.vault.lead(Reign { term, leader_blob }).await.unwrap();
    }

    /// A server that comes after this one, under the next term.
    async fn successor(&self) -> Self {
        let next = self.beside(99);
        next.lead().await;
        next
    }

    fn name(&self, name: &str) -> StreamName {
        self.vault.name(name).unwrap()
    }

    async fn create(&self, name: &str, blocks: u64) -> Arc<Stream> {
        let settings =
            SettingsPatch { segment_bytes: Some(blocks * BLOCK_BYTES), ..SettingsPatch::default() };
        self.vault.create(&self.name(name), settings).await.unwrap().1
    }

    fn stream(&self, name: &str) -> Arc<Stream> {
        self.vault.stream(&self.name(name)).unwrap()
    }

    /// The stored bytes of the segment with this base offset.
    fn segment(&self, stream: &Stream, base: u64) -> BlobName {
        let name = vault_format::names::SegmentName { stream: stream.meta().id, base: Offset(base) };
        let container = self.vault.context.prefix.container(stream.name());
        BlobName { container, name: name.to_string() }
    }

    /// Changes stored bytes behind the log's back.
    async fn spoil(&self, blob: &BlobName, at: u64, change: impl FnOnce(&mut [u8])) {
        let page = at / 512 * 512;
        let properties = self.memory.properties(blob).await.unwrap();
        let mut bytes = self.memory.read(blob, page..page + 512).await.unwrap().bytes.to_vec();
        change(&mut bytes[usize::try_from(at - page).unwrap()..]);
        let position = vault_format::ids::Position(page);
        self.memory.put_pages(blob, position, bytes.into(), properties.sequence_number, None).await.unwrap();
    }

    async fn reign_end(&mut self) -> crate::log::reign::ReignEnd {
        self.env.timeout(PATIENCE, self.reign_over.recv()).await.expect("the reign ends").unwrap()
    }

    async fn stop(&self, command: Command) {
        self.vault.step_down(command).await;
    }
}

/// A server that takes part in the election, until it is told to stop.
struct Elected {
    vault: Vault,
    faulty: Arc<Faulty<MemoryStorage>>,
    standing: tokio::sync::watch::Receiver<Standing>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), Conflict>>,
}

impl Elected {
    fn run(server: Server, endpoint: &str) -> Self {
        let Server { vault, reign_over, faulty, .. } = server;
        let candidacy = Candidacy { endpoint: endpoint.to_owned(), vault_uid: None };
        let mut election = Election::new(vault.clone(), reign_over, candidacy);
        let standing = election.standing();
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let running = tokio::spawn(async move { election.run(&stopping).await });
        Self { vault, faulty, standing, stop, running }
    }

    /// A server that leads by now.
    async fn leading(server: Server) -> Self {
        let elected = Self::run(server, "http://leader");
        elected.vault.until_led(PATIENCE).await;
        elected
    }

    async fn create(&self, name: &str) -> Arc<Stream> {
        self.vault.create(&self.vault.name(name).unwrap(), SettingsPatch::default()).await.unwrap().1
    }

    fn stream(&self, name: &str) -> Arc<Stream> {
        self.vault.stream(&self.vault.name(name).unwrap()).unwrap()
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// One message of `bytes` bytes that begins with `label`.
pub(crate) fn append_of(label: &str, bytes: usize) -> Append {
    let mut value = label.as_bytes().to_vec();
    value.resize(bytes.max(label.len()), b'.');
    let mut records = Vec::new();
    let key = label.as_bytes();
    Message { key, value: &value, ..Message::default() }.encode(0, &mut records);
    Append { records: records.into(), record_count: 1, expected_offset: None }
}

pub(crate) async fn append(stream: &Arc<Stream>, label: &str, bytes: usize) -> Result<Appended, AppendError> {
    stream.append(append_of(label, bytes), PATIENCE).await
}

/// The labels of all messages from `from` on, each with its offset.
async fn labels_from(stream: &Arc<Stream>, from: u64) -> Result<Vec<(u64, String)>, ReadError> {
    let reader = stream.reader(Freshness::Recent).await?;
    let mut cursor = reader.seek(Offset(from)).await?;
    let mut labels = Vec::new();
    while let Some(batches) = reader.next(&mut cursor).await? {
        for (at, header) in batches.headers().filter(|(_, header)| header.kind == Kind::Messages) {
            let records = reader.records(&batches, at, &header).await?;
            let mut payload = &records[..];
            for index in 0..u64::from(header.record_count) {
                let record = Record::take(&mut payload).unwrap();
                let offset = header.base_offset.0 + index;
                if offset >= from {
                    labels.push((offset, String::from_utf8(record.key.to_vec()).unwrap()));
                }
            }
        }
    }
    Ok(labels)
}

pub(crate) async fn labels(stream: &Arc<Stream>) -> Vec<(u64, String)> {
    labels_from(stream, 0).await.unwrap()
}
