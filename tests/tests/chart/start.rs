//! One command, and there is a vault: the chart with the real operator, whose vault's real servers take messages.

use std::time::Duration;

use serde_json::{Value, json};
use vault_tests::azurite::Azurite;
use vault_tests::client::Client;
use vault_tests::kubernetes::{Cluster, Helm, Kubelet};
use vault_tests::wait::until;

use super::{chart, values_file};

/// The operator looks at its files every few seconds, and pods take their time to end.
const SETTLES: Duration = Duration::from_secs(90);

#[test]
fn one_command_brings_an_operator_and_a_vault_that_takes_messages() {
    let cluster = Cluster::start();
    let azurite = Azurite::shared();
    let _ = cluster.kubectl(["create", "namespace", "system"]).expect(0);
    let kubelet = Kubelet::in_namespaces(&cluster, &["system"]);
    let image = |name: &str| json!({ "repository": format!("registry.example/{name}") });
    let mut values = json!({
        "image": image("vault-operator"),
        "serverImage": image("vault-server"),
        "replicas": 2,
        "watchNamespace": "system",
        "vault": {
            "create": true,
            "name": "orders",
            "spec": {
                "storage": { "endpoint": azurite.endpoint(), "emulator": {}, "prefix": "chart-start-" },
                "streams": [{ "name": "orders" }],
                "access": { "anonymous": true },
            },
        },
    });
    let helm = |verb: &str, values: &Value| {
        let file = values_file(values);
        let file = file.path().display().to_string();
        let arguments =
            [verb, "mv", &chart(), "--namespace=system", "--values", &file, "--wait", "--timeout=120s"];
        let said = cluster.helm(Helm::Three, arguments);
        assert_eq!(said.code, Some(0), "{}", said.err);
    };
    helm("install", &values);
    let ready =
        ["wait", "messagevault/orders", "--namespace=system", "--for=condition=Ready", "--timeout=120s"];
    let wait = || {
        let made = ["wait", "messagevault/orders", "--namespace=system", "--for=create", "--timeout=60s"];
        let _ = cluster.kubectl(made).expect(0);
        let said = cluster.kubectl(ready);
        if said.code != Some(0) {
            let all = cluster.kubectl(["get", "messagevaults,pods", "--namespace=system", "--output=yaml"]);
            panic!("{}\n{}", said.err, all.text());
        }
    };
    wait();
    let servers = cluster.pod_ips("system", "messagevault.io/vault=orders");
    assert_eq!(servers.len(), 2);
    for ip in &servers {
        let client = Client::new(format!("{ip}:8480").parse().unwrap());
        client.append_text("orders", "hello");
    }

    // A change of the values is a change of the vault.
    values["vault"]["spec"]["replicas"] = json!(1);
    helm("upgrade", &values);
    let left = || cluster.pod_ips("system", "messagevault.io/vault=orders");
    until("there is one server", SETTLES, || (left().len() == 1).then_some(()));
    wait();

    // Without its operator the vault goes on.
    let _ = cluster.helm(Helm::Three, ["uninstall", "mv", "--namespace=system", "--wait"]).expect(0);
    let client = Client::new(format!("{}:8480", left()[0]).parse().unwrap());
    assert_eq!(client.read_all("orders").len(), 2);
    drop(kubelet);
}
