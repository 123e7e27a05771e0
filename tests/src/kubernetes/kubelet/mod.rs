//! Nodes and their kubelets, played: what pods would run runs as processes of this machine.
//!
//! ```text
//! pod.spec                                  here
//! image  registry/x/vault-server:1.2        the program vault-server of this build
//! $(POD_IP)                                 127.x.y.z, of this machine, another one for each pod
//! [::]:8480, 0.0.0.0:8480                   the same: pods would be in each other's way
//! volumeMounts[].mountPath                  a directory; the path is replaced in arguments, in variables, and in
//!                                           the files of ConfigMaps and Secrets
//! ```
//!
//! Pods get a node, ConfigMaps, Secrets, projected tokens, and empty directories; `httpGet` and `tcpSocket` probes;
//! restarts, `preStop.sleep`, and an orderly end; and their status tells how they are. A pod that wants other volumes, sources, probes, or hooks waits
//! with the reason `NotPlayedHere`, and a line goes to stderr. Passed over are resources, security contexts, modes and
//! owners of files, and what a scheduler would look at.
//!
//! Libraries find a pod's ServiceAccount at a fixed path where there is nothing here: a pod that would have it there
//! gets `KUBECONFIG` instead, with the same token.

mod addresses;
mod container;
mod environment;
mod objects;
mod probes;
mod problem;
mod status;
mod text;
mod volumes;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use addresses::Addresses;
use objects::Objects;
use worker::{Handle, Worker};

use super::cluster::Cluster;
use super::process;
use crate::server::temporary_directory;

/// Where all nodes are.
const HOST_IP: &str = "127.0.0.1";

/// How many nodes there are, each in a zone of its own.
const NODES: usize = 2;

/// How often the API server is asked for pods.
const STEP: Duration = Duration::from_millis(100);

/// Nodes that run the pods of some namespaces, or of all. Their processes end with the value.
pub struct Kubelet {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What all threads share.
struct Shared {
    objects: Objects,
    namespaces: Option<BTreeSet<String>>,
    nodes: Vec<String>,
    api_port: u16,
    ca: PathBuf,
    addresses: Mutex<Addresses>,
    /// By their uids, those that are gone as well.
    pods: Mutex<BTreeMap<String, Arc<Handle>>>,
    refused: Mutex<BTreeSet<String>>,
    /// A label with its value: pods that have it are somebody else's to play.
    left_out: Mutex<Option<(String, String)>>,
    /// What containers have in their environment beside what their pods say.
    injected: Mutex<Vec<(String, String)>>,
    stop: AtomicBool,
    scratch: TempDir,
}

impl Kubelet {
    /// For all pods of a cluster of one's own.
    #[must_use]
    pub fn start(cluster: &Cluster) -> Self {
        Self::of(cluster, None)
    }

    /// For the pods of these namespaces, of which nobody else plays the pods.
    #[must_use]
    pub fn in_namespaces(cluster: &Cluster, namespaces: &[&str]) -> Self {
        Self::of(cluster, Some(namespaces.iter().map(|&name| name.to_owned()).collect()))
    }

    fn of(cluster: &Cluster, namespaces: Option<BTreeSet<String>>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let nodes: Vec<_> =
            (0..NODES).map(|index| format!("node-{}-{count}-{index}", std::process::id())).collect();
        for (index, node) in nodes.iter().enumerate() {
            cluster.block_on(add_node(Api::all(cluster.admin()), node, index));
        }
        let shared = Arc::new(Shared {
            objects: Objects { runtime: cluster.runtime(), client: cluster.admin() },
            namespaces,
            nodes,
            api_port: cluster.port(),
            ca: cluster.ca(),
            addresses: Mutex::new(Addresses::claim()),
            pods: Mutex::default(),
            refused: Mutex::default(),
            left_out: Mutex::default(),
            injected: Mutex::default(),
            stop: AtomicBool::new(false),
            scratch: temporary_directory(),
        });
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || play(&shared)
        });
        Self { shared, thread: Some(thread) }
    }

    /// Adds a variable to every container that starts from now on and does not have it, as a webhook of the cluster does.
    pub fn inject(&self, name: &str, value: &str) {
        lock(&self.shared.injected).push((name.to_owned(), value.to_owned()));
    }

    /// Leaves pods with a label to somebody else from now on.
    pub fn leave_out(&self, label: &str, value: &str) {
        *lock(&self.shared.left_out) = Some((label.to_owned(), value.to_owned()));
    }

    /// All that the containers of a pod wrote, also when it is gone.
    #[must_use]
    pub fn log(&self, namespace: &str, pod: &str) -> String {
        logs(&self.handle(namespace, pod)).map(|log| process::text(&log)).collect()
    }

    /// The numbers of the processes that run for a pod.
    #[must_use]
    pub fn pids(&self, namespace: &str, pod: &str) -> Vec<i32> {
        let handle = self.handle(namespace, pod);
        let processes = lock(&handle.processes);
        processes.values().map(|process| process.pid().as_raw_nonzero().get()).collect()
    }

    /// Ends the processes of a pod at once, as a crash would. Its containers are started again.
    pub fn kill(&self, namespace: &str, pod: &str) {
        self.signal(namespace, pod, Signal::KILL);
    }

    /// Sends a signal to the processes of a pod.
    pub fn signal(&self, namespace: &str, pod: &str, signal: Signal) {
        let handle = self.handle(namespace, pod);
        let mut processes = lock(&handle.processes);
        assert!(!processes.is_empty(), "no container of {namespace}/{pod} runs");
        processes.values_mut().for_each(|process| process.signal(signal));
    }

    /// Where the files of a volume of a pod are, while there is the pod.
    #[must_use]
    pub fn volume(&self, pod: &Pod, volume: &str) -> PathBuf {
        let pods = self.shared.scratch.path().join("pods");
        pods.join(pod.uid().unwrap_or_default()).join("volumes").join(volume)
    }

    /// The newest pod of this name.
    fn handle(&self, namespace: &str, pod: &str) -> Arc<Handle> {
        let pods = lock(&self.shared.pods);
        let mut named: Vec<_> =
            pods.values().filter(|it| it.namespace == namespace && it.name == pod).cloned().collect();
        let there = named.iter().position(|it| lock(&it.wanted).is_some());
        let found = there.map(|index| named.swap_remove(index)).or_else(|| named.pop());
        found.unwrap_or_else(|| panic!("there was no pod {namespace}/{pod}"))
    }
}

