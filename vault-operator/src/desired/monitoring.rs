//! ServiceMonitor and PrometheusRule, kinds of the Prometheus operator.

use kube::ResourceExt;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, ObjectMeta};
use serde_json::{Value, json};

use super::alerts::alerts;
use super::labels::{metadata, selector};
use super::server::INTERNAL;
use crate::api::MessageVault;

/// How Prometheus finds the servers.
pub(super) fn service_monitors() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("monitoring.coreos.com", "v1", "ServiceMonitor"),
        "servicemonitors",
    )
}

/// Alerts.
pub(super) fn prometheus_rules() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("monitoring.coreos.com", "v1", "PrometheusRule"),
        "prometheusrules",
    )
}

/// Has every server scraped, under a label `vault` with the vault's name.
pub(super) fn service_monitor(vault: &MessageVault) -> DynamicObject {
    let name = vault.name_any();
    let spec = json!({
        "selector": { "matchLabels": selector(&name) },
        "endpoints": [{
            "port": INTERNAL,
            "path": "/metrics",
            "interval": "30s",
            "relabelings": [{ "targetLabel": "vault", "replacement": name }],
        }],
    });
    object(&service_monitors(), labelled(vault), &spec)
}

/// The vault's alerts.
pub(super) fn prometheus_rule(vault: &MessageVault) -> DynamicObject {
    let group = format!("message-vault-{}", vault.name_any());
    let spec = json!({ "groups": [{ "name": group, "rules": alerts(vault) }] });
    object(&prometheus_rules(), labelled(vault), &spec)
}

/// Metadata with the labels by which Prometheus selects. The operator's own go before them.
fn labelled(vault: &MessageVault) -> ObjectMeta {
    let mut metadata = metadata(vault, vault.name_any());
    let mut labels = vault.spec.monitoring.labels.clone();
    labels.extend(metadata.labels.take().into_iter().flatten());
    metadata.labels = Some(labels);
    metadata
}

fn object(kind: &ApiResource, metadata: ObjectMeta, spec: &Value) -> DynamicObject {
    let mut object = DynamicObject::new("", kind).data(json!({ "spec": spec }));
    object.metadata = metadata;
    object
}
