//! What a stream's container says about it: id, settings, whether it has begun.

use std::ops::RangeInclusive;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use vault_format::codec::Codec;
use vault_format::ids::{StreamId, Timestamp};
use vault_format::limits::{BLOCK_BYTES, DEFAULT_SEGMENT_BYTES, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};

use crate::limits::{APPEND_BYTES_PER_SECOND, MAX_BYTES, RETENTION_BYTES, RETENTION_SECONDS};
use crate::log::codec;
use crate::storage::{ACCOUNT, Metadata};

/// The settings of a stream, all of them set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
pub struct Settings {
    /// The size at which new segments are created, in bytes: a multiple of 4 MiB from 4 MiB to 1 TiB.
    pub segment_bytes: u64,
    /// How the next batches of messages are compressed.
    #[serde(serialize_with = "codec::serialize")]
    #[schema(schema_with = codec::schema)]
    pub codec: Codec,
    /// The storage account that the stream lives in, for ever; `None` where the storage has no accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// How many bytes of records may be appended in a second, 1 KiB to 1 GiB; `None` where there is no limit.
    pub append_bytes_per_second: Option<u64>,
    /// For how many seconds messages are kept at least, 10 s to 100 years; `None` where age deletes nothing.
    pub retention_seconds: Option<u64>,
    /// How many of the newest bytes are kept at least, 64 MiB to 1 PiB; `None` where size deletes nothing.
    pub retention_bytes: Option<u64>,
    /// How many bytes the stream may take in storage, 1 MiB to 1 PiB; `None` where there is no limit.
    pub max_bytes: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: DEFAULT_SEGMENT_BYTES,
            codec: Codec::None,
            account: None,
            append_bytes_per_second: None,
            retention_seconds: None,
            retention_bytes: None,
            max_bytes: None,
        }
    }
}

/// A setting that is a number within a range, or not set.
struct Limit {
    /// What it is called everywhere.
    name: &'static str,
    range: RangeInclusive<u64>,
    of: fn(&Settings) -> Option<u64>,
    given: fn(&SettingsPatch) -> Option<Option<u64>>,
    give: fn(&mut SettingsPatch, Option<u64>),
}

const LIMITS: [Limit; 4] = [
    Limit {
        name: "append_bytes_per_second",
        range: APPEND_BYTES_PER_SECOND,
        of: |settings| settings.append_bytes_per_second,
        given: |patch| patch.append_bytes_per_second,
        give: |patch, value| patch.append_bytes_per_second = Some(value),
    },
    Limit {
        name: "retention_seconds",
        range: RETENTION_SECONDS,
        of: |settings| settings.retention_seconds,
        given: |patch| patch.retention_seconds,
        give: |patch, value| patch.retention_seconds = Some(value),
    },
    Limit {
        name: "retention_bytes",
        range: RETENTION_BYTES,
        of: |settings| settings.retention_bytes,
        given: |patch| patch.retention_bytes,
        give: |patch, value| patch.retention_bytes = Some(value),
    },
    Limit {
        name: "max_bytes",
        range: MAX_BYTES,
        of: |settings| settings.max_bytes,
        given: |patch| patch.max_bytes,
        give: |patch, value| patch.max_bytes = Some(value),
    },
];

/// Settings as a caller gives them: what is left out stays as it is, or gets its default in a new stream.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsPatch {
    /// The size at which new segments are created, in bytes: a multiple of 4 MiB from 4 MiB to 1 TiB.
    #[serde(deserialize_with = "given")]
    #[schema(
        nullable = false,
        minimum = 4_194_304,
        maximum = 1_099_511_627_776_u64,
        multiple_of = 4_194_304
    )]
    pub segment_bytes: Option<u64>,
    /// How the next batches of messages are compressed.
    #[serde(deserialize_with = "codec::deserialize")]
    #[schema(schema_with = codec::schema)]
    pub codec: Option<Codec>,
    /// The storage account that the stream lives in, for ever: one of the server's.
    #[serde(deserialize_with = "given")]
    #[schema(nullable = false)]
    pub account: Option<String>,
    /// How many bytes of records may be appended in a second, 1 KiB to 1 GiB; `null` takes the limit away.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u64>, minimum = 1_024, maximum = 1_073_741_824)]
    pub append_bytes_per_second: Option<Option<u64>>,
    /// For how many seconds messages are kept at least, 10 s to 100 years; `null` keeps them for ever.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u64>, minimum = 10, maximum = 3_153_600_000_u64)]
    pub retention_seconds: Option<Option<u64>>,
    /// How many of the newest bytes are kept at least, 64 MiB to 1 PiB; `null` keeps all.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u64>, minimum = 67_108_864, maximum = 1_125_899_906_842_624_u64)]
    pub retention_bytes: Option<Option<u64>>,
    /// How many bytes the stream may take in storage, 1 MiB to 1 PiB; `null` takes the limit away.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u64>, minimum = 1_048_576, maximum = 1_125_899_906_842_624_u64)]
    pub max_bytes: Option<Option<u64>>,
}

