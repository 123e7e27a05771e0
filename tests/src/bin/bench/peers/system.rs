//! The systems, and each of them as a process on loopback with a directory of its own.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use rustix::process::Pid;
use serde_json::json;
use vault_tests::kafka::{Heap, Kafka};
use vault_tests::replicas::free_port;
use vault_tests::server::{Server, Setup};
use vault_tests::wait::{LONG, until};

use super::line::Line;
use super::protocol::{Append, How, Read, kafka, nats, redis, vault};

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, ValueEnum)]
pub(crate) enum System {
    /// vault-server with file storage
    Vault,
    /// Redis Streams, append-only file synced before each answer
    Redis,
    /// NATS JetStream, synced before each acknowledgement
    Nats,
    /// NATS JetStream as it comes: synced every two minutes
    NatsUnsynced,
    /// Apache Kafka, one broker, synced before each acknowledgement
    Kafka,
    /// Apache Kafka as it comes: synced when the operating system likes to
    KafkaUnsynced,
}

impl System {
    /// What it is called in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Redis => "redis",
            Self::Nats => "nats",
            Self::NatsUnsynced => "nats-unsynced",
            Self::Kafka => "kafka",
            Self::KafkaUnsynced => "kafka-unsynced",
        }
    }

    /// What an acknowledgement means.
    pub(crate) fn durability(self) -> &'static str {
        match self {
            Self::Vault => "synced before the answer, group commit",
            Self::Redis => "`appendfsync always`: synced before the answer",
            Self::Nats => "`sync_interval: always`: synced before the acknowledgement",
            Self::NatsUnsynced => "the default: synced every 2 minutes",
            Self::Kafka => "`flush.messages=1`: synced before the acknowledgement",
            Self::KafkaUnsynced => "the default: synced when the system writes back",
        }
    }

    /// Whether what it acknowledges is synced.
    pub(crate) fn is_synced(self) -> bool {
        !matches!(self, Self::NatsUnsynced | Self::KafkaUnsynced)
    }

    /// The same program that acknowledges sooner: what is read from it is read as fast.
    pub(crate) fn quick_to_fill(self) -> Self {
        match self {
            Self::Nats => Self::NatsUnsynced,
            Self::Kafka => Self::KafkaUnsynced,
            it => it,
        }
    }

    /// Starts an empty one with its data in `directory`, which is its own.
    pub(crate) fn start(self, directory: &Path) -> anyhow::Result<Running> {
        std::fs::create_dir_all(directory)?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let started = match self {
            Self::Vault => {
                let server = Setup::in_directory(directory).start();
                return Ok(Running {
                    system: self,
                    address: server.address(),
                    process: Process::Vault(Box::new(server)),
                });
            }
            Self::Redis => Process::Child(redis_server(directory, address)?),
            Self::Nats => Process::Child(nats_server(directory, address, Some("always"))?),
            Self::NatsUnsynced => Process::Child(nats_server(directory, address, None)?),
            Self::Kafka | Self::KafkaUnsynced => {
                let broker = Kafka::start_in(directory, Heap::Default);
                let address = broker.address().parse().context("where Kafka listens")?;
                return Ok(Running { system: self, address, process: Process::Kafka(broker) });
            }
        };
        let mut running = Running { system: self, address, process: started };
        for _ in 0..1_000 {
            if running.answers() {
                return Ok(running);
            }
            running.assert_runs()?;
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("{} does not answer on {address}", self.name())
    }
}

/// Where `redis-server` and `nats-server` are.
fn peers() -> anyhow::Result<PathBuf> {
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("install-peers");
    let answer = Command::new(&install).arg("--where").output().context("running tests/install-peers")?;
    let folder = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    ensure!(
        folder.join("nats-server").is_file(),
        "Redis and NATS are not installed: run {}, or name other systems with --systems",
        install.display()
    );
    Ok(folder)
}

fn redis_server(directory: &Path, address: SocketAddr) -> anyhow::Result<Owned> {
    let folder = peers()?;
    let mut command = Command::new(folder.join("redis-server"));
    command.env("LD_LIBRARY_PATH", &folder).current_dir(directory);
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", "always"]);
    // Nothing is rewritten while it is measured.
    command.args(["--auto-aof-rewrite-percentage", "0"]);
    Owned::spawn(command, directory)
}

