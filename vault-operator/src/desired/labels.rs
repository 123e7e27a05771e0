//! Names, labels and owners: the same for everything that belongs to a vault.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::{Resource, ResourceExt};

use crate::api::MessageVault;
use crate::api::names::VAULT_LABEL;

/// The name of the ConfigMap with the access file.
#[must_use]
pub fn access_config_map(vault: &str) -> String {
    format!("{vault}-access")
}

/// The name of the Service by which the servers' metrics and status are found.
#[must_use]
pub fn internal_service(vault: &str) -> String {
    format!("{vault}-internal")
}

/// By what labels a vault's pods are known. A Deployment keeps its selector for ever, so that this must never change.
#[must_use]
pub fn selector(vault: &str) -> BTreeMap<String, String> {
    let labels = [
        ("app.kubernetes.io/name", "message-vault"),
        ("app.kubernetes.io/instance", vault),
        ("app.kubernetes.io/component", "server"),
    ];
    owned(labels)
}

/// The labels of what is installed once for all vaults.
#[must_use]
pub fn labels_of_installation() -> BTreeMap<String, String> {
    owned([("app.kubernetes.io/name", "message-vault"), ("app.kubernetes.io/component", "operator")])
}

/// The labels of everything that belongs to a vault.
pub(super) fn labels(vault: &MessageVault) -> BTreeMap<String, String> {
    let name = vault.name_any();
    let mut labels = selector(&name);
    labels.extend(owned([("app.kubernetes.io/managed-by", "message-vault-operator"), (VAULT_LABEL, &name)]));
    labels
}

/// [`selector`], as objects have it.
pub(super) fn label_selector(vault: &MessageVault) -> LabelSelector {
    LabelSelector { match_labels: Some(selector(&vault.name_any())), ..LabelSelector::default() }
}

/// The metadata of an object that goes with its vault.
pub(super) fn metadata(vault: &MessageVault, name: String) -> ObjectMeta {
    let owner = vault.controller_owner_ref(&()).map(|mut owner| {
        // Whoever waits for the vault to be gone (foreground deletion) waits for this as well.
        owner.block_owner_deletion = Some(true);
        owner
    });
    ObjectMeta {
        name: Some(name),
        namespace: vault.namespace(),
        labels: Some(labels(vault)),
        owner_references: Some(owner.into_iter().collect()),
        ..ObjectMeta::default()
    }
}

/// A map of texts.
pub(super) fn owned<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// A map or list that is left out when there is nothing in it.
pub(super) fn some<T: Default + PartialEq>(things: T) -> Option<T> {
    (things != T::default()).then_some(things)
}
