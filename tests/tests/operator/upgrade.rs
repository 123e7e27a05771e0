//! Definitions of a version before, with resources in them, that become those of this one.

use std::sync::Arc;

use serde_json::json;
use vault_tests::azurite::Azurite;
use vault_tests::kinds::{apply_text, earlier_kinds, install, until_known};
use vault_tests::kubernetes::Cluster;
use vault_tests::operator::{Field, SETTLES, STREAM, VAULT};
use vault_tests::wait::until;

use crate::common::{append, pods, texts};

#[test]
fn resources_of_a_version_before_go_on_and_get_what_is_new() {
    let cluster = Arc::new(Cluster::start());
    let field = Field::with(cluster.clone(), Azurite::shared());
    apply_text(&cluster, &earlier_kinds());
    until_known(&cluster);
    let mut field = field.start();
    let mut spec = field.vault(&format!("upgrade-{}", field.prefix()));
    (spec["replicas"], spec["streams"]) = (json!(1), json!([{"name": "orders"}]));
    // No rule forbids it yet.
    let tight = json!({"vaultRef": {"name": "events"}, "settings": {
        "retentionBytes": 67_108_864, "maxBytes": 67_108_864
    }});
    field.apply(VAULT, "events", &spec);
    field.apply(STREAM, "tight", &tight);
    field.until_ready(STREAM, "tight");
    append(&field, "events", "orders", "before");
    // The operator of this version has something to tell for which there is no place yet.
    until("the operator tells why the status is old", SETTLES, || {
        field.log().contains(".status.streamCount: field not declared in schema").then_some(())
    });
    until("the operator finds the vault ready", SETTLES, || {
        let count = "messagevault_operator_resources{kind=\"MessageVault\",state=\"ready\"} 1";
        field.ask("/metrics").unwrap().1.contains(count).then_some(())
    });
    let before = pods(&field, "events");
    let mut changed = spec.clone();
    changed["log"] = json!("debug");
    let refused = field.try_apply(&field.namespace, VAULT, "events", &changed).unwrap_err();
    assert!(refused.contains("log"), "{refused}");

    install(&cluster);
    let vault = field.until_ready(VAULT, "events");
    assert_eq!((&vault["status"]["streamCount"], &vault["metadata"]["generation"]), (&json!(2), &json!(1)));
    assert_eq!(pods(&field, "events"), before, "no server was replaced for that");
    // What a rule of today would refuse is told of and changed in other respects all the same.
    field.patch(STREAM, "tight", &json!({"spec": {"deletionPolicy": "Delete"}}));
    let stream = field.until_ready(STREAM, "tight");
    assert!(!stream["metadata"]["finalizers"].is_null(), "{stream:#}");
    let refused = field.try_apply(&field.namespace, STREAM, "another", &tight).unwrap_err();
    assert!(refused.contains("at least a quarter more"), "{refused}");

    // The operator is the next thing to be upgraded. A watch that began before shows no new fields for a minute or two.
    assert_eq!(field.stop_operator(), Some(0));
    field.start_operator();
    field.apply(VAULT, "events", &changed);
    until("the server is another one", SETTLES, || {
        let pods = pods(&field, "events");
        (pods.len() == 1 && pods != before).then_some(())
    });
    field.until_ready(VAULT, "events");
    let pod = field.get("Pod", &pods(&field, "events")[0]).unwrap();
    assert!(pod["spec"]["containers"][0]["args"].to_string().contains("--log=debug"), "{pod:#}");
    append(&field, "events", "orders", "after");
    assert_eq!(texts(&field, "events", "orders"), ["before", "after"]);
    let shown =
        field.cluster.kubectl(["get", VAULT, "events", "--namespace", &field.namespace]).expect(0).text();
    assert!(shown.contains("READY") && shown.contains("True"), "{shown}");
}
