//! What the operator says of resources.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What the operator says of a MessageVault. Numbers are as of the last look, at most some minutes ago.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageVaultStatus {
    /// The generation of the resource that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled, StorageReachable, Paused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The vault in storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault_uid: Option<String>,
    /// The name of the storage account that the vault is in, which cannot become another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Where applications call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Servers that there are.
    #[serde(default)]
    pub replicas: i32,
    /// Servers that serve.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Which pods are the servers, as a label selector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The pod that leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The term under which it leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<i64>,
    /// How many streams the vault has, whoever made them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_count: Option<i64>,
    /// The streams of `spec.streams`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub streams: Vec<OwnedStreamStatus>,
}

/// How a stream of `spec.streams` is.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnedStreamStatus {
    /// The stream's name.
    pub name: String,
    /// How it is.
    #[serde(flatten)]
    pub stream: StreamStatus,
    /// What is wrong, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// What is known of a stream in storage.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamStatus {
    /// Its id. A container of another id, or none, means that the messages are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<String>,
    /// The first offset that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_offset: Option<i64>,
    /// The offset that the next message gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<i64>,
    /// Bytes from the first segment to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
}

/// What the operator says of a VaultStream. Numbers are as of the last look, at most some minutes ago.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultStreamStatus {
    /// The generation of the resource that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled, Paused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The stream's name in the vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_name: Option<String>,
    /// Where applications call it: the vault's endpoint with the stream's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// How it is.
    #[serde(flatten)]
    pub stream: StreamStatus,
    /// What is wrong, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}
