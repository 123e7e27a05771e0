//! A release from its installation to its end, by both versions of Helm.

use std::process::Command;

use serde_json::{Value, json};
use vault_tests::kinds::{earlier_kinds, until_known};
use vault_tests::kubernetes::{Cluster, Helm};
use vault_tests::operator::SETTLES;
use vault_tests::wait::until;

use super::{chart, read, values_file};

const CRDS: [&str; 2] = ["messagevaults.messagevault.io", "vaultstreams.messagevault.io"];

fn release(cluster: &Cluster, version: Helm, verb: &[&str], values: &Value) -> String {
    release_of(cluster, version, verb, values, &chart())
}

fn release_of(cluster: &Cluster, version: Helm, verb: &[&str], values: &Value, chart: &str) -> String {
    let values = values_file(values);
    let values = values.path().display().to_string();
    let mut arguments = verb.to_vec();
    if verb[0] != "uninstall" && verb[0] != "rollback" && verb[0] != "status" {
        arguments.extend([chart, "--values", &values]);
    }
    arguments.push("--namespace=system");
    let said = cluster.helm(version, &arguments);
    assert_eq!(said.code, Some(0), "{verb:?}: {}", said.err);
    String::from_utf8(said.out).unwrap()
}

fn get(cluster: &Cluster, what: &str, path: &str) -> String {
    let path = format!("--output=jsonpath={path}");
    let said = cluster.kubectl(["get", what, "--namespace=system", &path]);
    String::from_utf8(said.out).unwrap()
}

/// A vault that is there whatever becomes of the release.
fn vault(cluster: &Cluster) {
    let sample = super::documents(&read("manifests/samples/azurite.yaml"));
    let mut vault = sample.into_iter().find(|document| document["kind"] == "MessageVault").unwrap();
    vault["metadata"]["namespace"] = json!("default");
    let _ = cluster.kubectl_in(&vault.to_string(), ["apply", "--filename=-"]).expect(0);
}

/// One test, because the definitions are there for all of a cluster.
#[test]
fn a_release_is_installed_upgraded_rolled_back_and_uninstalled_and_vaults_stay() {
    let cluster = Cluster::start();
    let _ = cluster.kubectl(["create", "namespace", "system"]).expect(0);
    for version in [Helm::Three, Helm::Four] {
        // The second one takes over the definitions that the first has left.
        let notes = release(&cluster, version, &["install", "mv"], &json!({}));
        assert!(notes.contains("kubectl explain messagevault.spec"), "{notes}");
        for crd in CRDS {
            let crd = format!("crd/{crd}");
            let _ = cluster.kubectl(["wait", "--for=condition=Established", &crd, "--timeout=60s"]).expect(0);
        }
        vault(&cluster);
        let of_vault = || {
            let arguments =
                ["get", "messagevault", "demo", "--namespace=default", "--output=jsonpath={.metadata.uid}"];
            String::from_utf8(cluster.kubectl(arguments).expect(0).out).unwrap()
        };
        let before = of_vault();

        let more = json!({ "replicas": 2, "image": { "tag": "0.2.0" }, "secretNamespaces": ["default"] });
        let _ = release(&cluster, version, &["upgrade", "mv"], &more);
        let image = "{.spec.template.spec.containers[0].image}";
        let deployment = "deployment/mv-message-vault-operator";
        assert!(get(&cluster, deployment, image).ends_with(":0.2.0"));
        assert_eq!(get(&cluster, deployment, "{.spec.strategy.type}"), "RollingUpdate");
        let role = "role/mv-message-vault-operator-lease";
        assert_eq!(get(&cluster, role, "{.rules[0].verbs[0]}"), "create");
        assert_eq!(get(&cluster, role, "{.rules[1].resourceNames[0]}"), "mv-message-vault-operator");

        let _ = release(&cluster, version, &["rollback", "mv", "1"], &json!({}));
        assert!(get(&cluster, deployment, image).ends_with(":0.1.0"));
        assert_eq!(get(&cluster, deployment, "{.spec.strategy.type}"), "Recreate");
        assert_eq!(get(&cluster, role, "{.rules[0].verbs[0]}"), "create", "one alone takes the Lease too");

        let with_vault = json!({ "vault": {
            "create": true,
            "spec": {
                "storage": { "endpoint": "http://azurite:10000/devstoreaccount1", "emulator": {} },
                "access": { "anonymous": true },
            },
        } });
        let notes = release(&cluster, version, &["upgrade", "mv"], &with_vault);
        assert!(notes.contains("http://vault.system.svc:8480"), "{notes}");

        let _ = release(&cluster, version, &["uninstall", "mv"], &json!({}));
        assert_eq!(get(&cluster, deployment, "{.kind}"), "");
        assert_eq!(of_vault(), before, "the vault is the one that it was");
    }
}

/// The chart as it may have been a version before.
fn earlier_chart() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copied =
        Command::new("cp").args(["--recursive", &format!("{}/.", chart())]).arg(folder.path()).status();
    assert!(copied.unwrap().success());
    std::fs::write(folder.path().join("files/crds.yaml"), earlier_kinds()).unwrap();
    folder
}

#[test]
fn an_upgrade_brings_new_fields_to_vaults_that_are_there() {
    let (cluster, earlier) = (Cluster::start(), earlier_chart());
    let _ = cluster.kubectl(["create", "namespace", "system"]).expect(0);
    let log = r#"{"spec": {"log": "debug"}}"#;
    let set_log = ["patch", "messagevault", "demo", "--namespace=default", "--type=merge", "--patch", log];
    let of_vault = |path: &str| {
        let path = format!("--output=jsonpath={path}");
        let arguments = ["get", "messagevault", "demo", "--namespace=default", &path];
        String::from_utf8(cluster.kubectl(arguments).expect(0).out).unwrap()
    };
    for version in [Helm::Three, Helm::Four] {
        let folder = earlier.path().display().to_string();
        let _ = release_of(&cluster, version, &["install", "mv"], &json!({}), &folder);
        until_known(&cluster);
        vault(&cluster);
        let before = of_vault("{.metadata.uid}");
        let unknown = cluster.kubectl(set_log);
        assert!(unknown.err.contains("unknown field \"spec.log\""), "{}", unknown.err);
        assert_eq!(of_vault("{.spec.log}"), "");

        let _ = release(&cluster, version, &["upgrade", "mv"], &json!({}));
        until("the new field is known", SETTLES, || (cluster.kubectl(set_log).err.is_empty()).then_some(()));
        assert_eq!((of_vault("{.spec.log}"), of_vault("{.metadata.uid}")), ("debug".to_owned(), before));
        let _ = release(&cluster, version, &["uninstall", "mv"], &json!({}));
        let _ = cluster.kubectl(["delete", "crd", CRDS[0], CRDS[1]]).expect(0);
    }
}
