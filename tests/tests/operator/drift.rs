//! What somebody changes or deletes by hand, and what is not wanted any more.

use serde_json::{Value, json};
use vault_tests::operator::{Field, SETTLES, VAULT};
use vault_tests::wait::until;

use crate::common::{append, texts};

fn guarded(field: &Field) -> Value {
    let mut spec = field.vault(&field.prefix());
    spec["access"] = json!({"serviceAccounts": [{"name": "till", "grants": ["all:admin"]}]});
    spec["streams"] = json!([{"name": "orders"}]);
    spec
}

#[test]
fn what_is_deleted_or_changed_by_hand_comes_back() {
    let field = Field::new().start();
    field.apply(VAULT, "events", &guarded(&field));
    field.until_ready(VAULT, "events");
    let uid = |kind: &str, name: &str| Some(field.get(kind, name)?["metadata"]["uid"].as_str()?.to_owned());
    for (kind, name) in [
        ("ServiceAccount", "events"),
        ("ConfigMap", "events-access"),
        ("Service", "events"),
        ("Service", "events-internal"),
        ("PodDisruptionBudget", "events"),
        ("NetworkPolicy", "events"),
        ("Deployment", "events"),
    ] {
        let before = uid(kind, name).unwrap_or_else(|| panic!("there is no {kind} {name}"));
        field.delete(kind, name);
        until(&format!("the {kind} {name} is made anew"), SETTLES, || {
            uid(kind, name).filter(|after| *after != before)
        });
    }
    for (kind, name, path, patch) in [
        ("Deployment", "events", "/spec/replicas", json!({"spec": {"replicas": 5}})),
        ("ConfigMap", "events-access", "/data", json!({"data": {"access.yaml": "issuers: []"}})),
        (
            "Service",
            "events",
            "/spec/selector",
            json!({"spec": {"selector": {"app.kubernetes.io/name": "x"}}}),
        ),
        ("NetworkPolicy", "events", "/spec/ingress", json!({"spec": {"ingress": []}})),
        ("PodDisruptionBudget", "events", "/spec/maxUnavailable", json!({"spec": {"maxUnavailable": 2}})),
        (
            "Service",
            "events",
            "/metadata/labels/messagevault.io~1vault",
            json!({"metadata": {"labels": {
                "messagevault.io/vault": "other"
            }}}),
        ),
    ] {
        let value = || field.get(kind, name).unwrap().pointer(path).cloned();
        let before = value();
        field.patch(kind, name, &patch);
        until(&format!("{path} of the {kind} is put back"), SETTLES, || (value() == before).then_some(()));
    }
    // What the operator has no opinion of stays.
    field.annotate("Service", "events", "somebody.example/note", Some("kept"));
    field.patch(VAULT, "events", &json!({"spec": {"service": {"annotations": {"ours": "yes"}}}}));
    until("the operator's own annotation is there", SETTLES, || {
        let annotations = field.get("Service", "events").unwrap()["metadata"]["annotations"].clone();
        (annotations["ours"] == "yes" && annotations["somebody.example/note"] == "kept").then_some(())
    });
    field.until_ready(VAULT, "events");
}

#[test]
fn an_object_of_somebody_else_is_left_alone() {
    let field = Field::new().start();
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "events", "namespace": field.namespace, "labels": {"whose": "somebody"}},
        "spec": {"ports": [{"port": 80}]},
    });
    vault_tests::kinds::apply_text(&field.cluster, &service.to_string());
    let before = field.get("Service", "events").unwrap();
    field.apply(VAULT, "events", &field.vault(&field.prefix()));
    let (reason, message) = field.until_stalled(VAULT, "events");
    assert_eq!(reason, "ObjectExists");
    assert!(message.contains("Service events") && message.contains("another name"), "{message}");
    assert_eq!(field.get("Service", "events").unwrap(), before);
    field.delete("Service", "events");
    field.annotate(VAULT, "events", "look", Some("now"));
    field.until_ready(VAULT, "events");
}

#[test]
fn what_is_not_wanted_any_more_goes() {
    let field = Field::new().start();
    let mut spec = guarded(&field);
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");
    spec["networkPolicy"] = json!({"enabled": false});
    spec["replicas"] = json!(1);
    spec["access"] = json!({"anonymous": true});
    field.apply(VAULT, "events", &spec);
    for (kind, name) in
        [("NetworkPolicy", "events"), ("PodDisruptionBudget", "events"), ("ConfigMap", "events-access")]
    {
        field.until_gone(kind, name);
    }
    field.until_ready(VAULT, "events");
    for (kind, name) in [("Service", "events"), ("Service", "events-internal"), ("ServiceAccount", "events")]
    {
        assert!(field.get(kind, name).is_some(), "{kind} {name} stays");
    }
    // Everybody is let in now.
    append(&field, "events", "orders", "hello");
    assert_eq!(texts(&field, "events", "orders"), ["hello"]);
}
