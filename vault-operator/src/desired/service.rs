//! ServiceAccount and Services.

use k8s_openapi::api::core::v1::{Service, ServiceAccount, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::credentials::credentials;
use super::labels::{internal_service, metadata, selector, some};
use super::server::{HTTP, INTERNAL};
use super::{Facts, INTERNAL_PORT, PORT};
use crate::api::MessageVault;
use crate::api::placement::ServiceType;

/// Whom the servers are. It has the vault's name, so that a federated identity can be made before the vault is.
pub(super) fn account(vault: &MessageVault, facts: &Facts) -> ServiceAccount {
    let mut metadata = metadata(vault, vault.name_any());
    metadata.annotations = some(credentials(&vault.spec.storage, facts).account_annotations);
    ServiceAccount { metadata, automount_service_account_token: Some(false), ..ServiceAccount::default() }
}

/// The Service that applications call.
pub(super) fn public(vault: &MessageVault) -> Service {
    let options = &vault.spec.service;
    let mut metadata = metadata(vault, vault.name_any());
    metadata.annotations = some(options.annotations.clone());
    let kind = match options.service_type {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let scheme = if vault.spec.tls.is_some() { "https" } else { "http" };
    let spec = ServiceSpec {
        type_: Some(kind.to_owned()),
        selector: Some(selector(&vault.name_any())),
        ports: Some(vec![port(HTTP, PORT, scheme)]),
        ..ServiceSpec::default()
    };
    Service { metadata, spec: Some(spec), ..Service::default() }
}

/// Where applications call a vault.
#[must_use]
pub fn endpoint(vault: &MessageVault) -> String {
    let scheme = if vault.spec.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}.{}.svc:{PORT}", vault.name_any(), vault.namespace().unwrap_or_default())
}

/// The Service by which Prometheus and the operator find each server, also one that is not ready.
pub(super) fn internal(vault: &MessageVault) -> Service {
    let name = vault.name_any();
    let spec = ServiceSpec {
        type_: Some("ClusterIP".to_owned()),
        cluster_ip: Some("None".to_owned()),
        publish_not_ready_addresses: Some(true),
        selector: Some(selector(&name)),
        ports: Some(vec![port(INTERNAL, INTERNAL_PORT, "http")]),
        ..ServiceSpec::default()
    };
    Service { metadata: metadata(vault, internal_service(&name)), spec: Some(spec), ..Service::default() }
}

fn port(name: &str, number: u16, scheme: &str) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        app_protocol: Some(scheme.to_owned()),
        ..ServicePort::default()
    }
}
