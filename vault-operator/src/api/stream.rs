//! `VaultStream`: one stream, owned by whoever applies it.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::settings::{DeletionPolicy, StreamSettings};
use super::status::VaultStreamStatus;

/// What a stream is to be like, and in which vault it is.
#[derive(CustomResource, Clone, PartialEq, Debug, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "messagevault.io",
    version = "v1alpha1",
    kind = "VaultStream",
    plural = "vaultstreams",
    shortname = "mvs",
    category = "message-vault",
    namespaced,
    status = "VaultStreamStatus",
    derive = "PartialEq",
    cel,
    doc = "A stream of a MessageVault that belongs to the application which applies this. The first owner of a stream's name wins.",
    selectable = ".spec.vaultRef.name",
    printcolumn(name = "Vault", type_ = "string", json_path = ".spec.vaultRef.name"),
    printcolumn(name = "Stream", type_ = "string", json_path = ".status.streamName"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.deletionPolicy", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    ),
    validation = Rule::new("has(self.spec.streamName) || (self.metadata.name.size() <= 60 && self.metadata.name.matches('^[a-z0-9]+(-[a-z0-9]+)*$') && self.metadata.name != 'sys')")
        .message("this resource's name is no stream's name: give spec.streamName, of at most 60 lower-case letters, digits and single hyphens, and not sys")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.streamName) == has(oldSelf.streamName) && (!has(self.streamName) || self.streamName == oldSelf.streamName)")
        .message("streamName cannot be changed: the messages stay where they are; make another VaultStream"),
    validation = Rule::new("!has(self.streamName) || self.streamName != 'sys'")
        .message("the name sys is reserved for the vault itself"),
    validation = Rule::new("(has(self.settings) && has(self.settings.account)) == (has(oldSelf.settings) && has(oldSelf.settings.account)) && (!has(self.settings) || !has(self.settings.account) || self.settings.account == oldSelf.settings.account)")
        .message("settings.account cannot be changed: the messages stay where they are; make another VaultStream and copy the stream with mvctl")
)]
pub struct VaultStreamSpec {
    /// The vault that the stream is in.
    #[x_kube(validation = Rule::new("self == oldSelf").message("vaultRef cannot be changed: the messages stay where they are; make another VaultStream"))]
    pub vault_ref: VaultRef,
    /// The stream's name in the vault; the resource's own when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 60), regex(pattern = "^[a-z0-9]+(-[a-z0-9]+)*$"))]
    pub stream_name: Option<String>,
    /// What the stream is like.
    #[serde(default)]
    pub settings: StreamSettings,
    /// What becomes of the stream when this resource is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// Names a MessageVault.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultRef {
    /// Its name.
    #[schemars(length(min = 1, max = 50), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Its namespace; that of the VaultStream when left out. The vault's `allowedNamespaces` must allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
}
