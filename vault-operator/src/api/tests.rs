//! The rules of the resources, tried without a cluster.

use serde_json::{Value, json};

use super::{MessageVault, VaultStream};

const CLIENT_ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn vault() -> Value {
    json!({
        "apiVersion": "messagevault.io/v1alpha1", "kind": "MessageVault",
        "metadata": {"name": "events", "namespace": "shop"},
        "spec": {
            "replicas": 2,
            "storage": {"account": "shop", "workloadIdentity": {"clientId": CLIENT_ID}},
            "access": {"anonymous": true},
        },
    })
}

fn stream() -> Value {
    json!({
        "apiVersion": "messagevault.io/v1alpha1", "kind": "VaultStream",
        "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {"vaultRef": {"name": "events"}},
    })
}

/// Why a vault is refused; with `old` as a change of it.
fn refused(new: &Value, old: Option<&Value>) -> Option<String> {
    let read = |value: &Value| serde_json::from_value::<MessageVault>(value.clone()).unwrap();
    let judged = match old {
        None => read(new).validate_cel(),
        Some(old) => read(new).validate_cel_update(&read(old)),
    };
    judged.err().map(|errors| format!("{errors:?}"))
}

fn stream_refused(new: &Value, old: Option<&Value>) -> Option<String> {
    let read = |value: &Value| serde_json::from_value::<VaultStream>(value.clone()).unwrap();
    let judged = match old {
        None => read(new).validate_cel(),
        Some(old) => read(new).validate_cel_update(&read(old)),
    };
    judged.err().map(|errors| format!("{errors:?}"))
}

/// `value` with something else at a path.
fn with(value: &Value, path: &str, put: Value) -> Value {
    let mut changed = value.clone();
    match changed.pointer_mut(path) {
        Some(place) => *place = put,
        None => {
            let (parent, name) = path.rsplit_once('/').unwrap();
            changed.pointer_mut(parent).unwrap()[name] = put;
        }
    }
    changed
}

#[test]
fn what_is_right_is_taken() {
    assert_eq!(refused(&vault(), None), None);
    assert_eq!(refused(&vault(), Some(&vault())), None);
    assert_eq!(stream_refused(&stream(), None), None);
    let emulator = json!({"endpoint": "http://azurite:10000/devstoreaccount1", "emulator": {}});
    assert_eq!(refused(&with(&vault(), "/spec/storage", emulator), None), None);
    assert_eq!(refused(&with(&vault(), "/spec/storage", json!({"secretRef": {"name": "s"}})), None), None);
    let users = json!({"usersSecretRef": {"name": "users"}});
    assert_eq!(refused(&with(&vault(), "/spec/access", users), None), None);
}

#[test]
fn a_vault_that_makes_no_sense_is_refused_with_what_to_do() {
    let identity = json!({"clientId": CLIENT_ID});
    for (path, put, says) in [
        ("/metadata/name", json!("1st"), "begin with a letter"),
        ("/metadata/name", json!("v".repeat(51)), "at most 50"),
        (
            "/spec/storage",
            json!({"account": "shop"}),
            "exactly one of workloadIdentity, secretRef and emulator",
        ),
        (
            "/spec/storage",
            json!({"account": "shop", "workloadIdentity": identity, "secretRef": {"name": "s"}}),
            "exactly one of",
        ),
        ("/spec/storage", json!({"workloadIdentity": identity}), "account or endpoint, one of them"),
        (
            "/spec/storage",
            json!({"account": "shop", "endpoint": "https://x.y", "workloadIdentity": identity}),
            "account or endpoint, one of them",
        ),
        (
            "/spec/storage",
            json!({"endpoint": "http://x.y", "workloadIdentity": identity}),
            "must begin with https://",
        ),
        ("/spec/storage", json!({"emulator": {}}), "with emulator give endpoint"),
        (
            "/spec/storage",
            json!({"endpoint": "https://x.y", "secretRef": {"name": "s"}}),
            "leave endpoint out",
        ),
        (
            "/spec/storage",
            json!({"accounts": ["two"], "secretRef": {"name": "s"}}),
            "go with workloadIdentity alone",
        ),
        (
            "/spec/storage",
            json!({"account": "shop", "accounts": ["https://two.blob.core.windows.net"], "workloadIdentity": identity}),
            "named as the main one is",
        ),
        (
            "/spec/storage",
            json!({"endpoint": "https://x.y", "accounts": ["two"], "workloadIdentity": identity}),
            "named as the main one is",
        ),
        ("/spec/access", json!({}), "say who may use the vault"),
        ("/spec/access", json!({"anonymous": true, "usersSecretRef": {"name": "u"}}), "lets everybody in"),
        (
            "/spec/access",
            json!({"issuers": [{"url": "https://i", "audience": "a", "grants": [{"grants": ["all:read"]}]}]}),
            "name a subject",
        ),
        ("/spec/allowedNamespaces", json!({"from": "Selector"}), "selector goes with from: Selector"),
        (
            "/spec/allowedNamespaces",
            json!({"from": "All", "selector": {}}),
            "selector goes with from: Selector",
        ),
        ("/spec/streams", json!([{"name": "sys"}]), "reserved for the vault"),
        (
            "/spec/streams",
            json!([{"name": "a", "settings": {"segmentBytes": 4_194_305}}]),
            "multiple of 4194304",
        ),
        (
            "/spec/streams",
            json!([{"name": "a", "settings": {"retentionBytes": 100 << 20, "maxBytes": 124 << 20}}]),
            "a quarter more",
        ),
    ] {
        let said = refused(&with(&vault(), path, put.clone()), None).unwrap_or_default();
        assert!(said.contains(says), "{path} {put}: {said}");
    }
}

