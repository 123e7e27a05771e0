//! How fast one stream may be appended to: a bucket that fills at the stream's rate. Pure.
//!
//! ```text
//! capacity = one second's worth, at least one full request        every append takes the bytes of its records
//!    |==================|                                          out, or is refused and told when to come back
//!    refilled at the rate, never above the capacity
//! ```
//!
//! A full bucket lets any request pass. So a request that waits as long as it is told passes, unless others have taken
//! what came in meanwhile.

use std::time::Duration;

use crate::limits::MIN_APPEND_BURST_BYTES;

const NANOS: u128 = 1_000_000_000;

/// The rate of one stream, and what may be appended at the moment. Times are of one monotonic clock.
#[derive(Clone, Debug)]
pub struct Rate {
    /// `None`: no limit.
    limit: Option<Bucket>,
}

#[derive(Clone, Debug)]
struct Bucket {
    bytes_per_second: u64,
    /// In bytes times [`NANOS`], so that nothing is lost by rounding.
    level: u128,
    /// When `level` was right.
    at: Duration,
}

/// Too much was appended lately.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooFast {
    /// After so many whole seconds, at least 1, the same request passes if no other comes before it.
    pub retry_after_seconds: u64,
}

impl Bucket {
    fn capacity(&self) -> u128 {
        u128::from(self.bytes_per_second.max(MIN_APPEND_BURST_BYTES)) * NANOS
    }

    fn refill(&mut self, now: Duration) {
        let came_in = now.saturating_sub(self.at).as_nanos() * u128::from(self.bytes_per_second);
        self.level = (self.level + came_in).min(self.capacity());
        self.at = self.at.max(now);
    }
}

impl Rate {
    /// A rate in bytes a second, or none, from `now` on. A new bucket is full.
    #[must_use]
    pub fn new(limit: Option<u64>, now: Duration) -> Self {
        let full = |bytes_per_second| {
            let bucket = Bucket { bytes_per_second, level: 0, at: now };
            Bucket { level: bucket.capacity(), ..bucket }
        };
        Self { limit: limit.map(full) }
    }

    /// Another rate from `now` on. What is left stays, as far as the new bucket holds it.
    pub fn set(&mut self, limit: Option<u64>, now: Duration) {
        match (&mut self.limit, limit) {
            (Some(bucket), Some(bytes_per_second)) => {
                bucket.refill(now);
                bucket.bytes_per_second = bytes_per_second;
                bucket.level = bucket.level.min(bucket.capacity());
            }
            _ => *self = Self::new(limit, now),
        }
    }

    /// Takes `bytes` out, all of them or none.
    ///
    /// # Errors
    ///
    /// When to come back, where there is not enough.
    pub fn take(&mut self, bytes: usize, now: Duration) -> Result<(), TooFast> {
        let Some(bucket) = &mut self.limit else { return Ok(()) };
        assert!(bytes as u64 <= MIN_APPEND_BURST_BYTES, "a request fits in a full bucket");
        bucket.refill(now);
        let wanted = bytes as u128 * NANOS;
        match wanted.checked_sub(bucket.level) {
            None | Some(0) => {
                bucket.level -= wanted;
                Ok(())
            }
            Some(missing) => {
                let seconds = missing.div_ceil(u128::from(bucket.bytes_per_second) * NANOS);
                let retry_after_seconds = u64::try_from(seconds).expect("what is missing is at most 3 MiB");
                Err(TooFast { retry_after_seconds })
            }
        }
    }

    /// Puts back what an append took that has stored nothing.
    pub fn give_back(&mut self, bytes: usize) {
        if let Some(bucket) = &mut self.limit {
            bucket.level = (bucket.level + bytes as u128 * NANOS).min(bucket.capacity());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::APPEND_BYTES_PER_SECOND;

    const FULL: usize = 3 << 20;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_full_request_passes_at_the_lowest_rate_and_the_next_waits_as_long_as_it_is_told() {
        let mut rate = Rate::new(Some(1 << 10), at(5));
        rate.take(FULL, at(5)).unwrap();
        let TooFast { retry_after_seconds } = rate.take(FULL, at(5)).unwrap_err();
        assert_eq!(retry_after_seconds, 3 << 10);
        assert_eq!(rate.take(FULL, at(5 + retry_after_seconds - 1)).unwrap_err().retry_after_seconds, 1);
        rate.take(FULL, at(5 + retry_after_seconds)).unwrap();
        assert_eq!(rate.take(1, at(5 + retry_after_seconds)).unwrap_err().retry_after_seconds, 1);
    }

    #[test]
    fn a_high_rate_allows_a_seconds_worth_at_once_and_no_more_after_a_long_pause() {
        let mut rate = Rate::new(Some(4 * FULL as u64), at(0));
        for _ in 0..4 {
            rate.take(FULL, at(1_000)).unwrap();
        }
        assert_eq!(rate.take(1, at(1_000)), Err(TooFast { retry_after_seconds: 1 }));
        rate.take(FULL, at(1_000) + Duration::from_millis(250)).unwrap();
    }

    #[test]
    fn a_change_takes_effect_at_once() {
        let mut rate = Rate::new(None, at(0));
        for _ in 0..100 {
            rate.take(FULL, at(0)).unwrap();
        }
        rate.set(Some(1 << 20), at(1));
        rate.take(FULL, at(1)).unwrap();
        assert_eq!(rate.take(FULL, at(1)), Err(TooFast { retry_after_seconds: 3 }));
        rate.set(Some(3 << 20), at(1));
        assert_eq!(rate.take(FULL, at(1)), Err(TooFast { retry_after_seconds: 1 }));
        rate.give_back(FULL);
        rate.take(FULL, at(1)).unwrap();
        // Until the change what came in came at the earlier rate.
        rate.set(Some(1 << 20), at(1));
        rate.set(Some(3 << 20), at(2));
        assert_eq!(rate.take(2 << 20, at(2)), Err(TooFast { retry_after_seconds: 1 }));
        rate.take(1 << 20, at(2)).unwrap();
        rate.set(None, at(2));
        rate.take(FULL, at(2)).unwrap();
    }

    proptest! {
        /// What passes in any stretch of time is at most the burst and what came in.
        #[test]
        fn no_more_passes_than_the_rate_and_the_burst_allow(
            limit in APPEND_BYTES_PER_SECOND,
            steps in prop::collection::vec((0_u64..5_000, 1..=FULL), 1..100),
        ) {
            let mut rate = Rate::new(Some(limit), Duration::ZERO);
            let (mut now, mut passed) = (Duration::ZERO, 0_u128);
            for (pause_ms, bytes) in steps {
                now += Duration::from_millis(pause_ms);
                match rate.take(bytes, now) {
                    Ok(()) => passed += bytes as u128,
                    Err(TooFast { retry_after_seconds }) => {
                        let mut later = rate.clone();
                        prop_assert!(later.take(bytes, now + at(retry_after_seconds)).is_ok());
                        if retry_after_seconds > 1 {
                            let mut sooner = rate.clone();
                            prop_assert!(sooner.take(bytes, now + at(retry_after_seconds - 1)).is_err());
                        }
                    }
                }
                let allowed = u128::from(limit.max(FULL as u64)) * NANOS + now.as_nanos() * u128::from(limit);
                prop_assert!(passed * NANOS <= allowed);
            }
        }
    }
}
