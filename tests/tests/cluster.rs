//! The control plane and the played nodes that tests of the operator stand on. Run `tests/install-kubernetes` once
//! before.
#![expect(clippy::unwrap_used, reason = "a test that finds what it needs missing has failed")]

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vault_tests::client::Client;
use vault_tests::kubernetes::{Cluster, Helm, Kubelet};
use vault_tests::wait::until;

/// Pods start within seconds, unless other tests load the machine.
const SETTLES: Duration = Duration::from_secs(90);

const SELECTOR: &str = "app=vault";

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Two servers without storage, with what `note` holds in a volume.
fn deployment() -> Deployment {
    let address = json!({"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}});
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": "internal"}, "periodSeconds": 1});
    let container = json!({
        "name": "server",
        "image": "registry.example/vault-server:1",
        "args": [
            "--storage=memory:", "--listen=$(POD_IP):8480", "--internal-listen=[::]:8481", "--allow-anonymous",
        ],
        "env": [address],
        "ports": [{"name": "internal", "containerPort": 8481}],
        "readinessProbe": probe("/readyz"),
        "livenessProbe": probe("/livez"),
        "volumeMounts": [{"name": "note", "mountPath": "/etc/note"}],
    });
    object(json!({
        "metadata": {"name": "vault"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "vault"}},
            "template": {
                "metadata": {"labels": {"app": "vault"}},
                "spec": {
                    "terminationGracePeriodSeconds": 20,
                    "containers": [container],
                    "volumes": [{"name": "note", "configMap": {"name": "note"}}],
                },
            },
        },
    }))
}

fn note(text: &str) -> ConfigMap {
    object(json!({"metadata": {"name": "note"}, "data": {"text": text}}))
}

/// A namespace with the Deployment, available; and its pods.
struct Deployed {
    kubelet: Kubelet,
    namespace: String,
    deployments: Api<Deployment>,
    pods: Api<Pod>,
}

impl Deployed {
    fn new(cluster: &Cluster) -> Self {
        let namespace = cluster.namespace();
        let kubelet = Kubelet::in_namespaces(cluster, &[&namespace]);
        let maps: Api<ConfigMap> = Api::namespaced(cluster.admin(), &namespace);
        cluster.block_on(maps.create(&PostParams::default(), &note("one"))).unwrap();
        let deployments: Api<Deployment> = Api::namespaced(cluster.admin(), &namespace);
        cluster.block_on(deployments.create(&PostParams::default(), &deployment())).unwrap();
        let pods = Api::namespaced(cluster.admin(), &namespace);
        let this = Self { kubelet, namespace, deployments, pods };
        this.until_rolled_out(cluster);
        this
    }

    fn until_rolled_out(&self, cluster: &Cluster) {
        let arguments =
            ["rollout", "status", "deployment/vault", "--timeout=90s", "--namespace", &self.namespace];
        let _ = cluster.kubectl(arguments).expect(0);
    }

    fn pods(&self, cluster: &Cluster) -> Vec<Pod> {
        let listed = cluster.block_on(self.pods.list(&ListParams::default().labels(SELECTOR)));
        listed.unwrap().items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
    }
}

fn restarts(pod: &Pod) -> i32 {
    pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].restart_count
}

#[test]
fn a_deployment_becomes_available_and_is_rolled_out_again() {
    let cluster = Cluster::shared();
    let deployed = Deployed::new(&cluster);
    let ips = cluster.pod_ips(&deployed.namespace, SELECTOR);
    assert_eq!(ips.len(), 2);
    for ip in &ips {
        let client = Client::new(format!("{ip}:8480").parse().unwrap());
        assert_eq!(client.send("GET", "/readyz", &[], None).unwrap().status, 200);
    }
    let first = deployed.pods(&cluster);
    let pids: Vec<_> =
        first.iter().flat_map(|pod| deployed.kubelet.pids(&deployed.namespace, &pod.name_any())).collect();
    assert_eq!(pids.len(), 2);

    let template = json!({"spec": {"template": {"metadata": {"annotations": {"changed": "yes"}}}}});
    let patch = Patch::Merge(template);
    let patched = async { deployed.deployments.patch("vault", &PatchParams::default(), &patch).await };
    cluster.block_on(patched).unwrap();
    deployed.until_rolled_out(&cluster);
    until("the pods of before are gone", SETTLES, || {
        let names: Vec<_> = deployed.pods(&cluster).iter().map(ResourceExt::name_any).collect();
        (names.len() == 2 && first.iter().all(|pod| !names.contains(&pod.name_any()))).then_some(())
    });
    let log = deployed.kubelet.log(&deployed.namespace, &first[0].name_any());
    assert!(log.contains("listening on"), "{log}");
    until("their processes have ended", SETTLES, || pids.iter().all(|pid| !runs(*pid)).then_some(()));
}

