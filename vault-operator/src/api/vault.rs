//! `MessageVault`: servers, where they keep messages, who may use them.

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::access::Access;
use super::placement::{
    AllowedNamespaces, Monitoring, NetworkPolicyOptions, Scheduling, ServiceOptions, Tls,
};
use super::settings::{DeletionPolicy, StreamSettings};
use super::status::MessageVaultStatus;
use super::storage::Storage;

/// What a vault is to be like.
#[derive(CustomResource, Clone, PartialEq, Debug, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "messagevault.io",
    version = "v1alpha1",
    kind = "MessageVault",
    plural = "messagevaults",
    shortname = "mv",
    category = "message-vault",
    namespaced,
    status = "MessageVaultStatus",
    derive = "PartialEq",
    cel,
    doc = "A vault: servers for streams of messages that are kept in a storage account, an append-only log each. Applications call http://<name>.<namespace>.svc:8480.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader"),
    printcolumn(name = "Streams", type_ = "integer", json_path = ".status.streamCount"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name must have at most 50 lower-case letters, digits and hyphens and begin with a letter: it is the name of a Service")
)]
#[serde(rename_all = "camelCase")]
pub struct MessageVaultSpec {
    /// How many servers: one leads, the others read, hand writes on, and take over.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 20))]
    pub replicas: i32,
    /// The image of the servers, by tag or digest; the operator's own choice when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub image: Option<String>,
    /// Where messages are kept, and the way in.
    pub storage: Storage,
    /// Streams that belong to the vault itself. Taking one out of the list deletes nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub streams: Vec<VaultOwnedStream>,
    /// Who may use the vault.
    pub access: Access,
    /// Whose VaultStreams may be streams of the vault.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,
    /// What the servers may take of a node. A server needs some 300 MiB, and more with many readers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Where pods run.
    #[serde(default)]
    pub scheduling: Scheduling,
    /// The Service that applications call.
    #[serde(default)]
    pub service: ServiceOptions,
    /// What watches over the vault.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// Who may open connections to the pods.
    #[serde(default)]
    pub network_policy: NetworkPolicyOptions,
    /// Certificates for TLS. Without them connections are not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Limits of the servers.
    #[serde(default)]
    pub limits: ServerLimits,
    /// What the servers log: a level (error, warn, info, debug), or `target=level` for parts, with commas between.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub log: Option<String>,
}

/// A stream that belongs to the vault itself.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = Rule::new("self.name != 'sys'").message("the name sys is reserved for the vault itself")
)]
pub struct VaultOwnedStream {
    /// The stream's name.
    #[schemars(length(min = 1, max = 60), regex(pattern = "^[a-z0-9]+(-[a-z0-9]+)*$"))]
    pub name: String,
    /// What it is like.
    #[serde(default)]
    pub settings: StreamSettings,
    /// What becomes of it when the MessageVault is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// Limits of the servers. What is left out has the server's default.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerLimits {
    /// Connections at once of one server; 16384 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<i64>,
    /// The longest value of a message, in bytes, at most 2 MiB; 1 MiB when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_097_152))]
    pub max_message_bytes: Option<i64>,
    /// How many seconds an append waits until its messages are stored; 30 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 600))]
    pub append_timeout_seconds: Option<i64>,
}

fn default_replicas() -> i32 {
    2
}
