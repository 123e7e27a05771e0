//! What is installed: the chart, the manifests, and what the operator makes of vaults, on a real API server with real
//! Helm; and that documents, alerts and dashboards say the same. Run `tests/install-kubernetes` and
//! `tests/install-prometheus` once before.
#![expect(clippy::unwrap_used, reason = "a test that finds what it needs missing has failed")]

mod alerts;
mod documents;
mod manifests;
mod objects;
mod releases;
mod render;
mod rights;
mod start;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use vault_tests::kubernetes::{Helm, parts};
use vault_tests::mvctl::Said;

/// A path below the workspace.
fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(workspace(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn chart() -> String {
    workspace("charts/message-vault").display().to_string()
}

/// The documents of a YAML text that hold something.
fn documents(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text).map(|one| Value::deserialize(one).unwrap());
    documents.filter(|document| !document.is_null()).collect()
}

/// The documents of one kind.
fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents.iter().filter(|document| document["kind"] == kind).collect()
}

/// Helm without a cluster, for what it renders and refuses. The version of Helm decides for which Kubernetes it renders
/// unless it is told.
fn helm(version: Helm, arguments: &[&str], values: &Value) -> Said {
    let values = values_file(values);
    let mut command = Command::new(parts::program(version.program()));
    command.args(arguments).arg("--values").arg(values.path());
    if arguments[0] == "template" {
        command.arg("--kube-version=1.36.0");
    }
    Said::of(command.output().unwrap())
}

/// What Helm renders of the chart with these values, as release `mv` in the namespace `system`.
fn rendered(version: Helm, values: &Value) -> String {
    let said = helm(version, &["template", "mv", &chart(), "--namespace=system"], values).expect(0);
    String::from_utf8(said.out).unwrap()
}

fn values_file(values: &Value) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    std::fs::write(file.path(), values.to_string()).unwrap();
    file
}
