//! The systems, and each of them as a process on loopback with a directory of its own.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use tempfile::TempDir;
use vault_tests::kafka::{Heap, Kafka};
use vault_tests::replicas::free_port;
use vault_tests::server::Setup;

use super::running::{Process, Running};

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

    /// Which one is installed.
    pub(crate) fn version(self) -> anyhow::Result<String> {
        let mut command = match self {
            Self::Vault => Command::new(vault_tests::server::program()),
            Self::Redis => redis_program()?,
            Self::Nats | Self::NatsUnsynced => Command::new(peers()?.join("nats-server")),
            Self::Kafka | Self::KafkaUnsynced => return Kafka::version(),
        };
        let answer = command.arg("--version").output().with_context(|| format!("starting {command:?}"))?;
        let said = String::from_utf8_lossy(&answer.stdout).into_owned();
        let version = version_in(&said).with_context(|| format!("{command:?} says {said:?}"))?;
        Ok(version.to_owned())
    }

    /// Starts an empty one with its data in `directory`, which goes with it.
    pub(crate) fn start(self, directory: TempDir) -> anyhow::Result<Running> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let path = directory.path();
        let (address, process) = match self {
            Self::Vault => {
                let server = Setup::in_directory(path).start();
                (server.address(), Process::Vault(Box::new(server)))
            }
            Self::Redis => (address, Process::Child(redis_server(path, address)?)),
            Self::Nats => (address, Process::Child(nats_server(path, address, Some("always"))?)),
            Self::NatsUnsynced => (address, Process::Child(nats_server(path, address, None)?)),
            Self::Kafka | Self::KafkaUnsynced => {
                let broker = Kafka::start_in(path, Heap::Default)?;
                (broker.address().parse().context("where Kafka listens")?, Process::Kafka(broker))
            }
        };
        let running = Running { system: self, address, process, _directory: directory };
        running.wait_until_it_answers()?;
        Ok(running)
    }
}

/// The version in what a program says of itself.
fn version_in(said: &str) -> Option<&str> {
    let mut words = said.split_whitespace().map(|word| word.trim_start_matches("v=").trim_start_matches('v'));
    words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
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

fn redis_program() -> anyhow::Result<Command> {
    let folder = peers()?;
    let mut command = Command::new(folder.join("redis-server"));
    command.env("LD_LIBRARY_PATH", &folder);
    Ok(command)
}

fn redis_server(directory: &Path, address: SocketAddr) -> anyhow::Result<Owned> {
    let mut command = redis_program()?;
    command.current_dir(directory);
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
    # One for each producer of a stream, and 50 otherwise.
    limits {{ batch {{ max_inflight_per_stream: 1000 }} }}
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
pub(crate) struct Owned {
    pub(crate) child: Child,
    pub(crate) log: PathBuf,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_say_their_versions() {
        assert_eq!(version_in("vault-server 0.1.0\n"), Some("0.1.0"));
        assert_eq!(version_in("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0"), Some("7.0.15"));
        assert_eq!(version_in("nats-server: v2.15.1"), Some("2.15.1"));
        for system in System::value_variants() {
            assert!(system.version().unwrap().contains('.'), "{system:?}");
        }
    }
}
