//! The Deployment and its pods.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::credentials::{Credentials, credentials};
use super::labels::{label_selector, labels, metadata, some};
use super::{Facts, Options, files, server};
use crate::api::MessageVault;

/// The user and group of the servers: `nonroot` of distroless images.
const USER: i64 = 65532;

/// How many earlier ReplicaSets `kubectl rollout undo` and people can look back on.
const REVISIONS: i32 = 10;

/// How long a pod may take to end: the pause before SIGTERM, the hand-over of the lead within a second, and answers that
/// are on their way.
const TERMINATION_SECONDS: i64 = 60;

/// The servers of a vault.
pub(super) fn deployment(vault: &MessageVault, options: &Options, facts: &Facts) -> Deployment {
    let template = pod(vault, options, facts);
    Deployment {
        metadata: metadata(vault, vault.name_any()),
        spec: Some(DeploymentSpec {
            replicas: Some(vault.spec.replicas),
            revision_history_limit: Some(REVISIONS),
            selector: label_selector(vault),
            // A new server serves before an old one ends, so that also a vault of one server can be updated without a
            // gap: the storage decides which of the two leads.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn pod(vault: &MessageVault, options: &Options, facts: &Facts) -> PodTemplateSpec {
    let scheduling = &vault.spec.scheduling;
    let Credentials { storage, variables, mut files, pod_labels, pod_annotations, .. } =
        credentials(&vault.spec.storage, facts);
    files.extend(files::files(vault, options));
    let container = server::container(
        vault,
        options,
        facts,
        &storage,
        variables,
        files.iter().map(files::Mounted::mount),
    );
    // What the operator says goes before what the spec says: selectors and the way into storage rest on it.
    let labels = merged([&scheduling.labels, &pod_labels, &labels(vault)]);
    let container_of_kubectl =
        BTreeMap::from([("kubectl.kubernetes.io/default-container".to_owned(), server::NAME.to_owned())]);
    let annotations = merged([&container_of_kubectl, &scheduling.annotations, &pod_annotations]);
    let secrets = scheduling.image_pull_secrets.iter();
    let secrets: Vec<_> = secrets.map(|name| LocalObjectReference { name: name.clone() }).collect();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(vault.name_any()),
            // No token but those that are asked for by name, and no variables for each Service of the namespace.
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(TERMINATION_SECONDS),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            containers: vec![container],
            volumes: some(files.into_iter().map(|file| file.volume).collect()),
            image_pull_secrets: some(secrets),
            node_selector: some(scheduling.node_selector.clone()),
            tolerations: some(scheduling.tolerations.clone()),
            affinity: scheduling.affinity.clone(),
            priority_class_name: scheduling.priority_class_name.clone(),
            topology_spread_constraints: Some(spread(vault)),
            ..PodSpec::default()
        }),
    }
}

/// Over zones and hosts where possible. A cluster with one node is fine; a vault that must never share a host says so in
/// its spec. Each ReplicaSet is counted by itself, or the pods of the one before would push those of a new one together.
fn spread(vault: &MessageVault) -> Vec<TopologySpreadConstraint> {
    let given = &vault.spec.scheduling.topology_spread_constraints;
    if !given.is_empty() {
        return given.clone();
    }
    ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        .map(|key| TopologySpreadConstraint {
            max_skew: 1,
            topology_key: key.to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(label_selector(vault)),
            match_label_keys: Some(vec!["pod-template-hash".to_owned()]),
            ..TopologySpreadConstraint::default()
        })
        .into()
}

/// All of the maps; what comes later wins.
fn merged<const N: usize>(maps: [&BTreeMap<String, String>; N]) -> BTreeMap<String, String> {
    maps.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}
