//! One command, and there is a vault: the chart with the real operator, whose vault's real servers take messages.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use vault_tests::azurite::Azurite;
use vault_tests::client::Client;
use vault_tests::kubernetes::{Cluster, Helm, Kubelet};
use vault_tests::mvctl::Said;
use vault_tests::server::program_named;
use vault_tests::wait::{StopAtEnd, until};

use super::{chart, values_file};

/// The operator looks at its files every few seconds, and pods take their time to end.
const SETTLES: Duration = Duration::from_secs(90);

/// Runs `helm test`, with what its pods would run as processes of this machine. Their names of Services lead to pods.
fn helm_test(cluster: &Cluster) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = StopAtEnd(&over);
        let played = scope.spawn(|| {
            let (pods, mut played): (Api<Pod>, _) = (Api::namespaced(cluster.admin(), "system"), Vec::new());
            let tests = ListParams::default().labels("app.kubernetes.io/component=test");
            while !over.load(Ordering::Relaxed) {
                for pod in cluster.block_on(pods.list(&tests)).unwrap() {
                    let done =
                        pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded");
                    if !done {
                        play(cluster, &pod);
                        let succeeded = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
                        let (name, with) = (pod.name_any(), PatchParams::default());
                        let _ = cluster.block_on(pods.patch_status(&name, &with, &succeeded)).unwrap();
                        played.push(pod.name_any());
                    }
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            played
        });
        let said = cluster.helm(Helm::Three, ["test", "mv", "--namespace=system", "--timeout=60s"]);
        over.store(true, Ordering::Relaxed);
        assert_eq!(said.code, Some(0), "{}", said.err);
        let mut played = played.join().unwrap();
        played.sort();
        assert_eq!(played, ["mv-message-vault-test-operator", "mv-message-vault-test-vault"]);
    });
}

/// Runs the commands of a pod, one after the other.
fn play(cluster: &Cluster, pod: &Pod) {
    let spec = pod.spec.clone().unwrap();
    for container in spec.init_containers.into_iter().flatten().chain(spec.containers) {
        let words: Vec<_> = [container.command, container.args].into_iter().flatten().flatten().collect();
        let here = |text: &str| {
            let operator = ("mv-message-vault-operator.system.svc", "app.kubernetes.io/component=operator");
            [operator, ("orders.system.svc", "messagevault.io/vault=orders")].iter().fold(
                text.to_owned(),
                |text, (name, selector)| match cluster.pod_ips("system", selector).first() {
                    Some(ip) => text.replace(name, ip),
                    None => text,
                },
            )
        };
        let program = match words[0].rsplit('/').next().unwrap() {
            "mvctl" => program_named("mvctl"),
            other => other.into(),
        };
        let variables = container.env.unwrap_or_default();
        let variables = variables.iter().map(|it| (&it.name, here(it.value.as_deref().unwrap_or_default())));
        let words: Vec<_> = words.iter().map(|word| here(word)).collect();
        let mut command = Command::new(program);
        let said = Said::of(command.args(&words[1..]).envs(variables).output().unwrap());
        assert_eq!(said.code, Some(0), "{words:?}: {}", said.err);
    }
}

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

    kubelet.leave_out("app.kubernetes.io/component", "test");
    helm_test(&cluster);
    assert_eq!(Client::new(format!("{}:8480", servers[0]).parse().unwrap()).read_all("helm-test").len(), 1);

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