impl Drop for Kubelet {
    #[expect(clippy::print_stderr, reason = "a test that fails shows what its pods said")]
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // If it panicked, it has said so.
        let _ = self.thread.take().map(JoinHandle::join);
        if std::thread::panicking() {
            for handle in lock(&self.shared.pods).values() {
                for log in logs(handle) {
                    let (name, end) = (&handle.name, process::tail(&log));
                    eprintln!("--- the end of the log of {}/{name}\n{end}---", handle.namespace);
                }
            }
        }
    }
}

impl Shared {
    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Says once what is not played.
    #[expect(clippy::print_stderr, reason = "whoever writes a test has to see it")]
    fn refuse(&self, what: &str) {
        if lock(&self.refused).insert(what.to_owned()) {
            eprintln!("{what}");
        }
    }

    /// The pods that are to run here, as the API server knows them.
    async fn list(&self) -> kube::Result<Vec<Pod>> {
        let client = &self.objects.client;
        let Some(namespaces) = &self.namespaces else {
            let pods: Api<Pod> = Api::all(client.clone());
            return Ok(pods.list(&ListParams::default()).await?.items);
        };
        let mut all = Vec::new();
        for namespace in namespaces {
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            all.extend(pods.list(&ListParams::default()).await?.items);
        }
        Ok(all)
    }

    /// Gives a pod to a node: to the one that has the fewest.
    async fn bind(&self, pod: &Pod, pods: &[Pod]) -> kube::Result<()> {
        let here = |node: &&String| pods.iter().filter(|pod| node_of(pod) == Some(node.as_str())).count();
        let node = self.nodes.iter().min_by_key(here).expect("there are nodes");
        let binding = Binding {
            metadata: kube::api::ObjectMeta { name: pod.metadata.name.clone(), ..Default::default() },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.clone()),
                ..ObjectReference::default()
            },
        };
        let api: Api<Pod> = self.objects.api(&pod.namespace().unwrap_or_default());
        let made: kube::Result<Status> =
            api.create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding).await;
        made.map(|_| ())
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref())
}

/// Looks which pods there are, and has a thread for each.
fn play(shared: &Arc<Shared>) {
    let mut workers = Vec::new();
    while !shared.stops() {
        // The API server may be away for a while; pods go on meanwhile.
        if let Ok(mut listed) = shared.objects.runtime.block_on(shared.list()) {
            let left_out = lock(&shared.left_out).clone();
            listed.retain(|pod| left_out.iter().all(|(label, value)| pod.labels().get(label) != Some(value)));
            let unbound = listed.iter().filter(|pod| node_of(pod).is_none());
            for pod in unbound.filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
                // Otherwise it is tried again with the next list.
                let _ = shared.objects.runtime.block_on(shared.bind(pod, &listed));
            }
            workers.extend(take_up(shared, listed));
        }
        workers.retain(|worker: &JoinHandle<()>| !worker.is_finished());
        std::thread::sleep(STEP);
    }
    for worker in workers {
        // If it panicked, it has said so.
        let _ = worker.join();
    }
}

/// Tells the threads of pods what has changed, and begins those of new pods.
fn take_up(shared: &Arc<Shared>, listed: Vec<Pod>) -> Vec<JoinHandle<()>> {
    let ours = |pod: &Pod| node_of(pod).is_some_and(|node| shared.nodes.iter().any(|ours| ours == node));
    let listed: BTreeMap<String, Pod> =
        listed.into_iter().filter(ours).map(|pod| (pod.uid().unwrap_or_default(), pod)).collect();
    let mut pods = lock(&shared.pods);
    for (uid, handle) in pods.iter() {
        *lock(&handle.wanted) = listed.get(uid).cloned();
    }
    let fresh = listed.into_iter().filter(|(uid, _)| !pods.contains_key(uid)).collect::<Vec<_>>();
    let begin = |(uid, pod): (String, Pod)| {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let logs = shared.scratch.path().join("logs").join(&uid);
        let handle = Handle {
            namespace,
            name,
            logs,
            wanted: Mutex::new(Some(pod.clone())),
            processes: Mutex::default(),
        };
        let handle = Arc::new(handle);
        pods.insert(uid, handle.clone());
        let worker = Worker::new(shared.clone(), handle, &pod);
        std::thread::spawn(move || worker.run())
    };
    fresh.into_iter().map(begin).collect()
}

async fn add_node(nodes: Api<Node>, name: &str, index: usize) {
    let node = json!({
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "topology.kubernetes.io/zone": format!("zone-{index}"),
            },
        },
    });
    let node: Node = serde_json::from_value(node).expect("this is a node");
    nodes.create(&PostParams::default(), &node).await.expect("the name is new");
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": HOST_IP}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
    }});
    let told = nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await;
    told.expect("the node was just made");
}

/// The logs of a pod's containers.
fn logs(handle: &Handle) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(&handle.logs);
    let mut logs: Vec<_> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    logs.sort();
    logs.into_iter()
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
