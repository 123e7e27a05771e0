//! Looking at streams without a server: what verifying, copying and repairing rest on.
//!
//! A stream is read as it stands in storage, and nothing is changed. What is the end of a stream and what is damage is
//! decided by the same rules as when a server takes it over. A stream that a server appends to meanwhile may be read too:
//! a batch that stands valid behind all before it is in the log for good.
//!
//! | module | subject |
//! |---|---|
//! | `walk` | every batch in order, up to the end or to damage |
//! | `behind` | where a log goes on behind damage |

mod behind;
mod walk;

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use vault_format::batch::{Batch, BatchError};
use vault_format::chain::Chain;
use vault_format::header::Header;
use vault_format::ids::{Offset, Position};
use vault_format::limits::BLOCK_BYTES;
use vault_format::names::{ContainerName, Prefix, SegmentName, StreamName};
use vault_format::producers::Producers;

pub use self::walk::{Step, Walk};
use crate::env::Env;
use crate::log::error::{StreamFault, Unusable};
use crate::log::making::list;
use crate::log::recover::{Purpose, RecoverError, recover};
use crate::log::retry::until_definite;
use crate::log::scan::last_head;
use crate::log::settings::{InvalidMeta, StreamMeta};
use crate::log::store::Store;
use crate::metrics::Metrics;
use crate::metrics::log::StreamMetrics;
use crate::storage::{Storage, StorageError};

/// Why a stream could not be looked at, or not any further. Damage is none of these: it is what was looked for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InspectError {
    /// There is no container of that name.
    #[error("there is no stream `{0}`")]
    NotFound(StreamName),
    /// The container says nothing of a stream, or half of it.
    #[error("the container `{container}` is not a stream's: {reason}")]
    NotAStream {
        /// Its name.
        container: ContainerName,
        /// What is wrong with its metadata.
        reason: InvalidMeta,
    },
    /// A later version wrote here.
    #[error(
        "segment {segment:020} holds a later version of the format at byte {position}; use a newer version of this program"
    )]
    TooNew {
        /// The segment's base offset.
        segment: Offset,
        /// Where the first batch of the later version stands.
        position: Position,
    },
    /// Retention has deleted what was to be read next.
    #[error(
        "retention has deleted the messages from offset {wanted} on; the first one kept is {first_offset}"
    )]
    Overtaken {
        /// What was to be read.
        wanted: Offset,
        /// What is still there.
        first_offset: Offset,
    },
    /// The stream ends before the place that was to be read from.
    #[error("the stream ends at offset {end_offset}, before {wanted}")]
    Shorter {
        /// What was to be read.
        wanted: Offset,
        /// Where it ends.
        end_offset: Offset,
    },
    /// The end of the stream cannot be told, because it is damaged.
    #[error(transparent)]
    Fault(#[from] StreamFault),
    /// Storage does not answer, or refuses.
    #[error("the storage: {0}")]
    Storage(#[from] StorageError),
}

impl From<Unusable> for InspectError {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Fault(fault) => Self::Fault(fault),
            Unusable::Storage(error) => Self::Storage(error),
            Unusable::NotFound => Self::Storage(StorageError::NotFound),
            Unusable::NoLeader | Unusable::TimedOut => {
                Self::Storage(StorageError::Unavailable(unusable.to_string()))
            }
        }
    }
}

/// How reading without claiming anything failed.
fn unclaimed(error: RecoverError) -> InspectError {
    match error {
        RecoverError::Unusable(unusable) => unusable.into(),
        RecoverError::Reign(_) => unreachable!("only who claims a segment learns of another term"),
    }
}

/// Where a log cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("segment {segment:020} is damaged at byte {position}, where offset {offset} should stand: {detail}")]
pub struct Damage {
    /// The segment's base offset.
    pub segment: Offset,
    /// Where in it the first batch stands that cannot be read.
    pub position: Position,
    /// The offset of the message that should come next.
    pub offset: Offset,
    /// What was found.
    pub detail: String,
}

/// Messages that are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub damage: Damage,
    /// The first of them.
    pub from: Offset,
    /// The offset behind the last; the same as `from` where nothing but a help for writers was lost. `None` where
    /// nothing intact follows, so that nobody knows how many were lost.
    pub to: Option<Offset>,
}

impl Gap {
    /// How many are known to be lost.
    #[must_use]
    pub fn known_lost(&self) -> u64 {
        self.to.map_or(0, |to| to.0 - self.from.0)
    }
}

/// A batch as it is stored.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// Its header, checked.
    pub header: Header,
    /// Header, payload and padding; of a filler its first page.
    pub bytes: Bytes,
}

