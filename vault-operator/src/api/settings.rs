//! What a stream is like, in both resources.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of a stream in storage when the resource that owns it goes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays, with all messages, and the next owner of that name takes it over.
    #[default]
    Retain,
    /// It is deleted with all messages when the resource is deleted.
    Delete,
}

/// How the next batches of messages are compressed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// LZ4: fast.
    Lz4,
    /// Zstandard: small.
    Zstd,
}

/// A stream's settings. What is left out has the server's default, or no limit.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    cel,
    validation = Rule::new("!has(self.maxBytes) || !has(self.retentionBytes) || self.maxBytes >= self.retentionBytes + self.retentionBytes / 4")
        .message("maxBytes must be at least a quarter more than retentionBytes: so much is kept until a segment can go"),
    validation = Rule::new("!has(self.segmentBytes) || self.segmentBytes % 4194304 == 0")
        .message("segmentBytes must be a multiple of 4194304 (4 MiB)")
)]
pub struct StreamSettings {
    /// The size at which new segments are created, in bytes: a multiple of 4 MiB from 4 MiB to 1 TiB; 8 GiB when left
    /// out. In Azure only written pages are billed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 4_194_304, max = 1_099_511_627_776_i64))]
    pub segment_bytes: Option<i64>,
    /// How the next batches of messages are compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<Codec>,
    /// The storage account that the stream lives in, for ever: one of the vault's `storage.accounts`; the vault's own
    /// when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[a-z0-9]{3,24}$"))]
    pub account: Option<String>,
    /// How many bytes of records may be appended in a second, 1 KiB to 1 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 1_073_741_824))]
    pub append_bytes_per_second: Option<i64>,
    /// For how many seconds messages are kept at least, 10 s to 100 years. Without it age deletes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 3_153_600_000_i64))]
    pub retention_seconds: Option<i64>,
    /// How many of the newest bytes are kept at least, 64 MiB to 1 PiB. Without it size deletes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 67_108_864, max = 1_125_899_906_842_624_i64))]
    pub retention_bytes: Option<i64>,
    /// How many bytes the stream may take in storage, 1 MiB to 1 PiB; then appends are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_048_576, max = 1_125_899_906_842_624_i64))]
    pub max_bytes: Option<i64>,
}
