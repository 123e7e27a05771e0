//! What the operator makes of vaults, as its snapshots have it, on a real API server.

use serde_json::{Value, json};
use vault_tests::kubernetes::Cluster;

use super::manifests::installed;
use super::{documents, read};

const SNAPSHOTS: [&str; 5] = ["minimal", "full", "secret-ref", "emulator", "aks"];

/// The objects of a snapshot, in another namespace and without their owner, whom the cluster does not have.
fn objects(snapshot: &str, namespace: &str) -> Vec<Value> {
    let mut objects = documents(&read(&format!("vault-operator/src/desired/snapshots/{snapshot}.yaml")));
    for object in &mut objects {
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.remove("ownerReferences").unwrap();
        metadata["namespace"] = json!(namespace);
        // It has no fields of this kind of cluster.
        if object["kind"] == "Deployment" {
            object["spec"]["template"]["spec"].as_object_mut().unwrap().remove("priorityClassName");
        }
    }
    objects
}

fn apply(cluster: &Cluster, objects: &[Value]) -> String {
    let text: Vec<_> = objects.iter().map(ToString::to_string).collect();
    let arguments = ["apply", "--server-side", "--field-manager=message-vault-operator", "--filename=-"];
    let said = cluster.kubectl_in(&text.join("\n---\n"), arguments);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(!said.err.contains("Warning"), "{}", said.err);
    String::from_utf8(said.out).unwrap()
}

#[test]
fn an_api_server_takes_them_without_a_warning_and_applied_twice_they_change_nothing() {
    let cluster = Cluster::shared();
    let _installed = installed(&cluster);
    for snapshot in SNAPSHOTS {
        let namespace = cluster.namespace();
        let label = format!("namespace/{namespace}");
        let restricted = ["label", &label, "pod-security.kubernetes.io/enforce=restricted"];
        let _ = cluster.kubectl(restricted).expect(0);
        let _ = cluster.kubectl(["label", &label, "pod-security.kubernetes.io/warn=restricted"]).expect(0);
        let objects = objects(snapshot, &namespace);
        let _ = apply(&cluster, &objects);
        let versions = || -> Vec<String> {
            let of = |object: &Value| {
                let (kind, name) =
                    (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
                let namespace = format!("--namespace={namespace}");
                let said = cluster.kubectl(["get", kind, name, &namespace, "--output=json"]).expect(0);
                let there: Value = serde_json::from_slice(&said.out).unwrap();
                // Status moves; what was applied must not.
                let generation = there["metadata"]["generation"].clone();
                let fields = there["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
                let ours = fields.iter().find(|field| field["manager"] == "message-vault-operator").cloned();
                format!("{kind} {name} {generation} {}", ours.unwrap_or_default())
            };
            objects.iter().map(of).collect()
        };
        let before = versions();
        let _ = apply(&cluster, &objects);
        assert_eq!(versions(), before, "{snapshot}");
    }
}
