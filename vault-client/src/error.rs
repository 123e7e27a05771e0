//! What can go wrong with a request, and whether it may have been carried out all the same.

use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use vault_format::record::InvalidRun;

/// Whether a request that failed may have changed something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SideEffects {
    /// It was not carried out, nor will it be.
    None,
    /// It may have been, or may be later.
    Possible,
}

/// A server's refusal: RFC 9457, with what a program needs to decide what to do. The codes are those of the HTTP API.
#[derive(Clone, PartialEq, Eq, Debug, Error, Deserialize)]
#[error("{detail} ({code})")]
#[non_exhaustive]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// A stable word, such as `stream_not_found`.
    pub code: String,
    /// What is wrong, in a sentence.
    pub detail: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Whether it may have been carried out.
    pub side_effects: SideEffects,
    /// The stream's next offset, where it helps.
    pub next_offset: Option<u64>,
    /// The first offset that is kept, where it helps.
    pub first_offset: Option<u64>,
    /// Where the stream ends, where it helps.
    pub end_offset: Option<u64>,
    /// Which message of the request is wrong, counted from 0.
    pub message_index: Option<u32>,
    /// How long to wait before the request is sent again, if the server said so.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

/// Why a request failed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused it.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The server could not be reached, or the connection broke.
    #[error("{endpoint}: {reason}")]
    Unreachable {
        /// The server's URL.
        endpoint: String,
        /// Why.
        reason: String,
        /// Whether the request may have arrived.
        side_effects: SideEffects,
    },
    /// The server took too long.
    #[error("{endpoint} did not answer within {} s", limit.as_secs())]
    TimedOut {
        /// The server's URL.
        endpoint: String,
        /// How long was waited.
        limit: Duration,
    },
    /// What answers is not a Message Vault server, or one that this client does not understand.
    #[error("{endpoint} gave an answer that makes no sense: {reason}")]
    Nonsense {
        /// The server's URL.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A message breaks a rule.
    #[error(transparent)]
    Message(#[from] InvalidRun),
    /// The client's settings are wrong: a URL, a certificate, a token.
    #[error("{0}")]
    Settings(String),
}

impl Error {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(problem) => problem.retryable,
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Nonsense { .. } | Self::Message(_) | Self::Settings(_) => false,
        }
    }

    /// Whether the request may have been carried out.
    #[must_use]
    pub fn side_effects(&self) -> SideEffects {
        match self {
            Self::Refused(problem) => problem.side_effects,
            Self::Unreachable { side_effects, .. } => *side_effects,
            Self::TimedOut { .. } | Self::Nonsense { .. } => SideEffects::Possible,
            Self::Message(_) | Self::Settings(_) => SideEffects::None,
        }
    }

    /// The server's word for it, where it was the server that refused.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) => Some(&problem.code),
            _ => None,
        }
    }

    /// How long the server asked to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(problem) => problem.retry_after,
            _ => None,
        }
    }
}