impl StoredBatch {
    /// The batch with its payload, whose checksum is verified.
    pub fn batch(&self) -> Result<Batch<'_>, BatchError> {
        Batch::with_header(self.header, &self.bytes)
    }
}

/// Where a copy of a stream ends, for the one who goes on with it.
#[derive(Clone, Debug)]
pub struct StreamEnd {
    /// The first offset that is kept; `None` where there is no segment yet.
    pub first_offset: Option<Offset>,
    /// Base offset and length of the last segment.
    pub segment: Option<(Offset, u64)>,
    /// The state behind the last batch. Where the last segment is sealed, it still stands behind the seal.
    pub chain: Chain,
    /// Whether the last segment is sealed.
    pub sealed: bool,
    /// The producers known there.
    pub producers: Producers,
    /// What the last segment has on record as committed.
    pub recorded: Position,
    /// Where its last batch with messages ends.
    pub messages_end: Position,
}

/// A stream as it stands in storage.
#[derive(Clone, Debug)]
pub struct StoredStream {
    store: Store,
    name: StreamName,
    meta: StreamMeta,
}

impl StoredStream {
    /// Finds a stream by its name.
    pub async fn open(
        storage: Arc<dyn Storage>,
        env: Env,
        prefix: &Prefix,
        name: &StreamName,
    ) -> Result<Self, InspectError> {
        let container = prefix.container(name);
        let metadata = match until_definite(&env, || storage.container_metadata(&container)).await {
            Err(StorageError::NotFound) => return Err(InspectError::NotFound(name.clone())),
            found => found?,
        };
        let meta = StreamMeta::from_metadata(&metadata)
            .map_err(|reason| InspectError::NotAStream { container, reason })?;
        Ok(Self::with_meta(storage, env, prefix, name, meta))
    }

    /// The same, where the caller knows what the container says, or what it will say.
    #[must_use]
    pub fn with_meta(
        storage: Arc<dyn Storage>,
        env: Env,
        prefix: &Prefix,
        name: &StreamName,
        meta: StreamMeta,
    ) -> Self {
        let metrics = StreamMetrics::new(&Arc::new(Metrics::default()));
        let store = Store { storage, env, container: prefix.container(name), id: meta.id, metrics };
        Self { store, name: name.clone(), meta }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// What its container says, as it was when this was opened.
    #[must_use]
    pub fn meta(&self) -> &StreamMeta {
        &self.meta
    }

    /// The offset of the first message that is kept; `None` where there is no segment.
    pub async fn first_offset(&self) -> Result<Option<Offset>, InspectError> {
        Ok(list(&self.store).await?.segments.first().map(|segment| segment.base))
    }

    /// About how many bytes are written from the segment on that holds `from`: whole blocks, up to the last head of each
    /// segment. Some dozen small requests for each segment.
    pub async fn written_bytes(&self, from: Offset) -> Result<u64, InspectError> {
        let segments = list(&self.store).await?.segments;
        let before = segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        let mut sum = 0;
        for segment in &segments[before..] {
            sum += last_head(&self.store, segment).await?.map_or(0, |last| (last + 1) * BLOCK_BYTES);
        }
        Ok(sum)
    }

    /// Every batch from the first one that is kept.
    #[must_use]
    pub fn walk(&self) -> Walk {
        Walk::new(self.clone(), None)
    }

    /// Batches from the one that holds `from`, or from a little before it.
    #[must_use]
    pub fn walk_from(&self, from: Offset) -> Walk {
        Walk::new(self.clone(), Some(from))
    }

    /// Where it ends, with what whoever goes on there wants to know. Nothing is claimed and nothing cleared: remains of
    /// writes that were never acknowledged may stand behind it.
    pub async fn end(&self) -> Result<StreamEnd, InspectError> {
        // Between the first segment and `begun` a copy may have been broken off.
        let recovered = match recover(&self.store, Purpose::Resume, false).await {
            Ok(recovered) => recovered,
            Err(error) => return Err(unclaimed(error)),
        };
        recovered.fault.map_or(Ok(()), Err)?;
        let last = recovered.segments.last();
        Ok(StreamEnd {
            first_offset: recovered.segments.first().map(|first| first.base),
            segment: last.map(|last| (last.base, last.bytes)),
            chain: recovered.chain,
            sealed: recovered.sealed,
            producers: recovered.producers,
            recorded: recovered.recorded,
            messages_end: recovered.messages_end,
        })
    }

    /// The name of the blob that holds the segment with this base offset.
    #[must_use]
    pub fn blob(&self, base: Offset) -> crate::storage::BlobName {
        let name = SegmentName { stream: self.store.id, base }.to_string();
        crate::storage::BlobName { container: self.store.container.clone(), name }
    }
}
