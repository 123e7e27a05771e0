//! Objects of the Prometheus operator, in a cluster that gets its kinds later.

use serde_json::{Value, json};
use vault_tests::kinds::{apply_text, monitoring_kinds};
use vault_tests::operator::{Field, SETTLES, VAULT};
use vault_tests::wait::until;

const KINDS: [&str; 2] = ["ServiceMonitor", "PrometheusRule"];

#[test]
fn vaults_are_monitored_once_the_cluster_has_the_kinds_and_as_long_as_they_want_it() {
    let field = Field::new().flag("--look-every=2s").start();
    let mut spec = field.vault(&field.prefix());
    spec["replicas"] = json!(1);
    spec["monitoring"] = json!({"serviceMonitor": true, "rules": true, "labels": {"release": "prometheus"}});
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");

    apply_text(&field.cluster, &monitoring_kinds());
    let made = |kind: &str| until(&format!("there is the {kind}"), SETTLES, || field.get(kind, "events"));
    let [monitor, rule]: [Value; 2] = KINDS.map(made);
    let uid = &field.get(VAULT, "events").unwrap()["metadata"]["uid"];
    for object in [&monitor, &rule] {
        assert_eq!(object["metadata"]["labels"]["release"], "prometheus");
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], *uid);
    }
    let service = field.get("Service", "events-internal").unwrap();
    let named = |port: &Value| port["name"] == monitor["spec"]["endpoints"][0]["port"];
    assert!(service["spec"]["ports"].as_array().unwrap().iter().any(named), "the port is one of the Service");
    let selected = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    assert!(
        selected.iter().all(|(name, value)| service["metadata"]["labels"][name] == *value),
        "{selected:?}"
    );
    assert!(!rule["spec"]["groups"][0]["rules"].as_array().unwrap().is_empty());

    // Nothing is watched of them: the next look puts back what somebody has changed.
    field.delete("ServiceMonitor", "events");
    field.patch("PrometheusRule", "events", &json!({"spec": {"groups": []}}));
    made("ServiceMonitor");
    until("the rules are put back", SETTLES, || {
        (field.get("PrometheusRule", "events").unwrap()["spec"] == rule["spec"]).then_some(())
    });
    spec["monitoring"] = json!({"serviceMonitor": true});
    field.apply(VAULT, "events", &spec);
    field.until_gone("PrometheusRule", "events");
    assert!(field.get("ServiceMonitor", "events").is_some());
    spec.as_object_mut().unwrap().remove("monitoring");
    field.apply(VAULT, "events", &spec);
    field.until_gone("ServiceMonitor", "events");
    field.until_ready(VAULT, "events");
}