/// A setting that is there, also where it says `null`.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// What a setting of this name must be, to be put behind the name. `None` where there is no such setting.
#[must_use]
pub fn rule(name: &str) -> Option<String> {
    match name {
        SEGMENT_BYTES => Some(format!(
            "must be a multiple of {BLOCK_BYTES} from {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}"
        )),
        CODEC => Some(format!("must be one of {}", Codec::ALL.map(Codec::name).join(", "))),
        ACCOUNT => Some("must be the name of one of the server's storage accounts".to_owned()),
        _ => LIMITS.iter().find(|limit| limit.name == name).map(|Limit { range, .. }| {
            format!("must be from {} to {}, or null for none", range.start(), range.end())
        }),
    }
}

/// A setting that is outside its range.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidSettings {
    /// Segments of that size cannot be made.
    #[error("{SEGMENT_BYTES} is {found}; it {}", rule(SEGMENT_BYTES).unwrap_or_default())]
    SegmentBytes {
        /// What was asked for.
        found: u64,
    },
    /// A limit is too low or too high.
    #[error("{name} is {found}; it {}", rule(name).unwrap_or_default())]
    Limit {
        /// The setting's name.
        name: &'static str,
        /// What it was to be.
        found: u64,
    },
    /// There would be no room for what is to be kept.
    #[error(
        "max_bytes is {max_bytes}, but retention_bytes keeps {retention_bytes}, and up to a quarter more until a segment \
         can go; max_bytes must be at least {}",
        retention_bytes.saturating_add(retention_bytes / 4)
    )]
    NoRoomForRetention {
        /// The limit.
        max_bytes: u64,
        /// What is kept.
        retention_bytes: u64,
    },
}

impl Settings {
    /// Checks settings that have to fit together.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        match (self.max_bytes, self.retention_bytes) {
            (Some(max_bytes), Some(retention_bytes))
                if max_bytes < retention_bytes.saturating_add(retention_bytes / 4) =>
            {
                Err(InvalidSettings::NoRoomForRetention { max_bytes, retention_bytes })
            }
            _ => Ok(()),
        }
    }
}

impl InvalidSettings {
    /// The setting's name and what it was.
    fn named(&self) -> (&'static str, u64) {
        match self {
            Self::SegmentBytes { found } => (SEGMENT_BYTES, *found),
            Self::Limit { name, found, .. } => (name, *found),
            Self::NoRoomForRetention { max_bytes, .. } => ("max_bytes", *max_bytes),
        }
    }
}

