//! Prometheus, as Debian packages it: its checker of metrics, and the program itself.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::replicas::free_port;
use crate::server::temporary_directory;
use crate::wait::{LONG, until};

fn program(name: &str) -> PathBuf {
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("install-prometheus");
    let answer = Command::new(&install).arg("--where").output().expect("the script can be run");
    let path = Path::new(String::from_utf8_lossy(&answer.stdout).trim()).join(name);
    assert!(path.is_file(), "Prometheus is not installed: run {}", install.display());
    path
}

/// What `promtool check metrics` complains of: nothing where the answer is empty.
#[must_use]
pub fn complaints(metrics: &[u8]) -> String {
    let mut command = Command::new(program("promtool"));
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool can be started");
    // Nothing is said before all is read.
    let mut input = child.stdin.take().expect("its input is a pipe");
    input.write_all(metrics).expect("promtool reads its input");
    drop(input);
    let output = child.wait_with_output().expect("the process is ours");
    let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
    match output.status.code() {
        Some(0) => said.concat(),
        other => format!("promtool ended with {other:?}: {}", said.concat()),
    }
}

/// Runs `promtool` on files to its end, and answers whether it is content and what it said.
#[must_use]
pub fn promtool<T: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = T>) -> (bool, String) {
    let output = Command::new(program("promtool")).args(arguments).output().expect("promtool can be started");
    let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
    (output.status.success(), said.concat())
}

/// A running Prometheus. It ends with the value.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    client: Client,
    folder: TempDir,
}

impl Prometheus {
    /// Has it scrape with this configuration, in YAML, and waits until it answers.
    #[must_use]
    pub fn start(configuration: &str) -> Self {
        let folder = temporary_directory();
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, configuration).expect("there is room for a small file");
        let address = format!("127.0.0.1:{}", free_port());
        let log = std::fs::File::create(folder.path().join("log")).expect("there is room for a log");
        let mut command = Command::new(program("prometheus"));
        command.arg("--config.file").arg(&file);
        command.arg("--storage.tsdb.path").arg(folder.path().join("data"));
        command.args(["--web.listen-address", &address]).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("Prometheus can be started");
        let client = Client::new(address.parse().expect("this is an address"));
        let mut started = Self { child, client, folder };
        until("Prometheus is ready", LONG, || {
            let ended = started.child.try_wait().expect("the process is ours");
            assert!(ended.is_none(), "Prometheus ended at once\n{}", started.log());
            let answer = started.client.send("GET", "/-/ready", &[], None);
            answer.ok().filter(|answer| answer.status == 200)
        });
        started
    }

    /// What an expression gives now: the series, each with its labels and its value. Panics where it is not valid.
    #[must_use]
    pub fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let form: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.client.get(&format!("/api/v1/query?query={form}")).expect(200).json();
        let series = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {answer}"));
        let value = |series: &Value| {
            let value = series["value"][1].as_str().and_then(|value| value.parse().ok());
            (series["metric"].clone(), value.unwrap_or_else(|| panic!("{expression}: {series}")))
        };
        series.iter().map(value).collect()
    }

    /// What it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
