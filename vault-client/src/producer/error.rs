//! Why a message was not acknowledged.

use thiserror::Error;
use vault_format::record::InvalidRecord;

use crate::error::{Error, SideEffects};

/// Why a message was not acknowledged, and whether it may be stored all the same.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message breaks a rule of the format. It was not taken, and the producer goes on.
    #[error(transparent)]
    Message(#[from] InvalidRecord),
    /// The value is longer than this producer sends. It was not taken, and the producer goes on.
    #[error("the value has {bytes} bytes, {limit} are allowed")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The request that held the message failed for good. The producer has ended.
    #[error("{error}")]
    Request {
        /// What the last attempt brought.
        error: Error,
        /// Whether one of the attempts may have been carried out.
        side_effects: SideEffects,
    },
    /// A request before the message's failed for good, so that it is not sent: that would break the order.
    #[error("not sent, because what came before it failed: {error}")]
    AfterFailure {
        /// What was wrong with the earlier one.
        error: Error,
        /// Whether an attempt at this one, begun before the other failed, may have been carried out.
        side_effects: SideEffects,
    },
    /// The producer was closed, or dropped before the message was acknowledged.
    #[error("the producer is closed")]
    Closed {
        /// Whether the message was on its way already.
        side_effects: SideEffects,
    },
}

impl SendError {
    /// Whether the message may be stored.
    #[must_use]
    pub fn side_effects(&self) -> SideEffects {
        match self {
            Self::Message(_) | Self::ValueTooLong { .. } => SideEffects::None,
            Self::Request { side_effects, .. }
            | Self::AfterFailure { side_effects, .. }
            | Self::Closed { side_effects } => *side_effects,
        }
    }
}
