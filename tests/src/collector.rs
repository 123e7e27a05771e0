//! An OpenTelemetry Collector that keeps the traces that it is sent, in a file.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::replicas::free_port;
use crate::server::{Setup, temporary_directory};
use crate::wait::{LONG, until};

/// A running collector. It ends with the value.
#[derive(Debug)]
pub struct Collector {
    child: Child,
    port: u16,
    directory: TempDir,
}

/// A span as the collector got it.
#[derive(Clone, Debug)]
pub struct Span {
    /// What it is called.
    pub name: String,
    /// `server`, `client`, `internal` or what else there is.
    pub kind: &'static str,
    /// 32 hexadecimal digits.
    pub trace: String,
    /// 16 hexadecimal digits.
    pub id: String,
    /// The span that it is a part of; empty where there is none.
    pub parent: String,
    /// Spans of other traces that it has to do with.
    pub links: Vec<String>,
    /// Whether it failed.
    pub failed: bool,
    /// `service.name` of the program.
    pub service: String,
    attributes: Value,
}

impl Span {
    /// What it says under a name, as text.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<String> {
        let value = &attribute(&self.attributes, name)?["value"];
        let text = |kind: &str| value[kind].as_str().map(str::to_owned);
        text("stringValue").or_else(|| text("intValue"))
    }
}

fn program() -> PathBuf {
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("install-collector");
    let answer = Command::new(&install).arg("--where").output().expect("the script can be run");
    let path = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    assert!(path.is_file(), "the collector is not built: run {}", install.display());
    path
}

impl Collector {
    /// Starts one and waits until it listens.
    #[must_use]
    pub fn start() -> Self {
        let (directory, port) = (temporary_directory(), free_port());
        let spans = directory.path().join("spans");
        let config = format!(
            "receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{port}'}}}}}}}}\n\
             exporters: {{file: {{path: '{}', flush_interval: 100ms}}}}\n\
             service:\n  pipelines: {{traces: {{receivers: [otlp], exporters: [file]}}}}\n  \
             telemetry: {{metrics: {{level: none}}, logs: {{level: error}}}}\n",
            spans.display()
        );
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, config).expect("the directory can be written to");
        let mut child = Command::new(program())
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .expect("the collector can be started");
        until("the collector listens", LONG, || {
            assert!(child.try_wait().expect("the process is ours").is_none(), "the collector ended at once");
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { child, port, directory }
    }

    /// A server that sends its traces here, soon.
    #[must_use]
    pub fn asked(&self, setup: Setup) -> Setup {
        setup
            .environment("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{}", self.port))
            .environment("OTEL_BSP_SCHEDULE_DELAY", "100")
    }

    /// Everything that has come so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let text = std::fs::read_to_string(self.directory.path().join("spans")).unwrap_or_default();
        // The last line may be on its way.
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .flat_map(|sent: Value| spans_of(&sent))
            .collect()
    }

    /// Waits until the spans of one trace are enough.
    #[must_use]
    pub fn trace(&self, trace: &str, enough: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let mut found = Vec::new();
        let end = std::time::Instant::now() + LONG;
        while std::time::Instant::now() < end {
            found = self.spans();
            found.retain(|span| span.trace == trace);
            if enough(&found) {
                return found;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the trace {trace} is not whole: {found:#?}");
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn attribute<'v>(of: &'v Value, name: &str) -> Option<&'v Value> {
    list(of, "attributes").iter().find(|attribute| attribute["key"] == name)
}

fn spans_of(sent: &Value) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in list(sent, "resourceSpans") {
        let service = attribute(&resource["resource"], "service.name");
        let service = service.and_then(|name| name["value"]["stringValue"].as_str()).unwrap_or_default();
        for span in list(resource, "scopeSpans").iter().flat_map(|scope| list(scope, "spans")) {
            let text = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
            let kinds = ["unspecified", "internal", "server", "client"];
            let kind = span["kind"].as_u64().and_then(|kind| usize::try_from(kind).ok());
            spans.push(Span {
                name: text("name"),
                kind: kind.and_then(|kind| kinds.get(kind).copied()).unwrap_or("other"),
                trace: text("traceId"),
                id: text("spanId"),
                parent: text("parentSpanId"),
                links: list(span, "links")
                    .iter()
                    .filter_map(|link| Some(link["spanId"].as_str()?.to_owned()))
                    .collect(),
                failed: span["status"]["code"] == 2,
                service: service.to_owned(),
                attributes: span.clone(),
            });
        }
    }
    spans
}
