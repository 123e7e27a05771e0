//! PodDisruptionBudget and NetworkPolicy.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::labels::{label_selector, metadata};
use super::{INTERNAL_PORT, PORT};
use crate::api::MessageVault;
use crate::api::placement::ServiceType;

/// Nodes are drained of one server at a time. A vault of one server has no budget: the only one that would mean anything
/// forbids every drain for ever, and who has one server accepts that its node can go. Servers that are not ready never
/// hold up a drain, which may be what mends them.
pub(super) fn disruption_budget(vault: &MessageVault) -> Option<PodDisruptionBudget> {
    (vault.spec.replicas > 1).then(|| PodDisruptionBudget {
        metadata: metadata(vault, vault.name_any()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(label_selector(vault)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}

/// Who may open connections to the servers.
pub(super) fn network_policy(vault: &MessageVault) -> NetworkPolicy {
    let rules = vec![
        NetworkPolicyIngressRule { from: callers(vault), ports: Some(vec![port(PORT)]) },
        // Prometheus and the operator, wherever they are. Probes come from the node, which no policy keeps out.
        NetworkPolicyIngressRule { from: Some(vec![every_pod()]), ports: Some(vec![port(INTERNAL_PORT)]) },
    ];
    NetworkPolicy {
        metadata: metadata(vault, vault.name_any()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(label_selector(vault)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(rules),
            ..NetworkPolicySpec::default()
        }),
    }
}

/// Who may call the port of applications: whom the spec names and the vault's own servers, which hand writes on to the
/// leader. Where it names nobody, every pod of the cluster; and everybody, where the Service is open to the outside,
/// whose connections may come from anywhere. None means that nobody is kept out.
fn callers(vault: &MessageVault) -> Option<Vec<NetworkPolicyPeer>> {
    let named = &vault.spec.network_policy.from;
    if !named.is_empty() {
        let own =
            NetworkPolicyPeer { pod_selector: Some(label_selector(vault)), ..NetworkPolicyPeer::default() };
        return Some(named.iter().cloned().chain([own]).collect());
    }
    match vault.spec.service.service_type {
        ServiceType::ClusterIP => Some(vec![every_pod()]),
        ServiceType::NodePort | ServiceType::LoadBalancer => None,
    }
}

/// Every pod of every namespace.
fn every_pod() -> NetworkPolicyPeer {
    NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() }
}

fn port(number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(number))),
        protocol: Some("TCP".to_owned()),
        ..NetworkPolicyPort::default()
    }
}
