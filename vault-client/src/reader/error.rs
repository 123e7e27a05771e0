//! Why reading ended.

use thiserror::Error;
use vault_format::batch::BatchError;
use vault_format::ids::{Offset, StreamId};

use super::decoder::MalformedBatch;
use crate::error::Error;

/// Why reading ended. Reading can go on at [`Reader::next_offset`](crate::Reader::next_offset) where the cause has passed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The servers refused, or could not be reached for longer than requests are sent again.
    #[error(transparent)]
    Request(#[from] Error),
    /// Retention has deleted what comes next: messages were missed.
    #[error("messages from offset {wanted} on are no longer kept; the first one kept is {first_offset}")]
    BelowFirst {
        /// What was to be read.
        wanted: Offset,
        /// The first offset that is kept.
        first_offset: Offset,
    },
    /// The stream was deleted and made anew while it was read.
    #[error("the stream was deleted and made anew: it has the id {found} now, and had {known}")]
    Replaced {
        /// The id so far.
        known: StreamId,
        /// The id now.
        found: StreamId,
    },
    /// What came is not the next batch of the stream: something between here and storage is broken.
    #[error("at offset {offset}: {reason}")]
    Damaged {
        /// The offset of what should have come.
        offset: Offset,
        /// What is wrong.
        reason: Damage,
    },
    /// A value in several parts is longer than this reader puts together. Reading can go on behind it.
    #[error("the value at offset {offset} has {bytes} bytes, {limit} are taken")]
    ValueTooLong {
        /// The offset of its last part.
        offset: Offset,
        /// Its length.
        bytes: u64,
        /// The reader's limit.
        limit: usize,
    },
}

/// What a request that failed means for who wanted to go on at `next`.
pub(super) fn refused(error: Error, next: Option<Offset>) -> ReadError {
    if let Error::Refused(problem) = &error
        && problem.code == "below_first"
        && let (Some(wanted), Some(first)) = (next, problem.first_offset)
    {
        return ReadError::BelowFirst { wanted, first_offset: Offset(first) };
    }
    error.into()
}

/// What is wrong with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum Damage {
    /// It is not an intact one.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Its checksums are right, and its contents are not.
    #[error(transparent)]
    Malformed(#[from] MalformedBatch),
    /// It begins further on than it should.
    #[error("what comes next begins at offset {0}")]
    Gap(Offset),
}
