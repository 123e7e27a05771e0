//! `kubectl apply -k manifests/` and the samples, on a real API server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde_json::{Value, json};
use vault_tests::kinds::monitoring_kinds;
use vault_tests::kubernetes::Cluster;

use super::{documents, read, workspace};

/// That a cluster has the manifests applied, as long as somebody needs it.
pub(super) fn installed(cluster: &Cluster) -> Arc<()> {
    static INSTALLED: Mutex<Weak<()>> = Mutex::new(Weak::new());
    let mut installed: MutexGuard<'_, _> = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    installed.upgrade().unwrap_or_else(|| {
        let _ = apply(cluster);
        let _ = cluster.kubectl_in(&monitoring_kinds(), ["apply", "--filename=-"]).expect(0);
        let kinds = ["messagevaults.messagevault.io", "vaultstreams.messagevault.io"];
        let kinds = kinds.into_iter().chain(["servicemonitors.monitoring.coreos.com"]);
        for kind in kinds.chain(["prometheusrules.monitoring.coreos.com"]) {
            let crd = format!("crd/{kind}");
            let _ = cluster.kubectl(["wait", "--for=condition=Established", &crd, "--timeout=60s"]).expect(0);
        }
        let token = Arc::new(());
        *installed = Arc::downgrade(&token);
        token
    })
}

fn apply(cluster: &Cluster) -> String {
    let path = workspace("manifests").display().to_string();
    let said = cluster.kubectl(["apply", "--server-side", "--kustomize", &path]).expect(0);
    String::from_utf8(said.out).unwrap()
}

/// What the API server counts up with every change, of the objects in the manifests.
fn versions(cluster: &Cluster) -> Vec<(String, String)> {
    let path = workspace("manifests").display().to_string();
    let said = cluster.kubectl(["get", "--kustomize", &path, "--output=json"]).expect(0);
    let list: Value = serde_json::from_slice(&said.out).unwrap();
    let items = list["items"].as_array().unwrap().iter();
    let versions = items.map(|item| {
        let name = format!("{} {}", item["kind"], item["metadata"]["name"]);
        // The Deployment's status is written all the while.
        let version = match item["metadata"]["generation"].as_i64() {
            Some(generation) => generation.to_string(),
            None => item["metadata"]["resourceVersion"].to_string(),
        };
        (name, version)
    });
    versions.collect()
}

#[test]
fn applied_twice_the_manifests_change_nothing() {
    let cluster = Cluster::shared();
    let _installed = installed(&cluster);
    let before = versions(&cluster);
    assert_eq!(before.len(), 12, "{before:?}");
    let _ = apply(&cluster);
    assert_eq!(versions(&cluster), before);
    // Without server-side apply it works as well: no definition is too long for kubectl's annotation.
    let path = workspace("manifests").display().to_string();
    let _ = cluster.kubectl(["apply", "--dry-run=server", "--kustomize", &path]).expect(0);
}

#[test]
fn an_api_server_takes_the_samples() {
    let cluster = Cluster::shared();
    let _installed = installed(&cluster);
    for sample in ["aks", "azurite", "stream", "application", "connection-string"] {
        let text = read(&format!("manifests/samples/{sample}.yaml"));
        // A dry run does not make the namespaces that the rest is in.
        let namespaces = documents(&text).into_iter().filter(|document| document["kind"] == "Namespace");
        let mut needed: Vec<_> =
            namespaces.map(|namespace| namespace["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        needed.push("shop".to_owned());
        for name in needed {
            let namespace = json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": { "name": name, "labels": { "pod-security.kubernetes.io/warn": "restricted" } },
            });
            let _ = cluster.kubectl_in(&namespace.to_string(), ["apply", "--filename=-"]).expect(0);
        }
        let said = cluster.kubectl_in(&text, ["apply", "--dry-run=server", "--filename=-"]);
        assert_eq!(said.code, Some(0), "{sample}: {}", said.err);
        assert!(!said.err.contains("Warning: would violate"), "{sample}: {}", said.err);
    }
}

#[test]
fn what_the_rules_forbid_is_refused_by_the_api_server() {
    let cluster = Cluster::shared();
    let _installed = installed(&cluster);
    let sample = documents(&read("manifests/samples/aks.yaml"));
    let vault = sample.into_iter().find(|document| document["kind"] == "MessageVault").unwrap();
    let with = |pointer: &str, value: Value| {
        let mut vault = vault.clone();
        vault["metadata"]["namespace"] = json!("default");
        *vault.pointer_mut(pointer).unwrap() = value;
        vault
    };
    for (vault, says) in [
        (with("/spec/replicas", json!(0)), "replicas"),
        (with("/spec/access", json!({})), "say who may use the vault"),
        (with("/spec/storage/workloadIdentity", Value::Null), "exactly one of workloadIdentity"),
        (with("/metadata/name", json!("1st")), "the name must"),
        (with("/spec/streams/0/name", json!("sys")), "reserved"),
    ] {
        let said = cluster.kubectl_in(&vault.to_string(), ["apply", "--dry-run=server", "--filename=-"]);
        assert!(said.code == Some(1) && said.err.contains(says), "{says}: {}", said.err);
    }
}
