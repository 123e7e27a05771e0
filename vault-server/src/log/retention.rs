//! Retention: which segments are sealed early, and which are deleted. Pure.
//!
//! ```text
//!   oldest                                      open
//!  [ sealed ][ sealed ][ sealed ] ... [ sealed ][ appended to ...
//!  deleted first, whole,                        sealed early, so that what is kept beyond
//!  one at a time                                what was asked for stays a tenth of it
//! ```
//!
//! | module | subject |
//! |---|---|
//! | `ends` | how far sealed segments go |
//! | `overtaken` | readers under whom segments are deleted |

pub(crate) mod ends;
pub(crate) mod overtaken;

use std::fmt;
use std::time::Duration;

use vault_format::ids::Timestamp;

use crate::limits::{RETENTION_LOOK_EVERY, RETENTION_LOOK_PARTS, RETENTION_PARTS};
use crate::log::settings::Settings;

/// How long a stream keeps its messages, and how much it may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Policy {
    /// Messages older than this may go.
    pub(crate) age: Option<Duration>,
    /// What comes before the newest so many bytes may go.
    pub(crate) bytes: Option<u64>,
    /// Appends beyond so many bytes are refused.
    pub(crate) max_bytes: Option<u64>,
}

/// What is known of the oldest segment, a sealed one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Oldest {
    /// When its last message was appended, if that is known.
    pub(crate) last_message: Option<Timestamp>,
    /// The bytes that would remain without it, or fewer where not all sizes are known.
    pub(crate) others_bytes: u64,
}

/// Why a segment is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    /// Its last message is older than `retention_seconds`.
    Age,
    /// Without it at least `retention_bytes` remain.
    Bytes,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Age => "retention_seconds",
            Self::Bytes => "retention_bytes",
        })
    }
}

impl Policy {
    /// What a stream's settings say.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            age: settings.retention_seconds.map(Duration::from_secs),
            bytes: settings.retention_bytes,
            max_bytes: settings.max_bytes,
        }
    }

    /// Whether anything is ever deleted.
    pub(crate) fn retains(&self) -> bool {
        self.age.is_some() || self.bytes.is_some()
    }

    /// How often to look whether something is due.
    pub(crate) fn look_every(&self) -> Duration {
        let (least, most) = RETENTION_LOOK_EVERY.into_inner();
        self.age.map_or(most, |age| (age / RETENTION_LOOK_PARTS).clamp(least, most))
    }

    /// Whether the open segment is sealed because of the age of its first message.
    pub(crate) fn seals_by_age(&self, first_message: Timestamp, now: Timestamp) -> bool {
        let part = |age: Duration| millis(age) / RETENTION_PARTS;
        self.age.is_some_and(|age| now.0.saturating_sub(first_message.0) > part(age))
    }

    /// Whether the open segment is sealed because it is `bytes` long.
    pub(crate) fn seals_by_bytes(&self, bytes: u64) -> bool {
        self.bytes.is_some_and(|kept| bytes > kept / RETENTION_PARTS)
    }

    /// Why the oldest segment may go, if it may.
    pub(crate) fn may_go(&self, oldest: &Oldest, now: Timestamp) -> Option<Reason> {
        let old = |(age, last): (Duration, Timestamp)| now.0.saturating_sub(last.0) > millis(age);
        if self.age.zip(oldest.last_message).is_some_and(old) {
            return Some(Reason::Age);
        }
        self.bytes.filter(|kept| oldest.others_bytes >= *kept).map(|_| Reason::Bytes)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Policy = Policy { age: Some(Duration::from_secs(1_000)), bytes: None, max_bytes: None };
    const BYTES: Policy = Policy { age: None, bytes: Some(1_000), max_bytes: None };

    fn oldest(last_message: u64, others_bytes: u64) -> Oldest {
        Oldest { last_message: Some(Timestamp(last_message)), others_bytes }
    }

    #[test]
    fn a_segment_goes_when_its_last_message_is_older_than_the_age() {
        let may_go = |last, now| AGE.may_go(&oldest(last, 0), Timestamp(now));
        assert_eq!(may_go(5_000, 1_005_000), None);
        assert_eq!(may_go(5_000, 1_005_001), Some(Reason::Age));
        assert_eq!(may_go(5_000, 1_000), None, "a message from the future stays");
        let unknown = Oldest { last_message: None, others_bytes: u64::MAX };
        assert_eq!(AGE.may_go(&unknown, Timestamp(u64::MAX)), None, "what is not known deletes nothing");
    }

    #[test]
    fn a_segment_goes_when_enough_remains_without_it() {
        let may_go = |others| BYTES.may_go(&oldest(0, others), Timestamp(u64::MAX));
        assert_eq!(may_go(999), None);
        assert_eq!(may_go(1_000), Some(Reason::Bytes));
    }

    #[test]
    fn either_is_enough_and_without_both_everything_stays() {
        let both = Policy { bytes: BYTES.bytes, ..AGE };
        assert_eq!(both.may_go(&oldest(0, 0), Timestamp(1_000_001)), Some(Reason::Age));
        assert_eq!(both.may_go(&oldest(0, 1_000), Timestamp(0)), Some(Reason::Bytes));
        assert_eq!(both.may_go(&oldest(0, 999), Timestamp(1_000_000)), None);
        let never = Policy { max_bytes: Some(1), ..Policy::default() };
        assert_eq!(never.may_go(&oldest(0, u64::MAX), Timestamp(u64::MAX)), None);
        assert!(!never.retains() && both.retains());
    }

    #[test]
    fn segments_are_sealed_at_a_tenth() {
        assert!(!AGE.seals_by_age(Timestamp(7), Timestamp(100_007)));
        assert!(AGE.seals_by_age(Timestamp(7), Timestamp(100_008)));
        assert!(!AGE.seals_by_age(Timestamp(7), Timestamp(0)), "a message from the future is young");
        assert!(!BYTES.seals_by_bytes(100) && BYTES.seals_by_bytes(101));
        assert!(!BYTES.seals_by_age(Timestamp(0), Timestamp(u64::MAX)) && !AGE.seals_by_bytes(u64::MAX));
    }

    #[test]
    fn looks_are_neither_too_many_nor_too_few() {
        let every =
            |seconds| Policy { age: Some(Duration::from_secs(seconds)), ..BYTES }.look_every().as_secs();
        assert_eq!([every(10), every(3_000), every(30 * 86_400)], [1, 30, 60]);
        assert_eq!(BYTES.look_every().as_secs(), 60);
    }
}