fn nats_server(directory: &Path, address: SocketAddr, sync: Option<&str>) -> anyhow::Result<Owned> {
    let sync = sync.map_or_else(String::new, |sync| format!("sync_interval: \"{sync}\""));
    let text = format!(
        "listen: \"{address}\"
jetstream {{
    store_dir: \"{}\"
    max_file_store: 1TB
    # As many as the producers have on their way at a time.
    max_buffered_msgs: 1000000
    max_buffered_size: 1GB
    {sync}
}}
",
        directory.join("data").display()
    );
    let config = directory.join("nats.conf");
    std::fs::write(&config, text)?;
    let mut command = Command::new(peers()?.join("nats-server"));
    command.arg("--config").arg(&config).current_dir(directory);
    Owned::spawn(command, directory)
}

/// A process that ends with the value.
#[derive(Debug)]
struct Owned {
    child: Child,
    log: PathBuf,
}

impl Owned {
    fn spawn(mut command: Command, directory: &Path) -> anyhow::Result<Self> {
        let log = directory.join("log");
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok(Self { child, log })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
enum Process {
    Vault(Box<Server>),
    Kafka(Kafka),
    Child(Owned),
}

/// A running system. It ends with the value.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) system: System,
    pub(crate) address: SocketAddr,
    process: Process,
}

impl Running {
    /// The process.
    pub(crate) fn pid(&self) -> Pid {
        match &self.process {
            Process::Vault(server) => server.pid(),
            Process::Kafka(broker) => broker.pid(),
            Process::Child(owned) => Pid::from_child(&owned.child),
        }
    }

    fn assert_runs(&mut self) -> anyhow::Result<()> {
        let Process::Child(owned) = &mut self.process else { return Ok(()) };
        let Some(status) = owned.child.try_wait()? else { return Ok(()) };
        let log = std::fs::read_to_string(&owned.log).unwrap_or_default();
        bail!("{} ended with {status}: {log}", self.system.name())
    }

    fn answers(&self) -> bool {
        match self.system {
            System::Redis => self.redis(&[b"PING"]).is_ok_and(|answer| answer == "+PONG"),
            _ => self.nats("$JS.API.INFO", &json!({})).is_ok(),
        }
    }

    /// What one producer says; `messages` go into a request.
    pub(crate) fn append(&self, stream: &str, producer: u16, messages: usize) -> Box<dyn Append> {
        match self.system {
            System::Vault => Box::new(vault::Appender::new(stream, producer, messages)),
            System::Redis => Box::new(redis::Appender::new(stream, producer, messages)),
            System::Nats | System::NatsUnsynced => {
                let is_atomic = self.system.is_synced();
                Box::new(nats::Appender::new(stream, producer, messages, is_atomic))
            }
            System::Kafka | System::KafkaUnsynced => {
                Box::new(kafka::Appender::new(stream, producer, messages))
            }
        }
    }

    /// What one consumer says; `number` tells it from the others.
    pub(crate) fn read(&self, stream: &str, number: u64, how: How) -> Box<dyn Read> {
        match self.system {
            System::Vault => Box::new(vault::Reader::new(stream, how)),
            System::Redis => Box::new(redis::Reader::new(stream, how)),
            System::Nats | System::NatsUnsynced => {
                Box::new(nats::Reader::new(stream, format!("c{number}"), how))
            }
            System::Kafka | System::KafkaUnsynced => Box::new(kafka::Reader::new(stream, how)),
        }
    }

    /// Makes an empty stream.
    pub(crate) fn create(&self, stream: &str) -> anyhow::Result<()> {
        match &self.process {
            Process::Vault(server) => {
                server.client().put(&format!("/streams/{stream}"), &json!({})).expect(201);
            }
            Process::Kafka(_) => {
                let mut configs = vec![("file.delete.delay.ms", "100")];
                if self.system.is_synced() {
                    configs.push(("flush.messages", "1"));
                }
                let (error, _) = self.kafka(&kafka::create_topic(stream, &configs), stream, 8)?;
                ensure!(error == 0, "Kafka makes no topic: error {error}");
                // Its leader is there a moment later.
                until("the topic has a leader", LONG, || self.length(stream).ok());
            }
            // Made by the first message.
            Process::Child(_) if self.system == System::Redis => {}
            Process::Child(_) => {
                let config = json!({
                    "name": stream, "subjects": [stream], "storage": "file", "retention": "limits",
                    "discard": "old", "num_replicas": 1, "allow_atomic": true,
                });
                self.nats(&format!("$JS.API.STREAM.CREATE.{stream}"), &config)?;
            }
        }
        Ok(())
    }

