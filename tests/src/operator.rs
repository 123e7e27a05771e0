//! The operator as a process, under its own ServiceAccount's token and never as an administrator.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::azurite::Azurite;
use crate::kinds::{apply_text, install};
use crate::kubernetes::process::{Process, text};
use crate::kubernetes::{Cluster, Kubelet};
use crate::process;
use crate::server::program_named;
use crate::wait::{LONG, until};

/// Pods start within seconds, unless other tests load the machine.
pub const SETTLES: Duration = Duration::from_secs(90);

/// The rights of the operator, as they are installed.
pub(crate) const RIGHTS: &str = include_str!("../../manifests/rbac.yaml");

/// The operator's ServiceAccount and its ClusterRole.
const ACCOUNT: &str = "message-vault-operator";

/// The namespace that they are installed in.
const NAMESPACE: &str = "message-vault-system";

/// The Lease by which one operator works.
pub const LEASE: &str = "message-vault-operator";

/// The kind MessageVault.
pub const VAULT: &str = "MessageVault";
/// The kind VaultStream.
pub const STREAM: &str = "VaultStream";

/// A namespace with an operator that watches it, nodes that are played, and Azurite in the place of Azure.
pub struct Field {
    /// The control plane.
    pub cluster: Arc<Cluster>,
    /// The namespace.
    pub namespace: String,
    /// The storage.
    pub azurite: Arc<Azurite>,
    /// The nodes.
    pub kubelet: Kubelet,
    operator: Option<Process>,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    address: String,
    log: PathBuf,
}

impl Default for Field {
    fn default() -> Self {
        Self::new()
    }
}

