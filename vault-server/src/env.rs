//! Time and randomness, as the log is given them: real ones in the server, controlled ones in tests and simulations.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::{BoxFuture, Either, select};
use vault_format::ids::{StreamId, Timestamp};

use crate::metrics::Count;

/// Tells the time and waits.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock. It may jump; nothing that must be ordered relies on it alone.
    fn now(&self) -> Timestamp;

    /// A clock that never runs backwards, from an arbitrary start.
    fn monotonic(&self) -> Duration;

    /// Ends after `duration` on the monotonic clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Gives random bytes.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// What the log takes from its surroundings besides storage.
#[derive(Clone, Debug)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// How often something was waited for that had failed, to try it again.
    pub(crate) retries: Arc<Count>,
    /// How often a request to storage was sent once more beside the first.
    pub(crate) sent_again: Arc<Count>,
}

/// A wait that took longer than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct TimedOut;

impl Env {
    /// The real time and the operating system's randomness.
    #[must_use]
    pub fn real() -> Self {
        Self {
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(SystemEntropy),
            retries: Arc::default(),
            sent_again: Arc::default(),
        }
    }

    /// Runs `future` for at most `limit`.
    pub async fn timeout<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Result<T, TimedOut> {
        match select(pin!(future), self.clock.sleep(limit)).await {
            Either::Left((value, _)) => Ok(value),
            Either::Right(((), _)) => Err(TimedOut),
        }
    }

    /// A new stream id.
    #[must_use]
    pub fn stream_id(&self) -> StreamId {
        let mut id = [0; 16];
        self.entropy.fill(&mut id);
        StreamId(id)
    }

    /// A duration between half of `duration` and all of it, so that many waits do not end at once.
    #[must_use]
    pub fn jitter(&self, duration: Duration) -> Duration {
        let mut byte = [0];
        self.entropy.fill(&mut byte);
        duration / 2 + duration * u32::from(byte[0]) / 512
    }
}

#[derive(Debug)]
struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the real clock")]
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the real clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the real clock")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[derive(Debug)]
struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has randomness");
    }
}

#[cfg(any(test, feature = "testing"))]
mod controlled {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Time as the runtime tells it, which tests can pause, from a fixed date on; randomness from a seed.
    impl Env {
        /// Must be called inside a runtime.
        #[must_use]
        pub fn controlled(seed: u64) -> Self {
            Self {
                clock: Arc::new(RuntimeClock::default()),
                entropy: Arc::new(Seeded(AtomicU64::new(seed))),
                retries: Arc::default(),
                sent_again: Arc::default(),
            }
        }
    }

    #[derive(Debug)]
    struct RuntimeClock {
        started: tokio::time::Instant,
    }

    impl Default for RuntimeClock {
        #[expect(clippy::disallowed_methods, reason = "the runtime's clock is the one that tests control")]
        fn default() -> Self {
            Self { started: tokio::time::Instant::now() }
        }
    }

    const STARTED_MS: u64 = 1_700_000_000_000;

    impl Clock for RuntimeClock {
        fn now(&self) -> Timestamp {
            Timestamp(STARTED_MS + u64::try_from(self.monotonic().as_millis()).unwrap_or(u64::MAX))
        }

        fn monotonic(&self) -> Duration {
            self.started.elapsed()
        }

        #[expect(clippy::disallowed_methods, reason = "the runtime's clock is the one that tests control")]
        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            Box::pin(tokio::time::sleep(duration))
        }
    }

    /// SplitMix64, which needs no more state than a counter.
    #[derive(Debug)]
    struct Seeded(AtomicU64);

    impl Entropy for Seeded {
        fn fill(&self, bytes: &mut [u8]) {
            for chunk in bytes.chunks_mut(8) {
                let mut word = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
                word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                chunk.copy_from_slice(&(word ^ (word >> 31)).to_le_bytes()[..chunk.len()]);
            }
        }
    }
}
