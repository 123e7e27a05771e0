//! A broker of Apache Kafka: one process that is its own controller.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::Pid;
use tempfile::TempDir;

use crate::replicas::free_port;
use crate::server::temporary_directory;
use crate::wait::LONG;

const STARTED: &str = "Kafka Server started";

/// A running broker. It ends with the value.
#[derive(Debug)]
pub struct Kafka {
    child: Child,
    address: String,
    folder: PathBuf,
    temporary: Option<TempDir>,
}

/// How Java runs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heap {
    /// With little memory, started soon: for tests.
    Small,
    /// As Kafka's own scripts do: for measurements.
    Default,
}

impl Kafka {
    /// The one that the tests of a program share while one of them wants it. It takes seconds to start.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Self::start());
            *shared = Arc::downgrade(&started);
            started
        })
    }

    /// Starts an empty one and waits until it takes requests.
    #[must_use]
    pub fn start() -> Self {
        let folder = temporary_directory();
        let mut started = Self::start_in(folder.path(), Heap::Small).expect("Kafka can be started");
        started.temporary = Some(folder);
        started
    }

    /// The same in `folder`, which is empty.
    pub fn start_in(folder: &Path, heap: Heap) -> anyhow::Result<Self> {
        let address = format!("127.0.0.1:{}", free_port());
        let settings = folder.join("server.properties");
        let text = settings_of(&address, &folder.join("data"));
        std::fs::write(&settings, text)?;
        let mut format = java(folder, Heap::Small, "kafka.tools.StorageTool")?;
        format.args(["format", "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAQ", "--config"]).arg(&settings);
        let output = format.output().context("java is missing: run tests/install-kafka")?;
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        ensure!(output.status.success(), "Kafka does not format its storage: {}", said.concat());

        let log = std::fs::File::create(folder.join("log"))?;
        let mut command = java(folder, heap, "kafka.Kafka")?;
        command.arg(&settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().context("starting java")?;
        let mut started = Self { child, address, folder: folder.to_owned(), temporary: None };
        let end = Instant::now() + LONG;
        while !started.log().contains(STARTED) {
            if let Some(status) = started.child.try_wait()? {
                bail!("Kafka ended at once with {status}\n{}", started.log());
            }
            ensure!(Instant::now() < end, "Kafka was not ready within {LONG:?}\n{}", started.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(started)
    }

    /// Which one is installed.
    pub fn version() -> anyhow::Result<String> {
        for entry in std::fs::read_dir(jars()?)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let version = name.strip_prefix("kafka-server-").and_then(|name| name.strip_suffix(".jar"));
            if let Some(version) = version.filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
            {
                return Ok(version.to_owned());
            }
        }
        bail!("no jar of Kafka says its version")
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Where clients find it: host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A class of Kafka's. Its log goes to stderr.
fn java(folder: &Path, heap: Heap, class: &str) -> anyhow::Result<Command> {
    let mut command = Command::new("java");
    match heap {
        Heap::Small => command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]),
        // What kafka-server-start.sh and kafka-run-class.sh say.
        Heap::Default => command.args([
            "-Xmx1G",
            "-Xms1G",
            "-server",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-XX:InitiatingHeapOccupancyPercent=35",
            "-XX:+ExplicitGCInvokesConcurrent",
        ]),
    };
    command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
    command.arg("-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info");
    command.arg("-cp").arg(jars()?.join("*")).arg(class).current_dir(folder);
    for options in ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH"] {
        command.env_remove(options);
    }
    Ok(command)
}

fn jars() -> anyhow::Result<PathBuf> {
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("install-kafka");
    let answer = Command::new(&install).arg("--where").output().context("running tests/install-kafka")?;
    let folder = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    ensure!(folder.is_dir(), "Kafka is not installed: run {}", install.display());
    Ok(folder)
}

fn settings_of(address: &str, data: &Path) -> String {
    let controller = format!("127.0.0.1:{}", free_port());
    // Topics of Kafka's own have 50 partitions and three replicas otherwise, and what was deleted stays for a minute.
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{address},CONTROLLER://{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.segment.delete.delay.ms=100
",
        data.display()
    )
}
