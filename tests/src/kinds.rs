//! The kinds of the operator, and of others, as a cluster gets them.

use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::kubernetes::Cluster;
use crate::operator::RIGHTS;
use crate::server::program_named;

/// Applies a text of YAML as an administrator.
pub fn apply_text(cluster: &Cluster, text: &str) {
    let _ = cluster.kubectl_in(text, ["apply", "--server-side", "--force-conflicts", "-f", "-"]).expect(0);
}

/// The CustomResourceDefinitions of this version, as YAML.
#[must_use]
pub fn kinds() -> String {
    let said = Command::new(program_named("vault-operator")).arg("crds").output();
    let said = said.expect("the operator can be started");
    String::from_utf8(said.stdout).expect("it writes text")
}

/// Puts the CustomResourceDefinitions and the operator's roles into a cluster.
pub fn install(cluster: &Cluster) {
    apply_text(cluster, &kinds());
    apply_text(cluster, include_str!("../../manifests/namespace.yaml"));
    apply_text(cluster, RIGHTS);
    until_known(cluster);
}

/// Waits until a cluster has the operator's kinds.
pub fn until_known(cluster: &Cluster) {
    for name in ["crd/messagevaults.messagevault.io", "crd/vaultstreams.messagevault.io"] {
        let _ = cluster.kubectl(["wait", "--for=condition=Established", name, "--timeout=30s"]).expect(0);
    }
}

/// The definitions as a version before may have had them: vaults without `log`, `limits`, `monitoring` and a count of
/// streams, no rules for the settings of streams, and no columns to print.
#[must_use]
pub fn earlier_kinds() -> String {
    let kinds = kinds();
    let earlier = serde_yaml::Deserializer::from_str(&kinds).map(|document| {
        let mut kind = Value::deserialize(document).expect("it is YAML");
        let version = &mut kind["spec"]["versions"][0];
        without(version, "additionalPrinterColumns");
        let parts = &mut version["schema"]["openAPIV3Schema"]["properties"];
        for field in ["log", "limits", "monitoring"] {
            without(&mut parts["spec"]["properties"], field);
        }
        without(&mut parts["status"]["properties"], "streamCount");
        if let Some(settings) = parts.pointer_mut("/spec/properties/settings") {
            without(settings, "x-kubernetes-validations");
        }
        kind.to_string()
    });
    earlier.collect::<Vec<_>>().join("\n---\n")
}

fn without(object: &mut Value, field: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(field);
    }
}

/// Kinds of the Prometheus operator, with as much of a schema as is needed to make them.
#[must_use]
pub fn monitoring_kinds() -> String {
    let kinds = [("ServiceMonitor", "servicemonitors"), ("PrometheusRule", "prometheusrules")];
    let definitions = kinds.map(|(kind, plural)| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.monitoring.coreos.com") },
            "spec": {
                "group": "monitoring.coreos.com",
                "scope": "Namespaced",
                "names": { "kind": kind, "plural": plural },
                "versions": [{
                    "name": "v1",
                    "served": true,
                    "storage": true,
                    "schema": { "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                        },
                    } },
                }],
            },
        })
        .to_string()
    });
    definitions.join("\n---\n")
}
