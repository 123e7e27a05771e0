//! What the cluster should hold for a MessageVault: a pure function from the resource to objects. All I/O is around it.
//!
//! | module | subject |
//! |---|---|
//! | `labels` | names, labels, owners |
//! | `check` | what is wrong with a vault that the CRD's rules cannot see |
//! | `access_file` | who may use the vault, as the servers read it |
//! | `deployment` | the Deployment and its pods |
//! | `server` | the one container: flags, variables, probes |
//! | `credentials` | the way into the storage account |
//! | `files` | volumes, and where the server finds its files |
//! | `service` | ServiceAccount and Services |
//! | `policies` | PodDisruptionBudget and NetworkPolicy |
//! | `monitoring`, `alerts` | ServiceMonitor and PrometheusRule |
//!
//! # What a change of the spec changes
//!
#![doc = include_str!("changes.md")]

mod access_file;
mod alerts;
mod check;
mod credentials;
mod deployment;
mod files;
mod labels;
mod monitoring;
mod policies;
mod server;
mod service;
#[cfg(test)]
mod tests;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource;
use kube::core::{ApiResource, DynamicObject};
use serde::Serialize;

use crate::api::MessageVault;

pub use alerts::RUNBOOKS;
pub use check::{Unworkable, check};
pub use credentials::{TOKEN_AUDIENCE, emulator};
pub use labels::{access_config_map, internal_service, labels_of_installation, selector};
pub use service::endpoint;

/// The port that applications and other servers call.
pub const PORT: u16 = 8480;

/// The port of metrics, health and status, without TLS and without access control.
pub const INTERNAL_PORT: u16 = 8481;

/// What tokens of ServiceAccounts that call a vault must be made out for.
pub const AUDIENCE: &str = "messagevault";

/// What is the same for all vaults of an operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The image of the servers where a vault names none.
    pub server_image: String,
    /// Who signs the tokens of this cluster's ServiceAccounts, where that is known.
    pub cluster_issuer: Option<ClusterIssuer>,
    /// Whether the cluster has the CRDs of the Prometheus operator.
    pub monitoring: bool,
}

/// Who signs the tokens of a cluster's ServiceAccounts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterIssuer {
    /// What the tokens have as `iss`.
    pub url: String,
    /// Whether its keys are at the API server, which shows them to ServiceAccounts alone and is vouched for by the
    /// cluster's own authority. Else they are public, as on AKS with the OIDC issuer.
    pub in_cluster: bool,
}

/// What is known of one vault beside its spec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The vault in storage that the servers are for; without it there are no servers yet.
    pub vault_uid: Option<String>,
    /// The Entra tenant of a workload identity that names none: the operator's own. Without it the webhook of
    /// azure-workload-identity has to say it to the pods.
    pub tenant_id: Option<String>,
    /// A hash of the connection string: when it changes, so must the pods, which read it once.
    pub credential_hash: Option<String>,
}

/// Everything that the vault needs in the cluster, in the order in which it is best applied. What is not there any more
/// goes by its label, see [`kinds`].
#[must_use]
pub fn desired(vault: &MessageVault, options: &Options, facts: &Facts) -> Vec<DynamicObject> {
    let mut objects = vec![object(&service::account(vault, facts))];
    if !vault.spec.access.anonymous {
        objects.push(object(&access_file::config_map(vault, options)));
    }
    objects.push(object(&service::public(vault)));
    objects.push(object(&service::internal(vault)));
    if let Some(budget) = policies::disruption_budget(vault) {
        objects.push(object(&budget));
    }
    if vault.spec.network_policy.enabled {
        objects.push(object(&policies::network_policy(vault)));
    }
    if facts.vault_uid.is_some() {
        objects.push(object(&deployment::deployment(vault, options, facts)));
    }
    if options.monitoring {
        let monitoring = &vault.spec.monitoring;
        if monitoring.service_monitor {
            objects.push(monitoring::service_monitor(vault));
        }
        if monitoring.rules {
            objects.push(monitoring::prometheus_rule(vault));
        }
    }
    objects
}

/// Every kind that [`desired`] may make; with `monitoring` also those of the Prometheus operator. What carries the label
/// [`VAULT_LABEL`](crate::api::names::VAULT_LABEL), belongs to the vault and is not desired any more can be deleted.
#[must_use]
pub fn kinds(monitoring: bool) -> Vec<ApiResource> {
    let mut kinds = vec![
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<PodDisruptionBudget>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<Deployment>(&()),
    ];
    if monitoring {
        kinds.extend([monitoring::service_monitors(), monitoring::prometheus_rules()]);
    }
    kinds
}

/// An object of a known kind as one of any kind.
fn object<K: Resource + Serialize>(known: &K) -> DynamicObject {
    serde_json::to_value(known)
        .and_then(serde_json::from_value)
        .expect("an object of Kubernetes is JSON with apiVersion, kind and metadata")
}
