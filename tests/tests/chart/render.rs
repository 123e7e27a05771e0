//! What Helm makes of the chart, by both versions, and that an API server takes it.

use serde_json::{Value, json};
use vault_tests::kubernetes::{Cluster, Helm};

use super::manifests::installed;
use super::{chart, documents, helm, of_kind, rendered};

const BOTH: [Helm; 2] = [Helm::Three, Helm::Four];

/// A vault of which enough is said.
fn vault() -> Value {
    json!({
        "create": true,
        "spec": {
            "storage": {
                "account": "mystorage",
                "workloadIdentity": { "clientId": "00000000-1111-2222-3333-444444444444" },
            },
            "access": { "serviceAccounts": [{ "name": "till", "grants": ["orders:write"] }] },
        },
    })
}

/// Ways to install it.
fn variants() -> Vec<(&'static str, Value)> {
    let digest = format!("sha256:{}", "0".repeat(64));
    vec![
        ("as it is", json!({})),
        ("with a vault", json!({ "vault": vault() })),
        (
            "several in one namespace",
            json!({ "replicas": 2, "watchNamespace": "default", "secretNamespaces": ["default"] }),
        ),
        (
            "with all that it has",
            json!({
                "image": { "digest": digest },
                "serverImage": { "tag": "latest" },
                "imagePullSecrets": [{ "name": "registry" }],
                "fullnameOverride": "vaults",
                "clusterIssuer": "https://issuer.example/",
                "clusterIssuerKeys": "public",
                "workloadIdentity": {
                    "enabled": true,
                    "clientId": "00000000-1111-2222-3333-444444444444",
                    "tenantId": "55555555-6666-7777-8888-999999999999",
                },
                "serviceAccount": { "annotations": { "a": "b" } },
                "podAnnotations": { "a": "b" },
                "podLabels": { "a": "b" },
                "extraEnv": [{ "name": "HTTPS_PROXY", "value": "http://proxy:3128" }],
                "nodeSelector": { "kubernetes.io/os": "linux" },
                "tolerations": [{ "operator": "Exists" }],
                "affinity": { "nodeAffinity": {} },
                "priorityClassName": "system-cluster-critical",
                "serviceMonitor": { "enabled": true, "labels": { "release": "prometheus" } },
                "prometheusRule": { "enabled": true },
                "dashboards": { "enabled": true, "annotations": { "folder": "vaults" } },
                "vault": vault(),
            }),
        ),
        (
            "with nothing that can be left out",
            json!({
                "crds": { "enabled": false },
                "rbac": { "create": false, "aggregate": false },
                "serviceAccount": { "create": false },
                "tests": { "grant": false },
                "vault": vault(),
            }),
        ),
    ]
}

#[test]
fn the_chart_is_well_formed() {
    for version in BOTH {
        for (what, values) in variants() {
            let said = helm(version, &["lint", "--strict", &chart()], &values);
            assert_eq!(said.code, Some(0), "{what}: {}{}", String::from_utf8_lossy(&said.out), said.err);
        }
    }
}

#[test]
fn both_versions_of_helm_render_the_same() {
    for (what, values) in variants() {
        let of_each = BOTH.map(|version| {
            let mut documents = documents(&rendered(version, &values));
            documents
                .sort_by_key(|document| format!("{} {}", document["kind"], document["metadata"]["name"]));
            documents
        });
        assert_eq!(of_each[0], of_each[1], "{what}");
    }
}

#[test]
fn an_api_server_takes_what_is_rendered() {
    let cluster = Cluster::shared();
    let _installed = installed(&cluster);
    for (what, values) in variants() {
        let text =
            rendered(Helm::Four, &values).replace("namespace: system", "namespace: message-vault-system");
        // A dry run makes no ServiceAccount, and pods want theirs to be there.
        for account in of_kind(&documents(&text), "ServiceAccount") {
            let _ = cluster
                .kubectl_in(&account.to_string(), ["apply", "--server-side", "--filename=-"])
                .expect(0);
        }
        let arguments = ["apply", "--dry-run=server", "--server-side", "--force-conflicts", "--filename=-"];
        let said = cluster.kubectl_in(&text, arguments);
        assert_eq!(said.code, Some(0), "{what}: {}", said.err);
        // The namespace warns of what pods must not do in it.
        assert!(!said.err.contains("Warning"), "{what}: {}", said.err);
    }
}

