//! How requests to storage have ended, by operation: what was answered, and how long it took.

use std::time::Duration;

use prometheus::Histogram;

use super::StorageError;
use super::operation::Operation;
use crate::metrics::families::{SECONDS, STORAGE_SECONDS};
use crate::metrics::{Count, histogram};

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Ok,
    NotFound,
    AlreadyExists,
    PreconditionFailed,
    LeaseHeld,
    Full,
    Refused,
    Unavailable,
    /// Nobody waited for the answer any longer.
    Abandoned,
}

impl Outcome {
    pub(crate) const ALL: [Self; 9] = [
        Self::Ok,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PreconditionFailed,
        Self::LeaseHeld,
        Self::Full,
        Self::Refused,
        Self::Unavailable,
        Self::Abandoned,
    ];

    fn of(error: Option<&StorageError>) -> Self {
        match error {
            None => Self::Ok,
            Some(StorageError::NotFound) => Self::NotFound,
            Some(StorageError::AlreadyExists) => Self::AlreadyExists,
            Some(StorageError::PreconditionFailed) => Self::PreconditionFailed,
            Some(StorageError::LeaseHeld) => Self::LeaseHeld,
            Some(StorageError::Full(_)) => Self::Full,
            Some(StorageError::Refused(_)) => Self::Refused,
            Some(StorageError::Unavailable(_)) => Self::Unavailable,
        }
    }

    /// Its word in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::PreconditionFailed => "precondition_failed",
            Self::LeaseHeld => "lease_held",
            Self::Full => "full",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Abandoned => "abandoned",
        }
    }
}

/// What has ended, of every operation.
#[derive(Debug)]
pub(crate) struct Ended([OfOne; Operation::ALL.len()]);

#[derive(Debug)]
struct OfOne {
    outcomes: [Count; Outcome::ALL.len()],
    /// Of those that were answered.
    seconds: Histogram,
}

impl Default for Ended {
    fn default() -> Self {
        Self(std::array::from_fn(|_| OfOne {
            outcomes: std::array::from_fn(|_| Count::default()),
            seconds: histogram(&STORAGE_SECONDS, SECONDS),
        }))
    }
}

impl Ended {
    /// A request is sent. It counts as abandoned when the answer goes without having been told.
    pub(crate) fn begin(&self, operation: Operation) -> Ending<'_> {
        Ending { of: &self.0[operation as usize], outcome: Outcome::Abandoned }
    }

    /// How many requests of each operation have ended so, those alone that there were.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (Operation, Outcome, u64)> + '_ {
        Operation::ALL.into_iter().flat_map(|operation| {
            let of = &self.0[operation as usize];
            let all = Outcome::ALL.into_iter();
            all.map(move |outcome| (operation, outcome, of.outcomes[outcome as usize].get()))
                .filter(|(.., count)| *count > 0)
        })
    }

    /// How long the answers of each operation took.
    pub(crate) fn seconds(&self) -> impl Iterator<Item = (Operation, &Histogram)> {
        Operation::ALL.into_iter().map(|operation| (operation, &self.0[operation as usize].seconds))
    }
}

/// A request on its way.
pub(crate) struct Ending<'a> {
    of: &'a OfOne,
    outcome: Outcome,
}

impl Ending<'_> {
    /// It was answered, with this error if any, after so long.
    pub(crate) fn answered(mut self, error: Option<&StorageError>, took: Duration) {
        self.outcome = Outcome::of(error);
        self.of.seconds.observe(took.as_secs_f64());
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.of.outcomes[self.outcome as usize].add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_apart_and_what_nobody_waits_for_counts_too() {
        let ended = Ended::default();
        ended.begin(Operation::Read).answered(None, Duration::from_millis(2));
        ended.begin(Operation::Read).answered(Some(&StorageError::NotFound), Duration::from_millis(2));
        drop(ended.begin(Operation::Read));
        ended.begin(Operation::Read).answered(None, Duration::from_millis(2));
        let outcomes: Vec<_> = ended
            .outcomes()
            .map(|(operation, outcome, count)| (operation, outcome.as_str(), count))
            .collect();
        let read = Operation::Read;
        assert_eq!(outcomes, [(read, "ok", 2), (read, "not_found", 1), (read, "abandoned", 1)]);
        let answered: u64 = ended.seconds().map(|(_, seconds)| seconds.get_sample_count()).sum();
        assert_eq!(answered, 3, "what was abandoned has no duration");
    }
}