impl SettingsPatch {
    /// Checks every setting that is given.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        let fits = |bytes: u64| {
            bytes.is_multiple_of(BLOCK_BYTES) && (MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&bytes)
        };
        if let Some(bytes) = self.segment_bytes.filter(|bytes| !fits(*bytes)) {
            return Err(InvalidSettings::SegmentBytes { found: bytes });
        }
        for Limit { name, range, given, .. } in &LIMITS {
            if let Some(found) = given(self).flatten().filter(|found| !range.contains(found)) {
                return Err(InvalidSettings::Limit { name, found });
            }
        }
        Ok(())
    }

    /// `settings` with what is given here in place of what they say.
    #[must_use]
    pub fn apply_to(&self, settings: &Settings) -> Settings {
        Settings {
            segment_bytes: self.segment_bytes.unwrap_or(settings.segment_bytes),
            codec: self.codec.unwrap_or(settings.codec),
            account: self.account.clone().or_else(|| settings.account.clone()),
            append_bytes_per_second: self.append_bytes_per_second.unwrap_or(settings.append_bytes_per_second),
            retention_seconds: self.retention_seconds.unwrap_or(settings.retention_seconds),
            retention_bytes: self.retention_bytes.unwrap_or(settings.retention_bytes),
            max_bytes: self.max_bytes.unwrap_or(settings.max_bytes),
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
    /// Whether retention has deleted segments: without that it is damage where the first ones are gone.
    pub trimmed: bool,
    /// Whether the owner wants the stream to go, with everything in it. Means nothing where there is no owner.
    pub deleting: bool,
    /// The Kubernetes object that the stream belongs to, such as `vaultstream/<namespace>/<name>`. Only that object
    /// changes or deletes the stream; this server never writes the name.
    pub owner: Option<String>,
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
const TRIMMED: &str = "trimmed";
const DELETING: &str = "deleting";
const SEGMENT_BYTES: &str = "segment_bytes";
const OWNER: &str = "owner";
const CODEC: &str = "codec";

/// Instead of [`ID`]: a stream of that id is being restored here and is not whole yet. Servers take it for none.
const RESTORING: &str = "restoring";

/// Who owns the stream whose container has these metadata, whatever else they hold.
#[must_use]
pub fn owner(metadata: &Metadata) -> Option<String> {
    metadata.get(OWNER).filter(|owner| !owner.is_empty()).cloned()
}

impl StreamMeta {
    /// The metadata as they are stored.
    #[must_use]
    pub fn to_metadata(&self) -> Metadata {
        let mut metadata = Metadata::new();
        self.write_to(&mut metadata);
        metadata
    }

    /// The same as [`StreamMeta::write_to`] for a container in which the stream is not whole yet: to servers it is no
    /// stream's.
    pub fn write_unfinished_to(&self, metadata: &mut Metadata) {
        self.write_to(metadata);
        metadata.remove(ID);
        metadata.insert(RESTORING.to_owned(), self.id.to_string());
    }

    /// Reads the metadata of such a container. `None` where it is none.
    pub fn from_unfinished_metadata(metadata: &Metadata) -> Option<Result<Self, InvalidMeta>> {
        let mut finished = metadata.clone();
        let id = finished.remove(RESTORING)?;
        finished.insert(ID.to_owned(), id);
        Some(Self::from_metadata(&finished))
    }

    /// Puts all of this into stored metadata. Names that this version does not know stay as they are.
    pub fn write_to(&self, metadata: &mut Metadata) {
        let settings = &self.settings;
        let limits = LIMITS.iter().map(|limit| (limit.name, (limit.of)(settings).map(|it| it.to_string())));
        let others = [
            (ID, Some(self.id.to_string())),
            (CREATED, Some(self.created.to_string())),
            (SEGMENT_BYTES, Some(settings.segment_bytes.to_string())),
            (CODEC, Some(settings.codec).filter(|codec| *codec != Codec::None).map(|it| it.to_string())),
            (ACCOUNT, settings.account.clone()),
            (BEGUN, self.begun.then(|| "true".to_owned())),
            (TRIMMED, self.trimmed.then(|| "true".to_owned())),
            (DELETING, self.deleting.then(|| "true".to_owned())),
            (RESTORING, None),
        ];
        for (name, value) in others.into_iter().chain(limits) {
            match value {
                Some(value) => metadata.insert(name.to_owned(), value),
                None => metadata.remove(name),
            };
        }
        if let Some(owner) = &self.owner {
            metadata.insert(OWNER.to_owned(), owner.clone());
        }
    }

    /// Reads stored metadata. Names that this version does not know are ignored.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, InvalidMeta> {
        let mut patch = SettingsPatch {
            segment_bytes: Some(number(metadata, SEGMENT_BYTES)?),
            codec: metadata.get(CODEC).map(|name| parse_codec(name)).transpose()?,
            account: metadata.get(ACCOUNT).cloned(),
            ..SettingsPatch::default()
        };
        for Limit { name, give, .. } in &LIMITS {
            give(&mut patch, metadata.get(*name).map(|_| number(metadata, name)).transpose()?);
        }
        patch.check().map_err(|invalid| {
            let (key, found) = invalid.named();
            InvalidMeta { key, found: found.to_string() }
        })?;
        let id = text(metadata, ID)?;
        Ok(Self {
            id: id.parse().map_err(|_| InvalidMeta { key: ID, found: format!("`{id}`") })?,
            created: Timestamp(number(metadata, CREATED)?),
            settings: patch.apply_to(&Settings::default()),
            begun: metadata.contains_key(BEGUN),
            trimmed: metadata.contains_key(TRIMMED),
            // A wish that cannot be taken back is read to the letter.
            deleting: metadata.get(DELETING).is_some_and(|value| value == "true"),
            owner: owner(metadata),
        })
    }
}

fn text<'a>(metadata: &'a Metadata, key: &'static str) -> Result<&'a str, InvalidMeta> {
    metadata.get(key).map(String::as_str).ok_or_else(|| InvalidMeta { key, found: "not there".to_owned() })
}

fn parse_codec(name: &str) -> Result<Codec, InvalidMeta> {
    name.parse().map_err(|_| InvalidMeta { key: CODEC, found: format!("`{name}`") })
}

fn number(metadata: &Metadata, key: &'static str) -> Result<u64, InvalidMeta> {
    let text = text(metadata, key)?;
    text.parse().map_err(|_| InvalidMeta { key, found: format!("`{text}`") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(all: bool) -> StreamMeta {
        let settings = Settings {
            segment_bytes: 3 * BLOCK_BYTES,
            codec: if all { Codec::Zstd } else { Codec::None },
            account: all.then(|| "two".to_owned()),
            append_bytes_per_second: all.then_some(5_000),
            retention_seconds: all.then_some(3_600),
            retention_bytes: all.then_some(1 << 30),
            max_bytes: all.then_some(2 << 30),
        };
        let owner = all.then(|| "vaultstream/shop/orders".to_owned());
        StreamMeta {
            id: StreamId([7; 16]),
            created: Timestamp(123),
            settings,
            begun: all,
            trimmed: all,
            deleting: all,
            owner,
        }
    }

    #[test]
    fn metadata_round_trip() {
        for all in [true, false] {
            assert_eq!(StreamMeta::from_metadata(&meta(all).to_metadata()), Ok(meta(all)));
        }
    }

    #[test]
    fn an_unfinished_stream_is_none_to_servers() {
        let mut unfinished = Metadata::new();
        meta(true).write_unfinished_to(&mut unfinished);
        assert!(StreamMeta::from_metadata(&unfinished).is_err());
        assert_eq!(StreamMeta::from_unfinished_metadata(&unfinished), Some(Ok(meta(true))));
        meta(true).write_to(&mut unfinished);
        assert_eq!(unfinished, meta(true).to_metadata());
        assert_eq!(StreamMeta::from_unfinished_metadata(&unfinished), None);
    }

    #[test]
    fn what_is_no_longer_set_goes_and_what_is_unknown_stays() {
        let mut metadata = meta(true).to_metadata();
        metadata.insert("from_the_future".to_owned(), "7".to_owned());
        meta(false).write_to(&mut metadata);
        assert_eq!(metadata.remove("from_the_future").as_deref(), Some("7"));
        assert_eq!(metadata.remove(OWNER), meta(true).owner, "nobody here changes the owner");
        assert_eq!(metadata, meta(false).to_metadata());
    }

    #[test]
    fn only_the_word_true_is_a_wish_to_delete() {
        for value in ["false", "", "True", "1"] {
            let mut metadata = meta(true).to_metadata();
            metadata.insert(DELETING.to_owned(), value.to_owned());
            assert!(!StreamMeta::from_metadata(&metadata).unwrap().deleting, "{value}");
        }
    }

    #[test]
    fn damaged_metadata_says_which() {
        let damaged = |key: &str, value: Option<&str>| {
            let mut metadata = meta(true).to_metadata();
            match value {
                Some(value) => metadata.insert(key.to_owned(), value.to_owned()),
                None => metadata.remove(key),
            };
            StreamMeta::from_metadata(&metadata)
        };
        for (key, value) in [(ID, "zz"), (CREATED, "-1"), (SEGMENT_BYTES, "5")] {
            assert!(damaged(key, Some(value)).unwrap_err().to_string().contains(key));
            assert!(damaged(key, None).unwrap_err().to_string().contains("not there"));
        }
        assert!(damaged(CODEC, Some("gzip")).unwrap_err().to_string().contains(CODEC));
        assert_eq!(damaged(CODEC, None).unwrap().settings.codec, Codec::None);
        for Limit { name, of, .. } in &LIMITS {
            assert!(damaged(name, Some("1")).unwrap_err().to_string().contains(name));
            // Containers of earlier versions have none.
            assert_eq!(of(&damaged(name, None).unwrap().settings), None);
        }
    }

    #[test]
    fn ranges_are_checked() {
        let size = |bytes| SettingsPatch { segment_bytes: Some(bytes), ..SettingsPatch::default() }.check();
        assert!(size(BLOCK_BYTES).is_ok() && size(MAX_SEGMENT_BYTES).is_ok());
        for wrong in [0, 1, BLOCK_BYTES + 512, MAX_SEGMENT_BYTES + BLOCK_BYTES] {
            assert!(size(wrong).unwrap_err().to_string().contains(&wrong.to_string()));
        }
        for Limit { name, range, give, .. } in &LIMITS {
            let check = |value| {
                let mut patch = SettingsPatch::default();
                give(&mut patch, value);
                patch.check()
            };
            for right in [None, Some(*range.start()), Some(*range.end())] {
                assert_eq!(check(right), Ok(()));
            }
            for wrong in [0, range.start() - 1, range.end() + 1, u64::MAX] {
                let says = check(Some(wrong)).unwrap_err().to_string();
                assert!(says.contains(&wrong.to_string()) && says.contains(name), "{says}");
            }
        }
    }

    #[test]
    fn null_takes_a_limit_away_and_silence_leaves_it() {
        let limited = meta(true).settings;
        let patched = |json: &str| serde_json::from_str::<SettingsPatch>(json).unwrap().apply_to(&limited);
        assert_eq!(patched("{}"), limited);
        assert_eq!(patched(r#"{"append_bytes_per_second":null}"#).append_bytes_per_second, None);
        assert_eq!(patched(r#"{"append_bytes_per_second":2048}"#).append_bytes_per_second, Some(2_048));
        assert!(serde_json::from_str::<SettingsPatch>(r#"{"append_bytes_per_second":-1}"#).is_err());
    }
}