fn runs(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn what_goes_is_collected_with_all_that_it_owns() {
    let cluster = Cluster::shared();
    let deployed = Deployed::new(&cluster);
    let pods = deployed.pods(&cluster);
    let pids: Vec<_> =
        pods.iter().flat_map(|pod| deployed.kubelet.pids(&deployed.namespace, &pod.name_any())).collect();
    cluster.block_on(deployed.deployments.delete("vault", &DeleteParams::default())).unwrap();
    until("all pods are gone", SETTLES, || {
        let left = cluster.block_on(deployed.pods.list(&ListParams::default())).unwrap();
        left.items.is_empty().then_some(())
    });
    assert!(pids.iter().all(|pid| !runs(*pid)), "their processes ended before");
}

#[test]
fn a_container_that_dies_is_started_again_and_files_follow_their_objects() {
    let cluster = Cluster::shared();
    let deployed = Deployed::new(&cluster);
    let pod = deployed.pods(&cluster).swap_remove(0);
    let name = pod.name_any();
    let file = deployed.kubelet.volume(&pod, "note").join("text");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
    let maps: Api<ConfigMap> = Api::namespaced(cluster.admin(), &deployed.namespace);
    cluster.block_on(maps.replace("note", &PostParams::default(), &note("two, at /etc/note/text"))).unwrap();
    let expected = format!("two, at {}", file.display());
    until("the file changes", SETTLES, || {
        std::fs::read_to_string(&file).is_ok_and(|text| text == expected).then_some(())
    });

    deployed.kubelet.kill(&deployed.namespace, &name);
    until("it was started again", SETTLES, || {
        let pod = cluster.block_on(deployed.pods.get(&name)).unwrap();
        (restarts(&pod) == 1 && cluster.pod_ips(&deployed.namespace, SELECTOR).len() == 2).then_some(())
    });
}

#[test]
fn pods_say_why_they_do_not_run() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let _kubelet = Kubelet::in_namespaces(&cluster, &[&namespace]);
    let pods: Api<Pod> = Api::namespaced(cluster.admin(), &namespace);
    let secret = json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": "missing", "key": "a"}}});
    let volume = json!({"name": "v", "hostPath": {"path": "/"}});
    for (name, image, env, volumes, reason) in [
        ("image", "vault-server-of-old:1", json!([]), json!([]), "ErrImagePull"),
        ("secret", "vault-server", json!([secret]), json!([]), "CreateContainerConfigError"),
        ("volume", "vault-server", json!([]), json!([volume]), "NotPlayedHere"),
        ("fails", "mvctl", json!([]), json!([]), "CrashLoopBackOff"),
    ] {
        let pod: Pod = object(json!({
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "it", "image": image, "env": env}], "volumes": volumes},
        }));
        cluster.block_on(pods.create(&PostParams::default(), &pod)).unwrap();
        until(&format!("{name} waits because of {reason}"), SETTLES, || {
            let pod = cluster.block_on(pods.get(name)).unwrap();
            let status = pod.status?.container_statuses?.swap_remove(0);
            (status.state?.waiting?.reason? == reason).then_some(())
        });
    }
    // What it lacked comes.
    let made: Secret = object(json!({"metadata": {"name": "missing"}, "stringData": {"a": "b"}}));
    let secrets: Api<Secret> = Api::namespaced(cluster.admin(), &namespace);
    cluster.block_on(secrets.create(&PostParams::default(), &made)).unwrap();
    until("the container starts", SETTLES, || {
        let pod = cluster.block_on(pods.get("secret")).unwrap();
        pod.status?.container_statuses?.swap_remove(0).state?.running
    });
}

