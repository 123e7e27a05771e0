//! Specs that the API server refuses, with a message that helps. All rules are tried beside the types, without a cluster.

use serde_json::{Value, json};
use vault_tests::operator::{Field, STREAM, VAULT};

#[test]
fn what_cannot_be_is_refused_with_a_sentence_that_helps() {
    // No operator runs: the API server itself says so.
    let field = Field::new();
    let good = field.vault(&field.prefix());
    let with = |path: &str, value: Value| {
        let mut spec = good.clone();
        let (parent, name) = path.rsplit_once('/').unwrap();
        spec.pointer_mut(parent).unwrap()[name] = value;
        spec
    };
    let orders = json!({"vaultRef": {"name": "events"}});
    let limits = json!({"vaultRef": {"name": "events"}, "settings": {
        "retentionBytes": 67_108_864, "maxBytes": 67_108_864
    }});
    let refusal = |kind: &str, name: &str, spec: &Value| {
        let refused = field.try_apply(&field.namespace, kind, name, spec);
        refused.expect_err(&format!("{kind} {name} is taken: {spec}"))
    };
    for (kind, name, spec, says) in [
        (VAULT, "events", with("/replicas", json!(0)), "spec.replicas"),
        (
            VAULT,
            "events",
            with("/storage/secretRef", json!({"name": "s"})),
            "exactly one of workloadIdentity, secretRef and emulator",
        ),
        (VAULT, "events", with("/access", json!({})), "say who may use the vault"),
        (
            VAULT,
            "events",
            with("/access/usersSecretRef", json!({"name": "s"})),
            "anonymous: true lets everybody in",
        ),
        (VAULT, "events", with("/storage/prefix", json!("Upper-")), "spec.storage.prefix"),
        (VAULT, "events", with("/streams", json!([{"name": "sys"}])), "the name sys is reserved"),
        (VAULT, "events", with("/replica", json!(2)), "replica"),
        (VAULT, "0events", good.clone(), "begin with a letter"),
        (STREAM, "a.b", orders.clone(), "give spec.streamName"),
        (STREAM, "orders", limits, "maxBytes must be at least a quarter more than retentionBytes"),
    ] {
        let why = refusal(kind, name, &spec);
        assert!(why.contains(says), "{says}: {why}");
    }
    field.apply(VAULT, "events", &good);
    field.apply(STREAM, "orders", &orders);
    for (kind, name, spec, says) in [
        (VAULT, "events", with("/storage/prefix", json!("other-")), "prefix cannot be changed"),
        (VAULT, "events", with("/storage/endpoint", json!("http://other/a")), "endpoint cannot be changed"),
        (STREAM, "orders", json!({"vaultRef": {"name": "other"}}), "vaultRef cannot be changed"),
        (
            STREAM,
            "orders",
            json!({"vaultRef": {"name": "events"}, "streamName": "x"}),
            "streamName cannot be changed",
        ),
    ] {
        let why = refusal(kind, name, &spec);
        assert!(why.contains(says), "{says}: {why}");
    }
}
