//! How operations on a stream fail. Each type says whether something may have been stored all the same.

use thiserror::Error;
use vault_format::ids::{Offset, Position};
use vault_format::producers::Refused;

use crate::log::settings::InvalidSettings;
use crate::storage::StorageError;

/// What holds one stream back until somebody mends it. The other streams of the vault go on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StreamFault {
    /// Stored bytes that were acknowledged are damaged. What comes before is served; appends are refused.
    #[error("segment {segment:020} is damaged at byte {position}: {detail}")]
    Corrupt {
        /// The segment's base offset.
        segment: Offset,
        /// Where the first batch stands that cannot be read.
        position: Position,
        /// What was found.
        detail: String,
    },
    /// The container or a segment is gone although messages were stored in it.
    #[error("stored data is missing: {0}")]
    DataMissing(String),
    /// Containers in two storage accounts have the stream's name, and nobody can tell which one is meant.
    #[error("the accounts {0} both have a container of this name; delete or move the wrong one")]
    TwoAccounts(String),
    /// A later version of this server wrote here.
    #[error(
        "segment {segment:020} holds a later version of the format at byte {position}; use a newer server"
    )]
    FormatTooNew {
        /// The segment's base offset.
        segment: Offset,
        /// Where the first batch of the later version stands.
        position: Position,
    },
}

impl StreamFault {
    /// The stable word for this fault.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Corrupt { .. } => "corrupt",
            Self::DataMissing(_) => "data_missing",
            Self::TwoAccounts(_) => "two_accounts",
            Self::FormatTooNew { .. } => "format_too_new",
        }
    }
}

/// Why a stream cannot be used now, whatever was asked of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unusable {
    /// There is no such stream, or it was deleted meanwhile.
    #[error("the stream does not exist")]
    NotFound,
    /// This server does not lead the vault.
    #[error("no leader is known; try again soon")]
    NoLeader,
    /// The stream needs mending.
    #[error(transparent)]
    Fault(#[from] StreamFault),
    /// Storage does not answer.
    #[error("the storage cannot be reached: {0}")]
    Storage(StorageError),
    /// It took longer than it may.
    #[error("the server waited for the storage as long as it may")]
    TimedOut,
}

/// How an append failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    /// Definite: nothing was stored.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// Definite: the stream's next offset is another.
    #[error("the stream's next offset is {next_offset}, not the expected one")]
    OffsetMismatch {
        /// The real one.
        next_offset: Offset,
    },
    /// Definite: too much waits to be written.
    #[error("{0}; try again soon")]
    QueueFull(&'static str),
    /// Definite: more was appended lately than the stream's settings allow.
    #[error(
        "the stream takes append_bytes_per_second only; this request may come after {retry_after_seconds} s"
    )]
    RateExceeded {
        /// After so many seconds the request passes, if no other comes before it.
        retry_after_seconds: u64,
    },
    /// Definite: the stream would take more than its settings allow.
    #[error("the stream would take more than max_bytes, {max_bytes}")]
    StreamFull {
        /// What it may take.
        max_bytes: u64,
    },
    /// Definite: there is no room in storage, and a write that waits for some is in front.
    #[error("the storage is full: {0}")]
    StorageFull(String),
    /// Definite: its producer may not send this request now.
    #[error(transparent)]
    Producer(#[from] Refused),
    /// Definite: offsets have run out.
    #[error("the stream has no offsets left")]
    OffsetsExhausted,
    /// Not definite: the messages may be stored, or be stored later, once.
    #[error("the outcome is unknown: {0}")]
    Unknown(Unusable),
}

/// How a read failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    /// The stream cannot be used now.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// What was asked for comes before the first message that is kept.
    #[error("the first offset kept is {first_offset}")]
    BelowFirst {
        /// The first offset kept.
        first_offset: Offset,
    },
    /// What was asked for comes after the tail.
    #[error("the stream ends at offset {end_offset}")]
    BeyondTail {
        /// The tail.
        end_offset: Offset,
    },
    /// Readers hold all the memory that is set aside for them.
    #[error("too much is being read at the moment")]
    Overloaded,
}

impl From<StreamFault> for ReadError {
    fn from(fault: StreamFault) -> Self {
        Self::Unusable(fault.into())
    }
}

/// How creating, changing or deleting a stream failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AdminError {
    /// The stream cannot be used now.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// Settings that do not fit together.
    #[error(transparent)]
    InvalidSettings(#[from] InvalidSettings),
    /// It exists with other settings.
    #[error("the stream exists with other settings: {0}")]
    OtherSettings(String),
    /// It was to be made in a storage account that this server does not know.
    #[error("the account `{named}` is not one of those that this server uses ({known})")]
    UnknownAccount {
        /// What was asked for.
        named: String,
        /// What there is.
        known: String,
    },
    /// The vault has as many streams as it may.
    #[error("a vault has at most {0} streams")]
    TooManyStreams(usize),
    /// Storage refuses the name for the moment: a container of that name is still being deleted.
    #[error("storage is still deleting a stream of this name; try again in a minute")]
    StillDeleting,
    /// Kubernetes says what the stream is like.
    #[error("the stream belongs to the Kubernetes object `{0}`; change or delete that object instead")]
    Managed(String),
    /// Not definite: storage may have the stream or its new settings, but another server leads by now.
    #[error("another server leads by now; what was asked for may have been carried out; send it again")]
    LeadLost,
    /// Somebody else is changing the stream.
    #[error("somebody else is changing this stream; try again")]
    Busy,
}

impl From<StorageError> for Unusable {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NotFound => Self::NotFound,
            other => Self::Storage(other),
        }
    }
}