#[test]
fn what_says_where_messages_are_stays() {
    let endpoint = json!({"endpoint": "https://shop.blob.core.windows.net", "workloadIdentity": {"clientId": CLIENT_ID}});
    for (path, put, says) in [
        ("/spec/storage/account", json!("other"), "account cannot be changed"),
        ("/spec/storage/prefix", json!("other-"), "prefix cannot be changed"),
        ("/spec/storage", endpoint, "account cannot be changed"),
    ] {
        let said = refused(&with(&vault(), path, put), Some(&vault())).unwrap_or_default();
        assert!(said.contains(says), "{path}: {said}");
    }
    let unnamed = with(&vault(), "/spec/storage", json!({"secretRef": {"name": "s"}}));
    let named = with(&unnamed, "/spec/storage/account", json!("shop"));
    assert_eq!(refused(&named, Some(&unnamed)), None, "it is said where it is");
    assert!(refused(&unnamed, Some(&named)).unwrap_or_default().contains("account cannot be changed"));
    let accounts = |all: Value| with(&vault(), "/spec/storage/accounts", all);
    assert_eq!(refused(&accounts(json!(["two", "three"])), Some(&accounts(json!(["three"])))), None);
    for fewer in [json!([]), json!(["two"])] {
        let said = refused(&accounts(fewer), Some(&accounts(json!(["two", "three"])))).unwrap_or_default();
        assert!(said.contains("not taken out"), "{said}");
    }
    assert_eq!(refused(&with(&vault(), "/spec/replicas", json!(3)), Some(&vault())), None);
    let identity =
        with(&vault(), "/spec/storage/workloadIdentity/clientId", json!(CLIENT_ID.replace('0', "1")));
    assert_eq!(refused(&identity, Some(&vault())), None, "another way in leads to the same messages");
}

#[test]
fn a_stream_that_makes_no_sense_is_refused_with_what_to_do() {
    for (path, put, says) in [
        ("/metadata/name", json!("orders.eu"), "give spec.streamName"),
        ("/metadata/name", json!("sys"), "give spec.streamName"),
        ("/spec/streamName", json!("sys"), "reserved for the vault"),
        ("/spec/settings", json!({"segmentBytes": 4_194_305}), "multiple of 4194304"),
    ] {
        let said = stream_refused(&with(&stream(), path, put), None).unwrap_or_default();
        assert!(said.contains(says), "{path}: {said}");
    }
    let named =
        with(&with(&stream(), "/metadata/name", json!("orders.eu")), "/spec/streamName", json!("orders"));
    assert_eq!(stream_refused(&named, None), None);
    for (path, put, says) in [
        ("/spec/vaultRef/name", json!("other"), "vaultRef cannot be changed"),
        ("/spec/streamName", json!("other"), "streamName cannot be changed"),
        ("/spec/settings", json!({"account": "other"}), "account cannot be changed"),
    ] {
        let said = stream_refused(&with(&stream(), path, put), Some(&stream())).unwrap_or_default();
        assert!(said.contains(says), "{path}: {said}");
    }
    let settings = with(&stream(), "/spec/settings", json!({"retentionSeconds": 60}));
    assert_eq!(stream_refused(&settings, Some(&stream())), None);
}