    /// How many messages a stream has.
    pub(crate) fn length(&self, stream: &str) -> anyhow::Result<u64> {
        match &self.process {
            Process::Vault(server) => {
                let answer = server.client().get(&format!("/streams/{stream}")).expect(200).json();
                answer["next_offset"].as_u64().with_context(|| format!("no next_offset in {answer}"))
            }
            Process::Kafka(_) => {
                let (error, rest) = self.kafka(&kafka::list_offsets(stream), stream, 12)?;
                ensure!(error == 0, "Kafka lists no offsets: error {error}");
                let offset = rest.get(8..16).and_then(|bytes| bytes.first_chunk()).context("no offset")?;
                Ok(u64::try_from(i64::from_be_bytes(*offset))?)
            }
            Process::Child(_) if self.system == System::Redis => {
                let answer = self.redis(&[b"XLEN", stream.as_bytes()])?;
                answer
                    .strip_prefix(':')
                    .and_then(|it| it.parse().ok())
                    .with_context(|| format!("XLEN: {answer}"))
            }
            Process::Child(_) => {
                let answer = self.nats(&format!("$JS.API.STREAM.INFO.{stream}"), &json!({}))?;
                answer["state"]["messages"].as_u64().with_context(|| format!("no messages in {answer}"))
            }
        }
    }

    /// Deletes a stream and gives its room back.
    pub(crate) fn delete(&self, stream: &str) -> anyhow::Result<()> {
        match &self.process {
            Process::Vault(server) => {
                server.client().delete(&format!("/streams/{stream}")).expect(204);
            }
            Process::Kafka(_) => {
                let (error, _) = self.kafka(&kafka::delete_topic(stream), stream, 8)?;
                ensure!(error == 0, "Kafka deletes no topic: error {error}");
            }
            Process::Child(_) if self.system == System::Redis => {
                self.redis(&[b"DEL", stream.as_bytes()])?;
                // The file holds what was deleted until it is written anew.
                self.redis(&[b"BGREWRITEAOF"])?;
                until("Redis has written its file anew", LONG, || {
                    let info = self.redis(&[b"INFO", b"persistence"]).unwrap_or_default();
                    (info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0"))
                        .then_some(())
                });
            }
            Process::Child(_) => {
                self.nats(&format!("$JS.API.STREAM.DELETE.{stream}"), &json!({}))?;
            }
        }
        Ok(())
    }

    /// One command, and the first line of the answer, or all of a bulk string.
    fn redis(&self, words: &[&[u8]]) -> anyhow::Result<String> {
        let mut line = Line::open(self.address)?;
        line.send(&redis::command(words))?;
        loop {
            line.receive()?;
            let said = String::from_utf8_lossy(line.waiting()).into_owned();
            let Some((first, rest)) = said.split_once("\r\n") else { continue };
            ensure!(!first.starts_with('-'), "Redis answers {first}");
            match first.strip_prefix('$').map(str::parse::<usize>).transpose()? {
                None => return Ok(first.to_owned()),
                Some(length) if rest.len() >= length + 2 => return Ok(rest[..length].to_owned()),
                Some(_) => {}
            }
        }
    }

    /// One request to the API, and its answer.
    fn nats(&self, subject: &str, body: &serde_json::Value) -> anyhow::Result<serde_json::Value> {
        let mut line = Line::open(self.address)?;
        line.send(&[nats::hello("_INBOX.api"), nats::request(subject, "_INBOX.api", body)].concat())?;
        loop {
            line.receive()?;
            if let Some((answer, _)) = nats::answer(line.waiting())? {
                return Ok(answer);
            }
        }
    }

    /// One request about a topic: the error in the answer and what is behind it.
    fn kafka(&self, request: &[u8], topic: &str, fields_before: usize) -> anyhow::Result<(i16, Vec<u8>)> {
        let mut line = Line::open(self.address)?;
        line.send(request)?;
        loop {
            line.receive()?;
            let waiting = line.waiting();
            if kafka::answer_bytes(waiting).is_some_and(|bytes| waiting.len() >= bytes) {
                return kafka::outcome(waiting, topic, fields_before);
            }
        }
    }
}