impl Field {
    /// A fresh namespace of the cluster that tests share.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Cluster::shared(), Azurite::shared())
    }

    /// A fresh namespace of a cluster.
    #[must_use]
    pub fn with(cluster: Arc<Cluster>, azurite: Arc<Azurite>) -> Self {
        install(&cluster);
        let namespace = cluster.namespace();
        let own = ["kind: ServiceAccount\n", "kind: Role\n", "kind: RoleBinding\n"];
        let rights = RIGHTS.replace(NAMESPACE, &namespace);
        let rights =
            rights.split("\n---\n").filter(|document| own.iter().any(|kind| document.contains(kind)));
        apply_text(&cluster, &rights.collect::<Vec<_>>().join("\n---\n"));
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": format!("{ACCOUNT}-{namespace}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
        });
        apply_text(&cluster, &binding.to_string());
        // One that was just made is waited for: it may have been somebody's.
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": LEASE, "namespace": namespace},
        });
        apply_text(&cluster, &lease.to_string());
        let kubelet = Kubelet::in_namespaces(&cluster, &[&namespace]);
        let log = cluster.path(&format!("operator-{namespace}.log"));
        let mut field = Self {
            cluster,
            namespace,
            azurite,
            kubelet,
            operator: None,
            flags: Vec::new(),
            variables: Vec::new(),
            address: String::new(),
            log,
        };
        field.flags = vec!["--watch-namespace".to_owned(), field.namespace.clone()];
        field
    }

    /// With a further flag of the operator.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// With a variable in the operator's environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With an operator that watches all namespaces.
    #[must_use]
    pub fn everywhere(mut self) -> Self {
        self.flags.retain(|flag| flag != "--watch-namespace" && *flag != self.namespace);
        self
    }

    /// Starts the operator and waits until it is ready.
    #[must_use]
    pub fn start(mut self) -> Self {
        self.start_operator();
        self
    }

    /// The command of an operator of this field.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(program_named("vault-operator"));
        command.args(["--listen", "127.0.0.1:0", "--log-format", "human"]);
        command.args(["--namespace", &self.namespace]).args(&self.flags);
        if !self.flags.iter().any(|flag| flag.starts_with("--log=")) {
            command.arg("--log=info,vault_operator=debug");
        }
        command.env("KUBECONFIG", self.cluster.kubeconfig_for(&self.namespace, ACCOUNT));
        command.envs(self.variables.iter().cloned());
        command
    }

    /// What the operator is given that reaches the API server by another port of this machine.
    #[must_use]
    pub fn kubeconfig_by(&self, port: u16) -> PathBuf {
        self.cluster.kubeconfig_by(port, &self.namespace, ACCOUNT)
    }

    /// Starts the operator, which does not run, and waits until it is ready.
    pub fn start_operator(&mut self) {
        self.launch_operator(self.command());
        let end = Instant::now() + LONG;
        loop {
            let answer = self.ask("/readyz");
            if answer.as_ref().is_ok_and(|(status, _)| *status == 200) {
                return;
            }
            assert!(Instant::now() < end, "the operator is not ready: {answer:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts an operator by its command, while none runs, and waits until it listens.
    pub fn launch_operator(&mut self, command: Command) {
        let before = text(&self.log).len();
        self.operator = Some(Process::start(command, &self.log).expect("the operator can be started"));
        self.address = until("the operator listens", LONG, || {
            let said = text(&self.log)[before..].to_owned();
            assert!(self.operator.as_mut().and_then(Process::ended).is_none(), "it ended\n{said}");
            let behind = said.split_once("health and metrics")?.1;
            let address = behind.split_once("address=")?.1;
            Some(address.split_whitespace().next()?.trim_matches('"').to_owned())
        });
    }

    /// What the operator answers: status and body.
    pub fn ask(&self, path: &str) -> Result<(u16, String), ureq::Error> {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.get(format!("http://{}{path}", self.address)).call()?;
        Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
    }

    /// Ends the operator at once, as a crash would. The next one need not wait until its Lease has run out: it is known
    /// to work no more.
    pub fn kill_operator(&mut self) {
        if let Some(mut operator) = self.operator.take() {
            operator.kill();
            self.patch("Lease", LEASE, &json!({"spec": {"holderIdentity": null}}));
        }
    }

    /// Ends the operator in order; answers its exit code.
    pub fn stop_operator(&mut self) -> Option<i32> {
        let mut operator = self.operator.take()?;
        operator.signal(Signal::TERM);
        until("the operator ends", LONG, || operator.ended()).code()
    }

    /// What the operator wrote.
    #[must_use]
    pub fn log(&self) -> String {
        text(&self.log)
    }

    /// The operator's process.
    #[must_use]
    pub fn operator(&mut self) -> &mut Process {
        self.operator.as_mut().expect("the operator runs")
    }

    /// Memory that the operator holds, in bytes.
    #[must_use]
    pub fn resident_bytes(&mut self) -> u64 {
        let pid = self.operator().pid();
        process::resident(pid).expect("the process runs").0
    }

    /// The interface to a kind, in a namespace.
    #[must_use]
    pub fn api(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let (group, version) = match kind {
            VAULT | STREAM => ("messagevault.io", "v1alpha1"),
            "Deployment" | "ReplicaSet" => ("apps", "v1"),
            "PodDisruptionBudget" => ("policy", "v1"),
            "NetworkPolicy" => ("networking.k8s.io", "v1"),
            "Lease" => ("coordination.k8s.io", "v1"),
            "ServiceMonitor" | "PrometheusRule" => ("monitoring.coreos.com", "v1"),
            _ => ("", "v1"),
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.cluster.admin(), namespace, &resource)
    }

    /// An object of this namespace as JSON. `None` where there is none.
    #[must_use]
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.get_in(&self.namespace, kind, name)
    }

    /// An object of a namespace as JSON.
    #[must_use]
    pub fn get_in(&self, namespace: &str, kind: &str, name: &str) -> Option<Value> {
        match self.cluster.block_on(self.api(kind, namespace).get(name)) {
            Ok(found) => Some(serde_json::to_value(found).expect("objects are JSON")),
            // A kind that was made a moment ago is answered like this too, in plain text.
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("{kind} {name} cannot be read: {error}"),
        }
    }

    /// Applies a resource as a user would.
    pub fn apply(&self, kind: &str, name: &str, spec: &Value) {
        self.apply_in(&self.namespace, kind, name, spec);
    }

    /// Applies a resource in a namespace.
    pub fn apply_in(&self, namespace: &str, kind: &str, name: &str, spec: &Value) {
        self.try_apply(namespace, kind, name, spec).unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
    }

    /// Applies a resource, or says why the API server does not take it.
    pub fn try_apply(&self, namespace: &str, kind: &str, name: &str, spec: &Value) -> Result<(), String> {
        let object = json!({
            "apiVersion": "messagevault.io/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        });
        let parameters = PatchParams::apply("somebody").force();
        let api = self.api(kind, namespace);
        let applied = self.cluster.block_on(api.patch(name, &parameters, &Patch::Apply(&object)));
        applied.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Changes an object by a merge patch.
    pub fn patch(&self, kind: &str, name: &str, patch: &Value) {
        let api = self.api(kind, &self.namespace);
        let patched = self.cluster.block_on(api.patch(name, &PatchParams::default(), &Patch::Merge(patch)));
        patched.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
    }

    /// Sets an annotation, or takes it off.
    pub fn annotate(&self, kind: &str, name: &str, annotation: &str, value: Option<&str>) {
        self.patch(kind, name, &json!({"metadata": {"annotations": {annotation: value}}}));
    }

    /// Deletes an object; it may go later.
    pub fn delete(&self, kind: &str, name: &str) {
        let api = self.api(kind, &self.namespace);
        let deleted = self.cluster.block_on(api.delete(name, &DeleteParams::default()));
        deleted.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
    }

    /// The spec of a vault on the field's Azurite, which everybody may use.
    #[must_use]
    pub fn vault(&self, prefix: &str) -> Value {
        json!({
            "storage": {"endpoint": self.azurite.endpoint(), "emulator": {}, "prefix": prefix},
            "access": {"anonymous": true},
        })
    }

    /// A prefix that no other test has.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{}-", self.namespace)
    }

    /// Waits until a resource's condition has a status, for what it is now; answers the condition.
    pub fn until_condition(&self, kind: &str, name: &str, condition: &str, status: &str) -> Value {
        self.until_condition_in(&self.namespace, kind, name, condition, status)
    }

    /// The same in another namespace.
    pub fn until_condition_in(
        &self,
        namespace: &str,
        kind: &str,
        name: &str,
        condition: &str,
        status: &str,
    ) -> Value {
        let end = Instant::now() + SETTLES;
        loop {
            let object = self.get_in(namespace, kind, name).unwrap_or_default();
            let found = self::condition(&object, condition);
            let current = found["observedGeneration"] == object["metadata"]["generation"];
            if current && found["status"] == status {
                return found;
            }
            assert!(
                Instant::now() < end,
                "{kind} {name} is not {condition}={status}:\n{:#}\nthe operator's log:\n{}",
                object["status"],
                tail(&self.log())
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a resource is as it says.
    pub fn until_ready(&self, kind: &str, name: &str) -> Value {
        self.until_condition(kind, name, "Ready", "True");
        self.get(kind, name).expect("it is ready")
    }

    /// Waits until a resource is stalled; answers reason and message.
    pub fn until_stalled(&self, kind: &str, name: &str) -> (String, String) {
        let found = self.until_condition(kind, name, "Stalled", "True");
        let field = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        (field("reason"), field("message"))
    }

    /// Waits until an object is gone.
    pub fn until_gone(&self, kind: &str, name: &str) {
        until(&format!("{kind} {name} is gone"), SETTLES, || self.get(kind, name).is_none().then_some(()));
    }
}

impl Drop for Field {
    #[expect(clippy::print_stderr, reason = "a test that fails shows what the operator said")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of what the operator wrote\n{}\n---", tail(&self.log()));
        }
    }
}

/// A condition of an object; null where it has none of that type.
#[must_use]
pub fn condition(object: &Value, kind: &str) -> Value {
    let all = object["status"]["conditions"].as_array();
    all.and_then(|all| all.iter().find(|condition| condition["type"] == kind)).cloned().unwrap_or_default()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
