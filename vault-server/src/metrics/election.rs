//! What the election counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Count;

/// In the place of a time: there is no lease.
const NONE: u64 = u64::MAX;

/// What one server's part in the election counts.
#[derive(Debug)]
pub(crate) struct ElectionMetrics {
    pub(crate) terms: Count,
    pub(crate) renewed: Count,
    /// Renewals that failed without a word on whether the lease is still held.
    pub(crate) failed: Count,
    /// Leases that turned out to be lost, or that could not be renewed in time.
    pub(crate) lost: Count,
    /// When the last request was sent that took or renewed the lease, in ms on the monotonic clock.
    proven_ms: AtomicU64,
}

impl Default for ElectionMetrics {
    fn default() -> Self {
        let [terms, renewed, failed, lost] = std::array::from_fn(|_| Count::default());
        Self { terms, renewed, failed, lost, proven_ms: AtomicU64::new(NONE) }
    }
}

impl ElectionMetrics {
    /// A request sent at `sent` has taken or renewed the lease.
    pub(crate) fn holds_since(&self, sent: Duration) {
        self.proven_ms.store(u64::try_from(sent.as_millis()).unwrap_or(NONE), Ordering::Relaxed);
    }

    /// The lease is held no longer.
    pub(crate) fn holds_nothing(&self) {
        self.proven_ms.store(NONE, Ordering::Relaxed);
    }

    /// Time since the last request was sent that took or renewed the lease. `None` while it is not held.
    pub(crate) fn lease_age(&self, now: Duration) -> Option<Duration> {
        let proven_ms = self.proven_ms.load(Ordering::Relaxed);
        (proven_ms != NONE).then(|| now.saturating_sub(Duration::from_millis(proven_ms)))
    }
}
