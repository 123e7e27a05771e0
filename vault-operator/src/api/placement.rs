//! Where pods run, and what stands in front of them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where pods run.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Scheduling {
    /// Labels that nodes must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that pods bear.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Rules of attraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How pods are spread, in the place of the default: over zones and hosts where possible.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// The pods' priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Secrets with which the image is pulled, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
    /// Annotations of the pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Labels of the pods, besides the operator's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// How a Service is reached.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// From within the cluster.
    #[default]
    ClusterIP,
    /// On a port of every node.
    NodePort,
    /// Through a load balancer of the cloud. Annotations make it internal.
    LoadBalancer,
}

/// The Service that applications call: `http://<name>.<namespace>.svc:8480`, with TLS `https://`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceOptions {
    /// How it is reached.
    #[serde(rename = "type")]
    pub service_type: ServiceType,
    /// Its annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What watches over the vault. Each needs the Prometheus operator's CRDs; without them nothing is made.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Monitoring {
    /// Make a ServiceMonitor, by which Prometheus finds the servers.
    pub service_monitor: bool,
    /// Make a PrometheusRule with alerts.
    pub rules: bool,
    /// Labels of both, by which Prometheus selects them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Who may open connections to the pods. It needs a network plugin that enforces policies.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyOptions {
    /// Make a NetworkPolicy: port 8480 for `from` and the vault's own pods; where `from` is empty for all pods of the
    /// cluster, and for everybody where the Service is a NodePort or LoadBalancer; port 8481 (metrics and health) for
    /// all pods of the cluster.
    pub enabled: bool,
    /// Who may call port 8480.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<NetworkPolicyPeer>,
}

impl Default for NetworkPolicyOptions {
    fn default() -> Self {
        Self { enabled: true, from: Vec::new() }
    }
}

/// Certificates for TLS.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// A Secret of type `kubernetes.io/tls` in the vault's namespace, made out to `<name>.<namespace>.svc`.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// The key in the Secret with the certificate of the authority that made it out, such as `ca.crt`, where cert-manager
    /// puts it. The servers trust each other by it; left out, by the public authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub ca_key: Option<String>,
}

/// Whose VaultStreams may be streams of the vault.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// Those of the vault's own namespace.
    #[default]
    Same,
    /// Those of all namespaces.
    All,
    /// Those of namespaces with the labels of `selector`.
    Selector,
}

/// Which namespaces may have streams in the vault.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = Rule::new("(self.from == 'Selector') == has(self.selector)")
        .message("selector goes with from: Selector, and only with it")
)]
pub struct AllowedNamespaces {
    /// Same, All or Selector.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// The labels of namespaces that may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}
