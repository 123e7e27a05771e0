//! What a change of a vault's spec changes.

use serde_json::json;
use vault_tests::operator::{Field, SETTLES, VAULT};
use vault_tests::wait::until;

use crate::common::{append, events, ips, pods, texts};

#[test]
fn pods_are_replaced_where_they_must_be_and_else_stay() {
    let field = Field::new().start();
    let mut spec = field.vault(&field.prefix());
    spec["access"] = json!({"serviceAccounts": [{"name": "till", "grants": ["orders:read"]}]});
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");
    let first = pods(&field, "events");
    assert_eq!(first.len(), 2);

    spec["service"] = json!({"annotations": {"somebody.example/exposed": "yes"}});
    spec["access"]["serviceAccounts"][0]["grants"] = json!(["orders:write"]);
    spec["replicas"] = json!(3);
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");
    let service = field.get("Service", "events").unwrap();
    assert_eq!(service["metadata"]["annotations"]["somebody.example/exposed"], "yes");
    let access = field.get("ConfigMap", "events-access").unwrap()["data"]["access.yaml"].to_string();
    assert!(access.contains("orders:write") && !access.contains("orders:read"), "{access}");
    let second = pods(&field, "events");
    assert_eq!(second.len(), 3);
    assert!(first.iter().all(|pod| second.contains(pod)), "no pod was replaced: {first:?}, {second:?}");
    assert_eq!(ips(&field, "events").len(), 3);

    spec["replicas"] = json!(1);
    spec["limits"] = json!({"maxMessageBytes": 1000});
    spec["log"] = json!("debug");
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");
    let third = pods(&field, "events");
    assert_eq!(third.len(), 1);
    assert!(!second.contains(&third[0]), "they are new: {second:?}, {third:?}");
    let pod = field.get("Pod", &third[0]).unwrap();
    let arguments = pod["spec"]["containers"][0]["args"].to_string();
    for flag in ["--max-message-bytes=1000", "--log=debug"] {
        assert!(arguments.contains(flag), "{arguments}");
    }
}

#[test]
fn an_image_that_is_not_there_is_said_and_rolled_back() {
    let field = Field::new().start();
    let mut spec = field.vault(&field.prefix());
    spec["streams"] = json!([{"name": "orders"}]);
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");
    append(&field, "events", "orders", "before");
    let before = pods(&field, "events");
    spec["image"] = json!("registry.example/nothing:2");
    field.apply(VAULT, "events", &spec);
    until("the status says what is wrong", SETTLES, || {
        let vault = field.get(VAULT, "events").unwrap();
        let said = vault_tests::operator::condition(&vault, "Ready");
        let message = said["message"].as_str().unwrap_or_default();
        (said["reason"] == "WaitingForServers" && message.contains("ErrImagePull")).then_some(())
    });
    // The servers of before go on meanwhile.
    append(&field, "events", "orders", "meanwhile");
    spec.as_object_mut().unwrap().remove("image");
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");
    until("the pods of before are all that is left", SETTLES, || {
        (pods(&field, "events") == before).then_some(())
    });
    append(&field, "events", "orders", "after");
    assert_eq!(texts(&field, "events", "orders"), ["before", "meanwhile", "after"]);
}

#[test]
fn a_rollout_that_makes_no_progress_is_stuck_until_it_is_mended() {
    let field = Field::new().start();
    let mut spec = field.vault(&field.prefix());
    (spec["replicas"], spec["streams"]) = (json!(1), json!([{"name": "orders"}]));
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");
    // Ten minutes are the default; the operator has no opinion of it.
    field.patch("Deployment", "events", &json!({"spec": {"progressDeadlineSeconds": 2}}));
    spec["image"] = json!("registry.example/nothing:2");
    field.apply(VAULT, "events", &spec);
    let (reason, message) = field.until_stalled(VAULT, "events");
    assert_eq!(reason, "RolloutStuck", "{message}");
    assert!(message.contains("ErrImagePull") && message.contains("no progress"), "{message}");
    assert_eq!(events(&field, "events", "RolloutStuck").len(), 1);
    append(&field, "events", "orders", "meanwhile");
    spec.as_object_mut().unwrap().remove("image");
    field.apply(VAULT, "events", &spec);
    let vault = field.until_ready(VAULT, "events");
    assert_eq!(vault_tests::operator::condition(&vault, "Stalled")["status"], "False");
}
