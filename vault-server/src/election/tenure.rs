//! How long a leader may believe that it leads, and which term comes next. Pure: times are arguments.

use std::time::Duration;

use vault_format::ids::{Term, Timestamp};

use crate::limits::{LEASE, LEASE_MARGIN, RENEW_AGAIN, RENEW_EVERY};

/// Why a server no longer leads although nobody told it to stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fallen {
    /// Another server has broken the lease, or has taken it after it ran out.
    #[error("another server has taken the lease")]
    LeaseLost,
    /// The blob `leader` is gone.
    #[error("the blob `leader` is gone")]
    LeaderGone,
    /// The lease could not be renewed in time.
    #[error("the lease could not be renewed in time: {0}")]
    LeaseRanOut(String),
    /// Storage refuses what a leader has to do.
    #[error("the storage does not let this server lead: {0}")]
    Storage(String),
}

/// The time up to which a lease is certainly held, counted from the *sending* of the last request that took or renewed
/// it: storage counts from when that arrived, which was later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenure {
    proven: Duration,
    failed: Option<Duration>,
}

impl Tenure {
    /// A lease that was taken by a request sent at `sent`.
    pub(crate) fn taken(sent: Duration) -> Self {
        Self { proven: sent, failed: None }
    }

    /// A renewal that was sent at `sent` has succeeded.
    pub(crate) fn renewed(&mut self, sent: Duration) {
        *self = Self::taken(sent);
    }

    /// A renewal has failed at `now`, without a word on whether the lease is still held.
    pub(crate) fn not_renewed(&mut self, now: Duration) {
        self.failed = Some(now);
    }

    /// When the next renewal is due.
    pub(crate) fn renew_at(&self) -> Duration {
        self.failed.map_or(self.proven + RENEW_EVERY, |failed| failed + RENEW_AGAIN)
    }

    /// When the leader must have stopped unless a renewal succeeds before.
    pub(crate) fn ends(&self) -> Duration {
        self.proven + LEASE - LEASE_MARGIN
    }
}

/// The term to set: above every earlier one that the blob or a segment has shown, at least the Unix time in seconds,
/// and some more by chance.
///
/// Where the blob was put back as it was before, or made anew, higher terms may have been given out: they are often
/// ahead of the clock. One that is lower than those is found out when a segment is claimed; one that is the same is
/// not, and fences could not tell its two holders apart. `None` where there is none any more: only somebody who sets the
/// blob's number by hand gets there.
pub(crate) fn next_term(number: Term, at_least: Term, now: Timestamp, by_chance: u16) -> Option<Term> {
    let least = number.max(at_least).0.checked_add(1)?.max(now.0 / 1_000);
    let term = Term(least.checked_add(u64::from(by_chance))?);
    (term < Term::UNUSED).then_some(term)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_tenure_ends_before_the_lease_can_have_run_out() {
        let mut tenure = Tenure::taken(100 * SECOND);
        assert!(tenure.ends() < 115 * SECOND);
        assert_eq!(tenure.renew_at(), 105 * SECOND);
        tenure.not_renewed(107 * SECOND);
        assert!(
            tenure.renew_at() > 107 * SECOND && tenure.renew_at() <= 108 * SECOND,
            "it is tried again soon"
        );
        assert!(tenure.ends() < 115 * SECOND, "a failure prolongs nothing");
        // Sent at 108 s, answered whenever.
        tenure.renewed(108 * SECOND);
        assert!(tenure.ends() < 123 * SECOND && tenure.ends() > 122 * SECOND);
        assert_eq!(tenure.renew_at(), 113 * SECOND);
    }

    #[test]
    fn terms_rise_whatever_was_restored_and_whatever_the_clock_says() {
        let at = |seconds: u64| Timestamp(seconds * 1_000);
        let next =
            |number, at_least, now| next_term(Term(number), Term(at_least), now, 0).expect("there are more");
        assert_eq!(next(0, 0, at(1_700_000_000)), Term(1_700_000_000));
        assert_eq!(next(1_700_000_000, 0, at(1_700_000_000)), Term(1_700_000_001));
        assert_eq!(next(1_700_000_005, 0, at(5)), Term(1_700_000_006));
        assert_eq!(next(3, 1_800_000_000, at(1_700_000_000)), Term(1_800_000_001));
        assert_eq!(next_term(Term(7), Term(0), at(1), 30), Some(Term(38)));
        assert_eq!(next_term(Term(7), Term(0), at(100), 30), Some(Term(130)));
    }

    #[test]
    fn no_term_reaches_the_number_of_a_segment_that_nobody_has_claimed() {
        let last = Term(Term::UNUSED.0 - 1);
        let next = |number: u64| next_term(Term(number), Term(0), Timestamp(0), 0);
        assert_eq!(next(last.0 - 1), Some(last));
        assert_eq!([next(last.0), next(Term::UNUSED.0), next(u64::MAX)], [None; 3]);
        assert_eq!(next_term(Term(0), last, Timestamp(0), 0), None);
        assert_eq!(next_term(Term(last.0 - 1), Term(0), Timestamp(0), 1), None);
    }
}