#[test]
fn pods_that_run_once_say_how_they_ended() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let _kubelet = Kubelet::in_namespaces(&cluster, &[&namespace]);
    let pods: Api<Pod> = Api::namespaced(cluster.admin(), &namespace);
    for (name, argument, phase) in [("good", "--version", "Succeeded"), ("bad", "--unknown", "Failed")] {
        let container = json!({"name": "it", "image": "mvctl", "args": [argument]});
        let spec = json!({"restartPolicy": "Never", "containers": [container]});
        let pod: Pod = object(json!({"metadata": {"name": name}, "spec": spec}));
        cluster.block_on(pods.create(&PostParams::default(), &pod)).unwrap();
        until(&format!("the phase is {phase}"), SETTLES, || {
            let pod = cluster.block_on(pods.get(name)).unwrap();
            (pod.status?.phase? == phase).then_some(())
        });
    }
}

#[test]
fn who_has_no_rights_is_refused() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let client = cluster.client_as(&namespace, "default");
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let refused = cluster.block_on(pods.list(&ListParams::default())).unwrap_err();
    let who = format!("system:serviceaccount:{namespace}:default");
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
    assert!(refused.to_string().contains(&who), "{refused}");
    let admin: Api<Pod> = Api::namespaced(cluster.admin(), &namespace);
    assert!(cluster.block_on(admin.list(&ListParams::default())).unwrap().items.is_empty());
}

#[test]
fn a_server_in_a_pod_knows_tokens_of_the_cluster() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let _kubelet = Kubelet::in_namespaces(&cluster, &[&namespace]);
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    let who = format!("system:serviceaccount:{namespace}:default");
    let access = json!({"issuers": [{
        "url": cluster.url(),
        "audience": "messagevault",
        "ca_file": format!("{account}/ca.crt"),
        "token_file": format!("{account}/token"),
        "grants": [{"subject": who, "grants": ["orders:write"]}],
    }]});
    let map: ConfigMap =
        object(json!({"metadata": {"name": "access"}, "data": {"access.yaml": access.to_string()}}));
    let maps: Api<ConfigMap> = Api::namespaced(cluster.admin(), &namespace);
    cluster.block_on(maps.create(&PostParams::default(), &map)).unwrap();
    let pod: Pod = object(json!({
        "metadata": {"name": "vault", "labels": {"app": "vault"}},
        "spec": {
            "containers": [{
                "name": "server",
                "image": "vault-server",
                "args": ["--storage=memory:", "--listen=$(POD_IP):8480", "--access=/etc/vault/access.yaml"],
                "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8480}, "periodSeconds": 1},
                "volumeMounts": [{"name": "access", "mountPath": "/etc/vault"}],
            }],
            "volumes": [{"name": "access", "configMap": {"name": "access"}}],
        },
    }));
    let pods: Api<Pod> = Api::namespaced(cluster.admin(), &namespace);
    cluster.block_on(pods.create(&PostParams::default(), &pod)).unwrap();
    let ip = until("the pod is ready", SETTLES, || cluster.pod_ips(&namespace, SELECTOR).pop());
    let client = Client::new(format!("{ip}:8480").parse().unwrap());
    let status = |audience| {
        let shown = format!("Bearer {}", cluster.token(&namespace, "default", audience));
        client.send("GET", "/streams/orders", &[("Authorization", &shown)], None).unwrap().status
    };
    // There is no such stream: who may not read is told something else.
    assert_eq!(status(Some("messagevault")), 404);
    assert_eq!(status(None), 401);
}

#[test]
fn both_versions_of_helm_are_there() {
    let cluster = Cluster::shared();
    for (helm, version) in [(Helm::Three, "v3."), (Helm::Four, "v4.")] {
        let said = cluster.helm(helm, ["version", "--short"]).expect(0);
        assert!(said.text().starts_with(version), "{}", said.text());
        let _ = cluster.helm(helm, ["list", "--all-namespaces"]).expect(0);
    }
}

#[test]
fn the_api_server_can_go_and_come_again() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let _kubelet = Kubelet::start(&cluster);
    cluster.stop_api();
    cluster.start_api();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.admin(), &namespace);
    cluster.block_on(maps.create(&PostParams::default(), &note("one"))).unwrap();
    let deployments: Api<Deployment> = Api::namespaced(cluster.admin(), &namespace);
    cluster.block_on(deployments.create(&PostParams::default(), &deployment())).unwrap();
    until("both pods are ready", SETTLES, || {
        (cluster.pod_ips(&namespace, SELECTOR).len() == 2).then_some(())
    });
}
