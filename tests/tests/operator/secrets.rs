//! Connection strings in Secrets: the right to read them, what is wrong with them, and what their change does.

use serde_json::json;
use vault_tests::kinds::apply_text;
use vault_tests::operator::{Field, SETTLES, VAULT};
use vault_tests::wait::until;

use crate::common::{append, pods, texts};

fn put_secret(field: &Field, text: &str) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "storage", "namespace": field.namespace}, "stringData": {"connectionString": text},
    });
    apply_text(&field.cluster, &secret.to_string());
}

/// What the chart does for a namespace of `secretNamespaces`.
fn let_read(field: &Field) {
    let namespace = &field.namespace;
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
    let subject = json!({"kind": "ServiceAccount", "name": "message-vault-operator", "namespace": namespace});
    let name = "message-vault-operator-secrets";
    for object in [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": name, "namespace": namespace}, "rules": rules,
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [subject],
        }),
    ] {
        apply_text(&field.cluster, &object.to_string());
    }
}

#[test]
fn a_connection_string_must_be_there_readable_and_right() {
    let field = Field::new().start();
    let mut spec = field.vault(&field.prefix());
    spec["storage"] = json!({"prefix": field.prefix(), "secretRef": {"name": "storage"}});
    (spec["replicas"], spec["streams"]) = (json!(1), json!([{"name": "orders"}]));
    field.apply(VAULT, "events", &spec);
    let until_stalled = |reason: &str, parts: &[&str]| {
        field.annotate(VAULT, "events", "look", Some(reason));
        let message = until(&format!("it is stalled with {reason}"), SETTLES, || {
            let (found, message) = field.until_stalled(VAULT, "events");
            (found == reason).then_some(message)
        });
        for part in parts {
            assert!(message.contains(part), "{reason}: {message}");
        }
    };
    until_stalled("SecretForbidden", &["secretNamespaces", &field.namespace]);
    let_read(&field);
    until_stalled("SecretMissing", &["there is no Secret storage", "key connectionString"]);
    put_secret(&field, "nonsense");
    until_stalled("InvalidStorage", &["key connectionString of the Secret storage"]);
    let good = field.azurite.connection_string();
    let key = good.split(';').find_map(|part| part.strip_prefix("AccountKey=")).unwrap();
    let wrong = good.replace(key, "bm90IHRoZSBrZXk=");
    put_secret(&field, &wrong);
    until_stalled("StorageRefused", &["refuses"]);
    let vault = field.get(VAULT, "events").unwrap();
    assert!(!vault["status"].to_string().contains("bm90IHRoZSBrZXk"), "no key is shown");
    assert!(!field.log().contains("bm90IHRoZSBrZXk"), "no key is logged");

    put_secret(&field, &good);
    field.annotate(VAULT, "events", "look", Some("good"));
    field.until_ready(VAULT, "events");
    append(&field, "events", "orders", "before");
    let before = pods(&field, "events");
    put_secret(&field, &format!("DefaultEndpointsProtocol=http;{good}"));
    field.annotate(VAULT, "events", "look", Some("rotated"));
    until("pods are replaced", SETTLES, || {
        let now = pods(&field, "events");
        (now.len() == 1 && now != before).then_some(())
    });
    field.until_ready(VAULT, "events");
    append(&field, "events", "orders", "after");
    assert_eq!(texts(&field, "events", "orders"), ["before", "after"]);

    // It may not lead to another account: the messages would stay behind.
    assert_eq!(field.get(VAULT, "events").unwrap()["status"]["account"], "devstoreaccount1");
    put_secret(&field, &good.replace("AccountName=devstoreaccount1", "AccountName=another"));
    until_stalled(
        "InvalidStorage",
        &["is in the storage account devstoreaccount1, and this leads to another"],
    );
    assert_eq!(pods(&field, "events").len(), 1, "its server goes on");
}
