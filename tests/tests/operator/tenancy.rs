//! An operator of a whole cluster: before its kinds are installed, and with streams of other namespaces.

use std::sync::Arc;

use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use vault_tests::azurite::Azurite;
use vault_tests::kinds::install;
use vault_tests::kubernetes::Cluster;
use vault_tests::kubernetes::process::{Process, text};
use vault_tests::operator::{Field, SETTLES, STREAM, VAULT};
use vault_tests::wait::until;

use crate::common::{Containers, append, texts};

fn operator_without_kinds(field: &Field) {
    let crds = ["crd/messagevaults.messagevault.io", "crd/vaultstreams.messagevault.io"];
    let _ = field.cluster.kubectl(["delete", crds[0], crds[1]]).expect(0);
    let log = field.cluster.path("without-kinds.log");
    let mut operator = Process::start(field.command(), &log).unwrap();
    let address = until("it listens", SETTLES, || {
        assert!(operator.ended().is_none(), "{}", text(&log));
        let said = text(&log);
        let behind = said.split_once("address=")?.1;
        Some(behind.split_whitespace().next()?.trim_matches('"').to_owned())
    });
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let ask = |path: &str| {
        let mut answer = agent.get(format!("http://{address}{path}")).call().unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    };
    let why = until("it says what is missing", SETTLES, || {
        let (status, body) = ask("/readyz");
        (status == 503 && body.contains("not installed")).then_some(body)
    });
    assert!(why.contains("kubectl apply --server-side -f manifests/crds"), "{why}");
    assert!(text(&log).contains("are not installed"), "{}", text(&log));
    assert_eq!(ask("/livez").0, 200);
    install(&field.cluster);
    until("it is ready once they are there", SETTLES, || (ask("/readyz").0 == 200).then_some(()));
}

#[test]
fn vaults_admit_streams_of_the_namespaces_that_they_name() {
    let field = Field::with(Arc::new(Cluster::start()), Azurite::shared()).everywhere();
    operator_without_kinds(&field);
    let field = field.start();
    let prefix = format!("own-cluster-{}", field.prefix());
    let mut spec = field.vault(&prefix);
    spec["replicas"] = json!(1);
    field.apply(VAULT, "events", &spec);
    let team = field.cluster.namespace();
    let stream = |policy: &str| json!({"vaultRef": {"name": "events", "namespace": field.namespace}, "deletionPolicy": policy});
    let until_reason = |condition: &str, reason: &str| {
        until(&format!("the stream is {condition} with {reason}"), SETTLES, || {
            let found = field.until_condition_in(&team, STREAM, "till", condition, "True");
            (found["reason"] == reason).then_some(found)
        })
    };
    field.apply_in(&team, STREAM, "till", &stream("Delete"));
    field.until_ready(VAULT, "events");
    let refused = until_reason("Stalled", "NamespaceNotAllowed");
    assert!(refused["message"].as_str().unwrap().contains("allowedNamespaces"), "{refused}");
    let finalizers = |object: Option<Value>| object.unwrap()["metadata"]["finalizers"].clone();
    assert!(finalizers(field.get(VAULT, "events")).is_null(), "who is not admitted cannot hold the vault");
    let containers = Containers::of(&field, &prefix);
    assert!(!containers.has("till"));

    spec["allowedNamespaces"] = json!({"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}});
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");
    until_reason("Stalled", "NamespaceNotAllowed");
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(field.cluster.admin());
    let label = Patch::Merge(json!({"metadata": {"labels": {"team": "shop"}}}));
    field.cluster.block_on(namespaces.patch(&team, &PatchParams::default(), &label)).unwrap();
    // Nothing tells of a namespace's label: the stream is looked at again within minutes, or when it changes.
    field.apply_in(&team, STREAM, "till", &stream("Retain"));
    until_reason("Ready", "Ready");
    append(&field, "events", "till", "hello");

    spec["allowedNamespaces"] = json!({"from": "Same"});
    field.apply(VAULT, "events", &spec);
    until_reason("Stalled", "NamespaceNotAllowed");
    assert_eq!(texts(&field, "events", "till"), ["hello"], "what is there stays");
    spec["allowedNamespaces"] = json!({"from": "All"});
    field.apply(VAULT, "events", &spec);
    until_reason("Ready", "Ready");
    assert_eq!(containers.meta("till").unwrap().owner, Some(format!("vaultstream/{team}/till")));
}
