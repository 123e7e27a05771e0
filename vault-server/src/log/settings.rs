//! What a stream's container says about it: id, settings, whether it has begun.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use vault_format::ids::{StreamId, Timestamp};
use vault_format::limits::{BLOCK_BYTES, DEFAULT_SEGMENT_BYTES, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};

use crate::storage::{ACCOUNT, Metadata};

/// The settings of a stream, all of them set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
pub struct Settings {
    /// The size at which new segments are created, in bytes: a multiple of 4 MiB from 4 MiB to 1 TiB.
    pub segment_bytes: u64,
    /// The storage account that the stream lives in, for ever; `None` where the storage has no accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { segment_bytes: DEFAULT_SEGMENT_BYTES, account: None }
    }
}

/// Settings as a caller gives them: what is left out stays as it is, or gets its default in a new stream.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsPatch {
    /// See [`Settings::segment_bytes`].
    pub segment_bytes: Option<u64>,
    /// See [`Settings::account`].
    pub account: Option<String>,
}

/// A setting that is outside its range.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "segment_bytes is {0}; it must be a multiple of {BLOCK_BYTES} from {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}"
)]
pub struct InvalidSettings(u64);

impl SettingsPatch {
    /// Checks every setting that is given.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        match self.segment_bytes {
            Some(bytes)
                if !bytes.is_multiple_of(BLOCK_BYTES)
                    || !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&bytes) =>
            {
                Err(InvalidSettings(bytes))
            }
            _ => Ok(()),
        }
    }

    /// `settings` with what is given here in place of what they say.
    #[must_use]
    pub fn apply_to(&self, settings: &Settings) -> Settings {
        Settings {
            segment_bytes: self.segment_bytes.unwrap_or(settings.segment_bytes),
            account: self.account.clone().or_else(|| settings.account.clone()),
        }
    }
}

/// All that a stream's container metadata holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamMeta {
    /// The stream's id.
    pub id: StreamId,
    /// When the stream was created.
    pub created: Timestamp,
    /// Its settings.
    pub settings: Settings,
    /// Whether its first segment was made: without a segment, data is missing.
    pub begun: bool,
}

/// Metadata that is not a stream's.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the container's metadata `{key}` is {found}")]
pub struct InvalidMeta {
    key: &'static str,
    found: String,
}

const ID: &str = "stream_id";
const CREATED: &str = "created_ms";
const BEGUN: &str = "begun";
const SEGMENT_BYTES: &str = "segment_bytes";

impl StreamMeta {
    /// The metadata as they are stored.
    #[must_use]
    pub fn to_metadata(&self) -> Metadata {
        let mut metadata = Metadata::from([
            (ID.to_owned(), self.id.to_string()),
            (CREATED.to_owned(), self.created.to_string()),
            (SEGMENT_BYTES.to_owned(), self.settings.segment_bytes.to_string()),
        ]);
        if let Some(account) = &self.settings.account {
            metadata.insert(ACCOUNT.to_owned(), account.clone());
        }
        if self.begun {
            metadata.insert(BEGUN.to_owned(), "true".to_owned());
        }
        metadata
    }

    /// Reads stored metadata. Names that this version does not know are ignored.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, InvalidMeta> {
        let segment_bytes = number(metadata, SEGMENT_BYTES)?;
        let account = metadata.get(ACCOUNT).cloned();
        let patch = SettingsPatch { segment_bytes: Some(segment_bytes), account };
        patch.check().map_err(|_| InvalidMeta { key: SEGMENT_BYTES, found: segment_bytes.to_string() })?;
        let id = text(metadata, ID)?;
        Ok(Self {
            id: id.parse().map_err(|_| InvalidMeta { key: ID, found: format!("`{id}`") })?,
            created: Timestamp(number(metadata, CREATED)?),
            settings: patch.apply_to(&Settings::default()),
            begun: metadata.contains_key(BEGUN),
        })
    }
}

fn text<'a>(metadata: &'a Metadata, key: &'static str) -> Result<&'a str, InvalidMeta> {
    metadata.get(key).map(String::as_str).ok_or_else(|| InvalidMeta { key, found: "not there".to_owned() })
}

fn number(metadata: &Metadata, key: &'static str) -> Result<u64, InvalidMeta> {
    let text = text(metadata, key)?;
    text.parse().map_err(|_| InvalidMeta { key, found: format!("`{text}`") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(begun: bool) -> StreamMeta {
        let settings = Settings { segment_bytes: 3 * BLOCK_BYTES, account: begun.then(|| "two".to_owned()) };
        StreamMeta { id: StreamId([7; 16]), created: Timestamp(123), settings, begun }
    }

    #[test]
    fn metadata_round_trip() {
        for begun in [true, false] {
            assert_eq!(StreamMeta::from_metadata(&meta(begun).to_metadata()), Ok(meta(begun)));
        }
    }

    #[test]
    fn damaged_metadata_says_which() {
        for (key, value) in [(ID, "zz"), (CREATED, "-1"), (SEGMENT_BYTES, "5")] {
            let mut metadata = meta(true).to_metadata();
            metadata.insert(key.to_owned(), value.to_owned());
            assert!(StreamMeta::from_metadata(&metadata).unwrap_err().to_string().contains(key));
            metadata.remove(key);
            assert!(StreamMeta::from_metadata(&metadata).unwrap_err().to_string().contains("not there"));
        }
    }

    #[test]
    fn segment_sizes_are_checked() {
        let check = |bytes| SettingsPatch { segment_bytes: Some(bytes), account: None }.check();
        assert!(check(BLOCK_BYTES).is_ok() && check(MAX_SEGMENT_BYTES).is_ok());
        for wrong in [0, 1, BLOCK_BYTES + 512, MAX_SEGMENT_BYTES + BLOCK_BYTES] {
            assert!(check(wrong).unwrap_err().to_string().contains(&wrong.to_string()));
        }
    }
}
