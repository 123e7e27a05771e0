//! What streams are like: settings, descriptions, status.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The settings of a stream. What is `None` is left as it is, or gets the server's default in a new stream.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Settings {
    /// The size at which new segments are created, in bytes: a multiple of 4 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment_bytes: Option<u64>,
    /// How batches are compressed: `none`, `lz4` or `zstd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// The storage account that the stream lives in, for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// How many bytes of records may be appended in a second; `Some(None)` takes the limit away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append_bytes_per_second: Option<Option<u64>>,
    /// For how many seconds messages are kept at least; `Some(None)` keeps them for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_seconds: Option<Option<u64>>,
    /// How many of the newest bytes are kept at least; `Some(None)` keeps all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<Option<u64>>,
    /// How many bytes the stream may take in storage; `Some(None)` takes the limit away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Option<u64>>,
}

/// What is known of a stream without asking storage.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary {
    /// Its name, as the servers have it: with the client's stream prefix.
    pub name: String,
    /// 32 hexadecimal digits, others after it was deleted and made anew.
    pub id: String,
    /// When it was created, in ms since 1970.
    pub created: u64,
    /// Its settings, all that the server knows.
    pub settings: BTreeMap<String, Value>,
    /// The Kubernetes object that it belongs to.
    pub owner: Option<String>,
    /// `open`, `closed`, `opening`, `stalled`, `corrupt`, `data_missing`, `two_accounts` or `format_too_new`.
    pub condition: String,
    /// What is wrong, in a sentence.
    pub trouble: Option<String>,
}

/// A stream and how far it goes. What damage hides is `None`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Description {
    /// What is known without asking storage.
    #[serde(flatten)]
    pub summary: Summary,
    /// The first offset that is kept.
    pub first_offset: Option<u64>,
    /// That of the next message.
    pub next_offset: Option<u64>,
    /// When the last message was appended, in ms since 1970; `None` while the stream is empty.
    pub last_timestamp: Option<u64>,
    /// Stored bytes, from the first segment to the end.
    pub bytes: Option<u64>,
    /// How many segments there are.
    pub segments: Option<u64>,
}

/// Whether [`create`](crate::Client::create_stream) made a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Created {
    /// It was made.
    New,
    /// It was there already, with the settings named.
    Existing,
}

/// One page of streams, as the server answers it.
#[derive(Deserialize)]
pub(crate) struct Page {
    pub(crate) streams: Vec<Summary>,
    pub(crate) next_start_after: Option<String>,
}
