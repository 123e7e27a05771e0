//! What metrics tell of one stream: all that is known without asking storage.

use std::sync::Arc;
use std::time::Duration;

use vault_format::ids::{Offset, Timestamp};

use super::{Condition, State, Stream};
use crate::metrics::log::Reading;

/// One stream at a moment.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) condition: Condition,
    pub(crate) appended_messages: u64,
    pub(crate) appended_bytes: u64,
    /// `None` while the stream is not open.
    pub(crate) extent: Option<Extent>,
    /// On a follower that has the stream open: how old is what it knows of the tail.
    pub(crate) tail_age: Option<Duration>,
}

/// From where to where an open stream goes.
#[derive(Debug)]
pub(crate) struct Extent {
    pub(crate) first_offset: Offset,
    pub(crate) next_offset: Offset,
    /// Of the last message. `None` while there was none.
    pub(crate) last_timestamp: Option<Timestamp>,
    /// From the first segment to the tail.
    pub(crate) stored_bytes: u64,
}

impl Stream {
    /// What is known of the stream now.
    pub(crate) fn measured(&self) -> Measured {
        let condition = self.status().condition;
        let open = match &*self.state.borrow() {
            State::Open(open) | State::Following(open) => Some(Arc::clone(open)),
            State::Closed | State::Opening { .. } | State::Faulted(_) | State::Deleted => None,
        };
        let now = self.context.env.clock.monotonic();
        Measured {
            condition,
            appended_messages: self.metrics.messages.get(),
            appended_bytes: self.metrics.bytes.get(),
            extent: open.as_ref().map(|open| {
                let tail = open.reader.tail();
                Extent {
                    first_offset: open.reader.first_offset(),
                    next_offset: tail.next_offset(),
                    last_timestamp: tail.last_timestamp(),
                    stored_bytes: open.reader.size().1,
                }
            }),
            tail_age: open.and_then(|open| open.follower.as_ref().map(|follower| follower.age(now))),
        }
    }

    /// Counts a read of this stream for as long as the answer lives.
    pub(crate) fn begin_reading(&self) -> Reading {
        Reading::begin(&self.context.metrics)
    }
}

impl Condition {
    /// Its word in answers and metrics.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Stalled => "stalled",
            Self::Corrupt => "corrupt",
            Self::DataMissing => "data_missing",
            Self::TwoAccounts => "two_accounts",
            Self::FormatTooNew => "format_too_new",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_have_one_word_everywhere() {
        for condition in [
            Condition::Closed,
            Condition::Opening,
            Condition::Open,
            Condition::Stalled,
            Condition::Corrupt,
            Condition::DataMissing,
            Condition::TwoAccounts,
            Condition::FormatTooNew,
        ] {
            assert_eq!(serde_json::to_value(&condition).unwrap(), condition.as_str());
        }
    }
}