#[test]
fn a_vault_is_handed_to_the_operator_in_a_file() {
    let documents = documents(&rendered(Helm::Four, &json!({ "vault": vault() })));
    let maps = of_kind(&documents, "ConfigMap");
    let text = maps[0]["data"]["vault.yaml"].as_str().unwrap();
    let made: Value = serde_yaml::from_str(text).unwrap();
    assert_eq!(made["kind"], "MessageVault");
    assert_eq!(made["metadata"], json!({ "name": "vault", "namespace": "system" }));
    assert_eq!(made["spec"]["storage"], vault()["spec"]["storage"]);
    let accounts = made["spec"]["access"]["serviceAccounts"].as_array().unwrap();
    assert_eq!(accounts[0]["name"], "till");
    assert_eq!(
        accounts[1],
        json!({ "namespace": "system", "name": "mv-message-vault-test", "grants": ["helm-test:admin"] })
    );
    let deployment = of_kind(&documents, "Deployment")[0].to_string();
    assert!(deployment.contains("--bootstrap=/etc/message-vault/bootstrap"));
    assert!(deployment.contains("mv-message-vault-bootstrap"));
}

#[test]
fn an_anonymous_vault_is_granted_nothing_more_and_tested_all_the_same() {
    let mut vault = vault();
    vault["spec"]["access"] = json!({ "anonymous": true });
    let documents = documents(&rendered(Helm::Three, &json!({ "vault": vault })));
    let text = of_kind(&documents, "ConfigMap")[0]["data"]["vault.yaml"].as_str().unwrap().to_owned();
    let made: Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!(made["spec"]["access"], json!({ "anonymous": true }));
    let pods = of_kind(&documents, "Pod");
    assert_eq!(pods.len(), 2);
    assert!(pods.iter().all(|pod| !pod.to_string().contains("serviceAccountToken\":{")));
}

#[test]
fn wrong_values_are_refused_with_a_sentence_that_helps() {
    let with = |patch: Value| {
        let mut vault = vault();
        for (key, value) in patch.as_object().unwrap() {
            vault[key] = value.clone();
        }
        json!({ "vault": vault })
    };
    for (values, says) in [
        (json!({ "replica": 2 }), &["replica"][..]),
        (json!({ "replicas": "two" }), &["replicas", "integer"]),
        (json!({ "image": { "digest": "sha256:1" } }), &["digest"]),
        (json!({ "watchNamespace": "Shop" }), &["watchNamespace"]),
        (json!({ "logFormat": "xml" }), &["logFormat"]),
        (json!({ "workloadIdentity": { "tenantId": "contoso" } }), &["tenantId"]),
        (json!({ "vault": { "create": true } }), &["storage", "access"]),
        (with(json!({ "name": "Orders" })), &["name"]),
        (with(json!({ "spec": { "storage": {}, "access": { "anonymous": true } } })), &["storage"]),
        (with(json!({ "spec": { "storag": {}, "access": { "anonymous": true } } })), &["storag"]),
    ] {
        for version in BOTH {
            let said = helm(version, &["template", "mv", &chart()], &values);
            assert_ne!(said.code, Some(0), "{values}");
            for part in says {
                assert!(said.err.contains(part), "{values}: {}", said.err);
            }
        }
    }
    let mut elsewhere = json!({ "vault": vault(), "watchNamespace": "shop" });
    elsewhere["vault"]["namespace"] = json!("orders");
    let said = helm(Helm::Three, &["template", "mv", &chart()], &elsewhere);
    assert!(said.err.contains("set vault.namespace"), "{}", said.err);
}
