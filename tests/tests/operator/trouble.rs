//! A pause, and storage that is away.

use std::sync::Arc;

use kube::api::{Patch, PatchParams};
use serde_json::json;
use vault_tests::azurite::Setup;
use vault_tests::kubernetes::Cluster;
use vault_tests::operator::{Field, SETTLES, STREAM, VAULT, condition};
use vault_tests::server::temporary_directory;
use vault_tests::wait::until;

use crate::common::{Containers, append, pods, status, texts};

#[test]
fn what_is_paused_is_left_alone_until_it_goes_on() {
    let field = Field::new().start();
    let mut spec = field.vault(&field.prefix());
    spec["replicas"] = json!(1);
    spec["streams"] = json!([{"name": "orders"}]);
    field.apply(VAULT, "events", &spec);
    field.apply(STREAM, "till", &json!({"vaultRef": {"name": "events"}}));
    let ready = field.until_ready(VAULT, "events");
    field.until_ready(STREAM, "till");
    field.annotate(VAULT, "events", "messagevault.io/paused", Some("true"));
    field.until_condition(VAULT, "events", "Paused", "True");
    field.until_condition(STREAM, "till", "Paused", "True");
    spec["replicas"] = json!(2);
    spec["streams"] = json!([{"name": "orders"}, {"name": "more"}]);
    field.apply(VAULT, "events", &spec);
    field.apply(STREAM, "new", &json!({"vaultRef": {"name": "events"}}));
    field.patch(STREAM, "till", &json!({"spec": {"settings": {"retentionSeconds": 60}}}));
    field.delete("Service", "events");
    field.until_condition(VAULT, "events", "Paused", "True");
    field.until_condition(STREAM, "new", "Paused", "True");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let paused = field.get(VAULT, "events").unwrap();
    assert_eq!(
        status(&paused, "observedGeneration"),
        status(&ready, "observedGeneration"),
        "not carried out"
    );
    assert_eq!(condition(&paused, "Ready"), condition(&ready, "Ready"), "what was known stays");
    let containers = Containers::of(&field, &field.prefix());
    assert!(field.get("Service", "events").is_none() && pods(&field, "events").len() == 1);
    assert!(!containers.has("more") && !containers.has("new"));
    assert_eq!(containers.meta("till").unwrap().settings.retention_seconds, None);
    // The servers know nothing of it.
    append(&field, "events", "orders", "hello");

    field.annotate(VAULT, "events", "messagevault.io/paused", None);
    field.until_ready(VAULT, "events");
    for name in ["till", "new"] {
        field.until_ready(STREAM, name);
    }
    assert!(field.get("Service", "events").is_some() && pods(&field, "events").len() == 2);
    assert!(containers.has("more") && containers.has("new"));
    assert_eq!(containers.meta("till").unwrap().settings.retention_seconds, Some(60));
}

#[test]
fn storage_that_is_away_is_told_of_and_comes_back() {
    let directory = temporary_directory();
    let azurite = Setup::in_directory(directory.path()).start();
    let mut field = Field::with(Cluster::shared(), Arc::new(azurite)).start();
    let mut spec = field.vault(&field.prefix());
    (spec["replicas"], spec["streams"]) = (json!(1), json!([{"name": "orders"}]));
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");
    append(&field, "events", "orders", "before");
    let before = pods(&field, "events");
    Arc::get_mut(&mut field.azurite).unwrap().stop();
    field.annotate(VAULT, "events", "look", Some("now"));
    let away = field.until_condition(VAULT, "events", "StorageReachable", "False");
    assert!(!away["message"].as_str().unwrap().is_empty(), "{away}");
    let vault = field.get(VAULT, "events").unwrap();
    let ready = condition(&vault, "Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("StorageUnreachable")));
    // What does not need it is done all the same.
    field.delete("Service", "events");
    until("the Service comes back", SETTLES, || field.get("Service", "events"));

    // Also an operator that does not know any more which vault it was leaves the servers alone.
    field.kill_operator();
    let api = field.api(VAULT, &field.namespace);
    let forgotten = Patch::Merge(json!({"status": {"vaultUid": null}}));
    let patched = async { api.patch_status("events", &PatchParams::default(), &forgotten).await };
    field.cluster.block_on(patched).unwrap();
    field.start_operator();
    field.delete("Service", "events");
    until("the Service comes back", SETTLES, || field.get("Service", "events"));
    field.until_condition(VAULT, "events", "StorageReachable", "False");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(field.get("Deployment", "events").is_some(), "the servers stay");

    Arc::get_mut(&mut field.azurite).unwrap().restart();
    field.annotate(VAULT, "events", "look", Some("again"));
    field.until_condition(VAULT, "events", "StorageReachable", "True");
    field.until_ready(VAULT, "events");
    append(&field, "events", "orders", "after");
    assert_eq!(texts(&field, "events", "orders"), ["before", "after"]);
    assert_eq!(pods(&field, "events"), before);
}
