//! The control plane: etcd, the API server, and those controllers that need no cloud and no scheduler.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::accounts::{client_of, kubeconfig};
use super::authority::Authority;
use super::parts;
use super::process::Process;
use crate::replicas::free_port;
use crate::server::temporary_directory;
use crate::wait::until;

/// How long a part may take to start while other tests load the machine.
const START: Duration = Duration::from_secs(120);

/// What turns Deployments into Pods, and what clears up after all. None of them writes EndpointSlices: the API does not
/// let endpoints be on loopback, where all pods are here.
const CONTROLLERS: &str = "clusterrole-aggregation-controller,deployment-controller,disruption-controller,\
    garbage-collector-controller,job-controller,namespace-controller,replicaset-controller,\
    root-ca-certificate-publisher-controller,serviceaccount-controller,statefulset-controller";

/// A control plane. Its processes end with the value.
pub struct Cluster {
    // The controllers end before what they would miss.
    controllers: Mutex<Option<Process>>,
    api: Mutex<Option<Process>>,
    etcd: Process,
    etcd_url: String,
    port: u16,
    authority: Authority,
    admin: Client,
    runtime: Arc<Runtime>,
    scratch: TempDir,
}

impl Cluster {
    /// One for all tests of a program that run at the moment: it takes seconds to start, and 400 MB.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = lock(&SHARED);
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Self::start());
            *shared = Arc::downgrade(&started);
            started
        })
    }

    /// Starts an empty one and waits until it takes requests.
    #[must_use]
    pub fn start() -> Self {
        let scratch = temporary_directory();
        let authority = Authority::new(scratch.path());
        let port = free_port();
        let (etcd, etcd_url) = start_etcd(scratch.path());
        for (name, file) in [("admin", "kubeconfig"), ("controllers", "controllers-kubeconfig")] {
            let user = json!({
                "client-certificate": authority.certificate(name),
                "client-key": authority.key(name),
            });
            let text = kubeconfig(&url_of(port), &authority.ca(), "default", &user);
            std::fs::write(scratch.path().join(file), text).expect("there is room for small files");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = Arc::new(runtime.expect("threads can be started"));
        let admin = runtime.block_on(client_of(&scratch.path().join("kubeconfig")));
        let cluster = Self {
            controllers: Mutex::new(None),
            api: Mutex::new(None),
            etcd,
            etcd_url,
            port,
            authority,
            admin,
            runtime,
            scratch,
        };
        cluster.start_api();
        cluster.start_controllers();
        cluster.until_there::<ConfigMap>("default", "kube-root-ca.crt");
        cluster
    }

    /// Where the API server is, which is also the issuer of the tokens of ServiceAccounts.
    #[must_use]
    pub fn url(&self) -> String {
        url_of(self.port)
    }

    /// The port that the API server listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority that vouches for the API server.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.authority.ca()
    }

    /// A client that may do anything.
    #[must_use]
    pub fn admin(&self) -> Client {
        self.admin.clone()
    }

    /// A file for programs that may do anything.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// Waits for an answer of one of the clients.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    pub(super) fn runtime(&self) -> Arc<Runtime> {
        self.runtime.clone()
    }

    /// A path in the directory that goes with the cluster.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A new namespace, in which pods can be made.
    #[must_use]
    pub fn namespace(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let made = json!({"metadata": {"name": name}});
        let made: Namespace = serde_json::from_value(made).expect("this is a namespace");
        let namespaces: Api<Namespace> = Api::all(self.admin());
        self.block_on(namespaces.create(&PostParams::default(), &made)).expect("the name is new");
        self.until_there::<ServiceAccount>(&name, "default");
        self.until_there::<ConfigMap>(&name, "kube-root-ca.crt");
        name
    }

    /// Waits until there is an object.
    fn until_there<K>(&self, namespace: &str, name: &str)
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let objects: Api<K> = Api::namespaced(self.admin(), namespace);
        until(&format!("there is {name} in {namespace}"), START, || {
            self.assert_controllers_run();
            self.block_on(objects.get_opt(name)).ok().flatten()
        });
    }

    /// The addresses of the pods that have these labels (`app=x,tier=y`) and are ready, in order.
    #[must_use]
    pub fn pod_ips(&self, namespace: &str, selector: &str) -> Vec<String> {
        let pods: Api<Pod> = Api::namespaced(self.admin(), namespace);
        let pods = self.block_on(pods.list(&ListParams::default().labels(selector)));
        let ready = |pod: &Pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        let pods = pods.expect("the API server answers").items.into_iter().filter(ready);
        let mut ips: Vec<_> = pods.filter_map(|pod| pod.status?.pod_ip).collect();
        ips.sort();
        ips
    }

    /// Ends the API server at once. Its store goes on. Only for a cluster of one's own.
    pub fn stop_api(&self) {
        *lock(&self.api) = None;
    }

    /// Starts it again, on the same port.
    pub fn start_api(&self) {
        let mut api = lock(&self.api);
        assert!(api.is_none(), "only one that has ended is started again");
        let process = Process::start(self.api_command(), &self.path("kube-apiserver.log"));
        let process = api.insert(process.expect("the API server can be started"));
        until("the API server is ready", START, || {
            let ended = process.ended();
            assert!(ended.is_none(), "the API server ended at once\n{}", process.tail());
            let request = http::Request::get("/readyz").body(Vec::new()).expect("the path is valid");
            self.block_on(self.admin.request_text(request)).ok()
        });
        // Without an API server, the controllers may have given up.
        if lock(&self.controllers).as_mut().is_some_and(|process| process.ended().is_some()) {
            self.start_controllers();
        }
    }

    fn api_command(&self) -> Command {
        let mut command = Command::new(parts::program("kube-apiserver"));
        let argument = |name: &str, value: &Path| format!("--{name}={}", value.display());
        command.arg(format!("--etcd-servers={}", self.etcd_url));
        command.args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"]);
        command.arg(format!("--secure-port={}", self.port));
        command.arg(argument("cert-dir", self.scratch.path()));
        command.arg(argument("client-ca-file", &self.authority.ca()));
        command.arg(argument("tls-cert-file", &self.authority.certificate("server")));
        command.arg(argument("tls-private-key-file", &self.authority.key("server")));
        command.arg(argument("service-account-key-file", &self.authority.token_key()));
        command.arg(argument("service-account-signing-key-file", &self.authority.token_key()));
        command.arg(format!("--service-account-issuer={}", self.url()));
        // It would name an address at which nobody listens.
        command.arg(format!("--service-account-jwks-uri={}/openid/v1/jwks", self.url()));
        command.args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24"]);
        // The API server itself is no endpoint that the API would let be.
        command.args(["--endpoint-reconciler-type=none", "--profiling=false"]);
        command
    }

    fn start_controllers(&self) {
        let mut command = Command::new(parts::program("kube-controller-manager"));
        let kubeconfig = self.path("controllers-kubeconfig");
        command.arg("--kubeconfig").arg(&kubeconfig);
        command.arg("--root-ca-file").arg(self.authority.ca());
        command.arg("--service-account-private-key-file").arg(self.authority.token_key());
        command.args(["--use-service-account-credentials=true", "--leader-elect=false", "--secure-port=0"]);
        command.arg(format!("--controllers={CONTROLLERS}"));
        let process = Process::start(command, &self.path("kube-controller-manager.log"));
        *lock(&self.controllers) = Some(process.expect("the controllers can be started"));
    }

    fn assert_controllers_run(&self) {
        let mut controllers = lock(&self.controllers);
        let process = controllers.as_mut().expect("the controllers were started");
        let ended = process.ended();
        assert!(ended.is_none(), "the controllers ended\n{}", process.tail());
    }
}

impl Drop for Cluster {
    #[expect(clippy::print_stderr, reason = "a test that fails shows what the control plane said")]
    fn drop(&mut self) {
        *lock(&self.controllers) = None;
        *lock(&self.api) = None;
        self.etcd.kill();
        if std::thread::panicking() {
            for name in ["kube-controller-manager.log", "kube-apiserver.log"] {
                eprintln!("--- the end of {name}\n{}---", super::process::tail(&self.path(name)));
            }
        }
    }
}

/// The API server, or a way to it, at a port of this machine.
pub(super) fn url_of(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the store and answers where it is. The API server waits for it.
fn start_etcd(scratch: &Path) -> (Process, String) {
    let [clients, peers] = [free_port(), free_port()].map(|port| format!("http://127.0.0.1:{port}"));
    let mut command = Command::new(parts::program("etcd"));
    command.arg("--data-dir").arg(scratch.join("etcd"));
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    command.args(["--initial-cluster", &format!("default={peers}"), "--logger", "zap"]);
    let process = Process::start(command, &scratch.join("etcd.log")).expect("etcd can be started");
    (process, clients)
}
