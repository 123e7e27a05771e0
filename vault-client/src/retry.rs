//! When a request is sent again, and for how long. The only such loop of the client is [`Retries`].

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::jitter;
use crate::error::Error;
use crate::limits::{FIRST_PAUSE, LONGEST_PAUSE};

/// Pauses between the attempts at one request, for so long since the first of them failed. The time of the first attempt does
/// not count: it may have waited for a message, and a reader for who reads.
#[derive(Debug)]
pub(crate) struct Retries {
    time: Option<Duration>,
    next: Duration,
    first_failed: Option<Instant>,
}

impl Retries {
    /// For a request that is sent again for so long, or for ever.
    pub(crate) fn new(time: Option<Duration>) -> Self {
        Self { time, next: FIRST_PAUSE, first_failed: None }
    }

    /// Waits before the next attempt. Gives the error back where the time is over or another attempt makes no sense.
    pub(crate) async fn pause(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_retryable() {
            return Err(error);
        }
        let pause = error.retry_after().unwrap_or_default().max(jitter(self.next));
        let spent = self.first_failed.get_or_insert_with(Instant::now).elapsed();
        if self.time.is_some_and(|time| spent.saturating_add(pause) >= time) {
            return Err(error);
        }
        tracing::debug!(%error, ?pause, "sending it again");
        tokio::time::sleep(pause).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        Ok(())
    }

    /// What comes next begins anew: an attempt has brought something.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SideEffects;

    fn broken() -> Error {
        Error::Unreachable { endpoint: String::new(), reason: String::new(), side_effects: SideEffects::None }
    }

    /// How often a request is sent again, and how long that takes.
    async fn spent(mut retries: Retries, error: Error) -> (u32, Duration) {
        let (begun, mut pauses) = (Instant::now(), 0);
        while retries.pause(error.clone()).await.is_ok() {
            pauses += 1;
        }
        (pauses, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_end_in_time() {
        let (pauses, time) = spent(Retries::new(Some(Duration::from_secs(60))), broken()).await;
        assert!((30..80).contains(&pauses), "{pauses}");
        assert!((57..60).contains(&time.as_secs()), "{time:?}");
        assert_eq!(spent(Retries::new(Some(Duration::ZERO)), broken()).await, (0, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn time_counts_from_the_first_failure() {
        let retries = Retries::new(Some(Duration::from_secs(60)));
        // An attempt that waited for a message, or a reader that nobody polled.
        tokio::time::sleep(Duration::from_secs(300)).await;
        let (pauses, time) = spent(retries, broken()).await;
        assert!(pauses >= 30 && time.as_secs() >= 57, "{pauses} {time:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_end_has_none() {
        for time in [None, Some(Duration::MAX)] {
            let mut retries = Retries::new(time);
            for _ in 0..10_000 {
                retries.pause(broken()).await.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_succeed_is_not_tried_again() {
        let mut retries = Retries::new(None);
        let wrong = Error::Settings("wrong".to_owned());
        assert_eq!(retries.pause(wrong.clone()).await, Err(wrong));
    }
}
