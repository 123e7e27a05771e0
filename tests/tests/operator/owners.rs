//! Whose a stream is, and whose a vault in storage.

use serde_json::json;
use vault_tests::operator::{Field, SETTLES, STREAM, VAULT};
use vault_tests::wait::until;

use crate::common::{Containers, any, append, status, texts, touch};

#[test]
fn a_stream_without_an_owner_is_taken_over_and_the_first_owner_wins() {
    let field = Field::new().start();
    field.apply(VAULT, "events", &field.vault(&field.prefix()));
    field.until_ready(VAULT, "events");
    any(&field, "events").create("orders", 4 << 20);
    append(&field, "events", "orders", "by hand");
    let containers = Containers::of(&field, &field.prefix());
    let before = containers.meta("orders").unwrap();
    assert_eq!(before.owner, None);

    field.apply(STREAM, "first", &json!({"vaultRef": {"name": "events"}, "streamName": "orders"}));
    let first = field.until_ready(STREAM, "first");
    assert_eq!(*status(&first, "streamId"), before.id.to_string());
    assert_eq!(
        containers.meta("orders").unwrap().owner,
        Some(format!("vaultstream/{}/first", field.namespace))
    );
    assert_eq!(texts(&field, "events", "orders"), ["by hand"]);

    let second =
        json!({"vaultRef": {"name": "events"}, "streamName": "orders", "settings": {"codec": "lz4"}});
    field.apply(STREAM, "second", &second);
    let (reason, message) = field.until_stalled(STREAM, "second");
    assert_eq!(reason, "Conflict");
    assert!(message.contains(&format!("belongs to vaultstream/{}/first", field.namespace)), "{message}");
    // The vault itself is no better than others.
    field.patch(VAULT, "events", &json!({"spec": {"streams": [{"name": "orders"}]}}));
    let (reason, message) = field.until_stalled(VAULT, "events");
    assert_eq!(reason, "Conflict");
    assert!(message.starts_with("stream orders: "), "{message}");
    field.patch(VAULT, "events", &json!({"spec": {"streams": []}}));
    field.until_ready(VAULT, "events");
    field.until_ready(STREAM, "first");

    field.delete(STREAM, "first");
    field.until_gone(STREAM, "first");
    field.annotate(STREAM, "second", "look", Some("now"));
    let second = field.until_ready(STREAM, "second");
    assert_eq!(*status(&second, "streamId"), before.id.to_string());
    assert_eq!(texts(&field, "events", "orders"), ["by hand"]);
}

#[test]
fn another_vaults_containers_are_left_alone_until_they_may_be_adopted() {
    let field = Field::new().start();
    let (mut spec, prefix) = (field.vault(&field.prefix()), field.prefix());
    (spec["replicas"], spec["streams"]) = (json!(1), json!([{"name": "orders"}]));
    field.apply(VAULT, "first", &spec);
    let first = field.until_ready(VAULT, "first");
    append(&field, "first", "orders", "kept");
    let uid = status(&first, "vaultUid").as_str().unwrap().to_owned();

    let mut inner = field.vault(&format!("{prefix}inner-"));
    inner["replicas"] = json!(1);
    field.apply(VAULT, "inner", &inner);
    let (reason, message) = field.until_stalled(VAULT, "inner");
    assert_eq!(reason, "PrefixOverlaps");
    assert!(message.contains("choose another prefix") && message.contains(&prefix), "{message}");
    field.apply(VAULT, "second", &spec);
    let (reason, message) = field.until_stalled(VAULT, "second");
    assert_eq!(reason, "AnotherVault");
    assert!(message.contains(&format!("belongs to messagevault/{}/first", field.namespace)), "{message}");
    assert!(message.contains(&format!("messagevault.io/adopt: {uid}")), "{message}");
    for name in ["inner", "second"] {
        assert!(field.get("Deployment", name).is_none(), "no server of {name} is started");
    }

    field.delete(VAULT, "first");
    field.until_gone(VAULT, "first");
    field.until_gone("Deployment", "first");
    field.annotate(VAULT, "second", "messagevault.io/adopt", Some("another-uid"));
    assert_eq!(field.until_stalled(VAULT, "second").0, "AnotherVault");
    field.annotate(VAULT, "second", "messagevault.io/adopt", Some(&uid));
    let second = field.until_ready(VAULT, "second");
    assert_eq!(*status(&second, "vaultUid"), uid.as_str());
    until("what was carried out is taken off", SETTLES, || {
        field.get(VAULT, "second").unwrap()["metadata"]["annotations"]["messagevault.io/adopt"]
            .is_null()
            .then_some(())
    });
    assert_eq!(texts(&field, "second", "orders"), ["kept"]);
    let containers = Containers::of(&field, &prefix);
    let owner = containers.meta("orders").unwrap().owner;
    assert_eq!(owner, Some(format!("messagevault/{}/second", field.namespace)));
}

/// Owners have the same names in both clusters, so that names do not tell whose a stream is.
#[test]
fn a_vault_that_another_cluster_has_taken_over_is_left_to_it() {
    let field = Field::new().start();
    let mut spec = field.vault(&field.prefix());
    (spec["replicas"], spec["streams"]) = (json!(1), json!([{"name": "orders", "deletionPolicy": "Delete"}]));
    field.apply(VAULT, "events", &spec);
    field.apply(STREAM, "till", &json!({"vaultRef": {"name": "events"}, "deletionPolicy": "Delete"}));
    field.until_ready(STREAM, "till");
    field.until_ready(VAULT, "events");

    let containers = Containers::of(&field, &field.prefix());
    containers.change_metadata("sys", |metadata| {
        metadata.insert("cluster".to_owned(), "another".to_owned());
    });
    // The other cluster keeps messages for a time only; here nobody has looked at the vault since.
    containers.change("till", |meta| meta.settings.retention_seconds = Some(60));
    field.patch(STREAM, "till", &json!({"spec": {"settings": {"codec": "zstd"}}}));
    assert_eq!(field.until_stalled(STREAM, "till").0, "AnotherVault");
    assert_eq!(containers.meta("till").unwrap().settings.retention_seconds, Some(60));
    field.delete(STREAM, "till");
    assert_eq!(field.until_stalled(STREAM, "till").0, "AnotherVault");
    touch(&field, "events", "look");
    let (reason, message) = field.until_stalled(VAULT, "events");
    assert!(reason == "AnotherVault" && message.contains("of another cluster"), "{message}");
    field.until_gone("Deployment", "events");
    field.delete(VAULT, "events");
    for stream in ["orders", "till"] {
        let meta = containers.meta(stream).unwrap();
        assert!(!meta.deleting, "{stream} is not this cluster's to delete");
    }
}
