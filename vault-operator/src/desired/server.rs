//! The one container of a pod: flags, variables, probes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, Lifecycle, LifecycleHandler,
    ObjectFieldSelector, Probe, ResourceRequirements, SecurityContext, SleepAction, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::{Facts, INTERNAL_PORT, Options, PORT, files};
use crate::api::MessageVault;

/// The container's name.
pub(super) const NAME: &str = "server";

/// The names of its ports.
pub(super) const HTTP: &str = "http";
pub(super) const INTERNAL: &str = "internal";

/// How long a pod that is to end goes on as before: until then Services have stopped sending it new connections. Only
/// after it does SIGTERM have the server hand the lead over.
const PAUSE_BEFORE_END_SECONDS: i64 = 3;

/// The server.
pub(super) fn container(
    vault: &MessageVault,
    options: &Options,
    facts: &Facts,
    storage: &str,
    variables: Vec<EnvVar>,
    mounts: impl Iterator<Item = VolumeMount>,
) -> Container {
    let spec = &vault.spec;
    let mounts: Vec<_> = mounts.collect();
    let pause = SleepAction { seconds: PAUSE_BEFORE_END_SECONDS };
    Container {
        name: NAME.to_owned(),
        image: Some(spec.image.as_ref().unwrap_or(&options.server_image).clone()),
        args: Some(arguments(vault, facts, storage)),
        env: Some(own_variables().chain(variables).collect()),
        ports: Some(vec![port(HTTP, PORT), port(INTERNAL, INTERNAL_PORT)]),
        volume_mounts: (!mounts.is_empty()).then_some(mounts),
        resources: Some(spec.resources.clone().unwrap_or_else(default_resources)),
        // The server listens within seconds, and within a minute and a half where storage is away.
        startup_probe: Some(probe("/livez", 1, 120)),
        // It serves reads. Which server leads does not matter, nor does anything in it need a restart to go away.
        readiness_probe: Some(probe("/readyz", 5, 3)),
        // It runs. Nothing that a restart could not mend makes this fail; it is slow to judge all the same, because a
        // restart of the leader costs seconds of appends.
        liveness_probe: Some(probe("/livez", 10, 6)),
        // Why a server ended stands in the pod's status: its last line.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler { sleep: Some(pause), ..LifecycleHandler::default() }),
            ..Lifecycle::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

/// The flags, each of which a person can read in `kubectl describe`.
fn arguments(vault: &MessageVault, facts: &Facts, storage: &str) -> Vec<String> {
    let spec = &vault.spec;
    let scheme = if spec.tls.is_some() { "https" } else { "http" };
    let mut flags = vec![format!("--storage={storage}"), format!("--prefix={}", spec.storage.prefix)];
    flags.extend(spec.storage.accounts.iter().map(|account| format!("--account={account}")));
    flags.extend(facts.vault_uid.iter().map(|uid| format!("--vault-uid={uid}")));
    flags.extend([
        // On Linux `[::]` takes IPv4 as well, so that this serves clusters of either family and of both. Only where
        // the kernel has no IPv6 at all is it refused.
        format!("--listen=[::]:{PORT}"),
        format!("--internal-listen=[::]:{INTERNAL_PORT}"),
        // The pod's first address. An IPv6 address would need brackets, which nothing in a pod's description can put
        // around it: where that is the cluster's first family, the server would have to do it.
        format!("--advertise={scheme}://$(POD_IP):{PORT}"),
    ]);
    if spec.access.anonymous {
        flags.push("--allow-anonymous".to_owned());
    } else {
        flags.push(format!("--access={}/{}", files::ACCESS, files::ACCESS_FILE));
        if spec.access.users_secret_ref.is_some() {
            flags.push(format!("--access={}/{}", files::USERS, files::ACCESS_FILE));
        }
    }
    if let Some(tls) = &spec.tls {
        let name = format!("{}.{}.svc", vault.name_any(), vault.namespace().unwrap_or_default());
        flags.extend([
            format!("--tls-cert={}/tls.crt", files::TLS),
            format!("--tls-key={}/tls.key", files::TLS),
            // Servers call each other by address, and their certificates are made out to the Service.
            format!("--tls-name={name}"),
        ]);
        flags.extend(tls.ca_key.iter().map(|key| format!("--tls-ca={}/{key}", files::TLS)));
    }
    let limits = &spec.limits;
    flags.extend(limits.max_connections.map(|most| format!("--max-connections={most}")));
    flags.extend(limits.max_message_bytes.map(|most| format!("--max-message-bytes={most}")));
    flags.extend(limits.append_timeout_seconds.map(|seconds| format!("--append-timeout={seconds}s")));
    flags.extend(spec.log.iter().map(|filter| format!("--log={filter}")));
    flags.push("--log-format=json".to_owned());
    flags
}

/// What the pod knows of itself.
fn own_variables() -> impl Iterator<Item = EnvVar> {
    let fields =
        [("POD_IP", "status.podIP"), ("POD_NAME", "metadata.name"), ("POD_NAMESPACE", "metadata.namespace")];
    fields.into_iter().map(|(name, path)| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    })
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, every_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(INTERNAL.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(every_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Half a gigabyte holds a server and its queues and caches, which are bounded at some 350 MiB together. The limit is
/// for connections, at most 16,384 with some tens of KiB each, and for passwords that are verified, up to 256 MiB for a
/// moment: a server that grows beyond has a fault, and its end hands the lead to another one, which is better than a
/// node without memory. Cores have no limit: it would slow the leader down while the node is idle.
fn default_resources() -> ResourceRequirements {
    let amounts = |pairs: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
        pairs.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect()
    };
    ResourceRequirements {
        requests: Some(amounts(&[("cpu", "250m"), ("memory", "512Mi")])),
        limits: Some(amounts(&[("memory", "2Gi")])),
        ..ResourceRequirements::default()
    }
}
