//! Copies of streams: in directories, and back into any storage; what is in them, and what of it is whole.
//!
//! ```text
//!   storage, or a server  --source-->  batches  --writer-->  a directory, or any storage
//! ```
//!
//! A copy is a vault: a server started on it serves its streams, knows their producers, and appends on. Offsets,
//! timestamps and ids are those of the source; batches are stored as they were, compressed ones without being compressed
//! again. Where a copy stands is seen from the copy alone, so that one that was broken off goes on where it ended.
//!
//! | module | subject |
//! |---|---|
//! | [`source`] | where batches come from |
//! | [`server`] | streams that are read through their servers |
//! | [`writer`] | writing a stream in the stored format |
//! | `target` | the container that is written to: made, locked, claimed, marked |
//! | `pieces` | what is put into a batch that cannot be stored as it was |
//! | [`copy`](mod@copy) | a copy that grows with its source |
//! | [`restore`](mod@restore) | a stream made anew from a copy, all of it or nothing; repair |
//! | [`verify`](mod@verify) | whether a stream is whole |
//! | `limits` | sizes and times |

pub mod copy;
mod limits;
mod pieces;
pub mod restore;
pub mod server;
pub mod source;
mod target;
#[cfg(test)]
mod tests;
pub mod verify;
pub mod writer;

use std::sync::Arc;

use thiserror::Error;
use vault_format::ids::{Offset, StreamId, Timestamp};
use vault_format::names::{Prefix, StreamName};
use vault_server::env::Env;
use vault_server::log::inspect::{Damage, InspectError, StoredStream};
use vault_server::log::retry::until_definite;
use vault_server::log::settings::{Settings, StreamMeta};
use vault_server::storage::{Storage, StorageError};

pub use self::copy::copy;
pub use self::restore::restore;
pub use self::server::{ServerSource, verify_server};
pub use self::source::{Source, StorageSource};
pub use self::verify::verify;
pub use self::writer::LogWriter;

/// A vault in storage: where streams are read from, or written to, without a server.
#[derive(Clone, Debug)]
pub struct Place {
    /// The storage.
    pub storage: Arc<dyn Storage>,
    /// Time and randomness.
    pub env: Env,
    /// What the names of the vault's containers begin with.
    pub prefix: Prefix,
    /// The storage account in which streams are made; `None` where the storage has no accounts.
    pub account: Option<String>,
}

/// What a copy must know of a stream besides its messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The stream's id, which the copy gets too.
    pub id: StreamId,
    /// When it was created.
    pub created: Timestamp,
    /// Its settings. The copy's account is its own.
    pub settings: Settings,
}

impl From<&StreamMeta> for Origin {
    fn from(meta: &StreamMeta) -> Self {
        Self { id: meta.id, created: meta.created, settings: meta.settings.clone() }
    }
}

/// How far something has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Stored bytes that have been dealt with.
    pub bytes: u64,
    /// Messages that have been dealt with.
    pub messages: u64,
    /// About how many bytes there are in all, where that is known.
    pub total_bytes: Option<u64>,
}

/// Hears how far something has come, after each batch. It should return at once.
pub type Observer<'a> = &'a mut (dyn FnMut(&Progress) + Send);

/// Why something could not be done with a copy. What was written by then stays, and is gone on with the next time.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The stream could not be looked at.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The source is damaged.
    #[error("the source is damaged, and nothing behind that place was taken over: {0}")]
    Damaged(Damage),
    /// The source cannot be read for a reason of its own.
    #[error("the source: {0}")]
    Source(Box<dyn std::error::Error + Send + Sync>),
    /// Storage does not answer, or refuses.
    #[error("the storage that is written to: {0}")]
    Storage(#[from] StorageError),
    /// Somebody else writes there.
    #[error(
        "somebody else is writing to the target of stream `{0}`: stop the server, or the copy, that uses it; where one \
         was killed on shared storage, try again in a minute"
    )]
    InUse(StreamName),
    /// The target holds another stream under this name.
    #[error(
        "the target has another stream of the name `{name}`, with the id {found}: choose another place for the copy"
    )]
    OtherStream {
        /// The name.
        name: StreamName,
        /// The id of the stream that is there.
        found: StreamId,
    },
    /// What is to be restored is there already.
    #[error("the stream `{0}` exists already: delete it, or restore to another place")]
    Exists(StreamName),
    /// The stream is not whole: it is being restored, or restoring it was broken off.
    #[error(
        "restoring the stream `{0}` has not come to its end: restore it again, which goes on where it ended"
    )]
    Unfinished(StreamName),
    /// What the target ends with has been deleted at the source.
    #[error(
        "the copy ends at offset {next_offset}, but retention at the source has deleted what follows, up to {first_offset}: \
         keep this copy as it is and begin a new one in another place, and copy more often than retention deletes"
    )]
    Overtaken {
        /// Where the copy ends.
        next_offset: Offset,
        /// The first offset that the source has still.
        first_offset: Offset,
    },
    /// The source has less than the copy: it is not the stream that was copied, or was restored from an older copy.
    #[error(
        "the copy ends at offset {next_offset}, the source at {end_offset}: the source is older than the copy"
    )]
    SourceIsOlder {
        /// Where the copy ends.
        next_offset: Offset,
        /// Where the source ends.
        end_offset: Offset,
    },
    /// A batch that does not continue what was written.
    #[error(
        "the batch at offset {offset} does not continue what was written, up to offset {next_offset}: {reason}"
    )]
    Misfit {
        /// The batch's first offset.
        offset: Offset,
        /// What should come next.
        next_offset: Offset,
        /// What is wrong with it.
        reason: String,
    },
    /// What was written is not what was read.
    #[error("the stream was written but does not check out: {0}")]
    NotAsWritten(String),
}

impl Place {
    /// The streams that are here, those that are not whole left out.
    pub async fn streams(&self) -> Result<Vec<StreamName>, ArchiveError> {
        let listed = until_definite(&self.env, || self.storage.list_containers(self.prefix.as_str())).await?;
        let streams = listed.iter().filter(|entry| StreamMeta::from_metadata(&entry.metadata).is_ok());
        Ok(streams.filter_map(|entry| self.prefix.stream_of(&entry.name)).collect())
    }

    /// Finds a stream.
    pub async fn stream(&self, name: &StreamName) -> Result<StoredStream, ArchiveError> {
        match StoredStream::open(Arc::clone(&self.storage), self.env.clone(), &self.prefix, name).await {
            Err(InspectError::NotAStream { .. }) if self.is_unfinished(name).await? => {
                Err(ArchiveError::Unfinished(name.clone()))
            }
            opened => Ok(opened?),
        }
    }

    async fn is_unfinished(&self, name: &StreamName) -> Result<bool, ArchiveError> {
        let container = self.prefix.container(name);
        let metadata = until_definite(&self.env, || self.storage.container_metadata(&container)).await?;
        Ok(StreamMeta::from_unfinished_metadata(&metadata).is_some())
    }
}
