//! Sending a request a second time while nobody answers the first.
//!
//! ```text
//!  0 s       3 s                  7.5 s
//!  |---------|------ first -------|------------------- ... until it ends
//!            |- second, 4 s -|    |- third, 4 s -| ...
//! ```
//!
//! A connection may have fallen silent, or storage may be slow, and the sender cannot tell. So the first request is left to
//! go on, which comes through where storage is slow, and beside it there is always one that finds out whether a new
//! connection is any better.

use std::future::Future;
use std::pin::pin;

use futures::future::{Either, select};

use super::StorageError;
use crate::env::Env;
use crate::limits::{
    AZURE_LARGE_SECOND_AFTER, AZURE_SECOND_PAUSE, AZURE_SECOND_TIME, AZURE_SMALL_BYTES,
    AZURE_SMALL_SECOND_AFTER,
};

/// Waits for a request that may be carried out twice, at any time, and moves so many bytes. While it has no answer it is
/// sent again, one at a time, each after `anew`. The first definite outcome counts; where the first request ends without
/// one, so does this.
pub async fn twice<T, F>(
    env: &Env,
    bytes: usize,
    mut anew: impl FnMut(),
    request: impl Fn() -> F,
) -> Result<T, StorageError>
where
    F: Future<Output = Result<T, StorageError>>,
{
    let after = if bytes <= AZURE_SMALL_BYTES { AZURE_SMALL_SECOND_AFTER } else { AZURE_LARGE_SECOND_AFTER };
    let again = async {
        env.clock.sleep(after).await;
        loop {
            anew();
            env.sent_again.add(1);
            match env.timeout(AZURE_SECOND_TIME, Box::pin(request())).await {
                Ok(Err(StorageError::Unavailable(_))) | Err(_) => {}
                Ok(definite) => return definite,
            }
            env.clock.sleep(AZURE_SECOND_PAUSE).await;
        }
    };
    match select(Box::pin(request()), pin!(again)).await {
        Either::Left((outcome, _)) | Either::Right((outcome, _)) => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Sends a request whose n-th copy takes `times[n]` seconds and has `outcomes[n]`; the last of each is every further
    /// one's. Answers the outcome, the time it took, and how many copies there were.
    async fn send(
        times: &[u32],
        outcomes: &[Result<u32, StorageError>],
    ) -> (Result<u32, StorageError>, f32, u32) {
        let (env, sent) = (Env::controlled(1), AtomicU32::new(0));
        let request = || {
            let number = usize::try_from(sent.fetch_add(1, Ordering::SeqCst)).unwrap();
            let (time, outcome) =
                (times[number.min(times.len() - 1)], &outcomes[number.min(outcomes.len() - 1)]);
            let slept = env.clock.sleep(time * SECOND);
            async move {
                slept.await;
                outcome.clone()
            }
        };
        let outcome = twice(&env, 1 << 20, || (), request).await;
        (outcome, env.clock.monotonic().as_secs_f32(), sent.load(Ordering::SeqCst))
    }

    fn away() -> Result<u32, StorageError> {
        Err(StorageError::Unavailable("away".to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_answered_soon_is_sent_once() {
        assert_eq!(send(&[2], &[Ok(1)]).await, (Ok(1), 2.0, 1));
        assert_eq!(send(&[2], &[away()]).await, (away(), 2.0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_fell_silent_costs_three_seconds() {
        let (outcome, took, sent) = send(&[1_000, 0], &[Ok(1), Ok(2)]).await;
        assert_eq!((outcome, sent), (Ok(2), 2));
        assert!((3.0..3.1).contains(&took), "{took}");
        // A refusal is as definite.
        let refused = Err(StorageError::PreconditionFailed);
        assert_eq!(send(&[1_000, 0], &[Ok(1), refused.clone()]).await.0, refused);
    }

    #[tokio::test(start_paused = true)]
    async fn while_storage_is_away_there_is_always_one_that_would_find_it_back() {
        let (outcome, took, sent) =
            send(&[1_000, 1_000, 1_000, 0, 1_000], &[Ok(1), Ok(2), Ok(3), Ok(4)]).await;
        assert_eq!((outcome, sent), (Ok(4), 4));
        assert!((11.9..12.1).contains(&took), "{took}");
        let (outcome, took, sent) = send(&[1_000, 0, 0, 0], &[Ok(1), away(), away(), Ok(4)]).await;
        assert_eq!((outcome, sent), (Ok(4), 4));
        assert!((3.9..4.1).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_again_is_counted() {
        let env = Env::controlled(1);
        let slow = || async {
            env.clock.sleep(6 * SECOND).await;
            Ok(1)
        };
        twice(&env, 0, || (), slow).await.unwrap();
        // After 1 s, and after 5.5 s.
        assert_eq!(env.sent_again.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_storage_answers_the_first() {
        assert_eq!(send(&[20], &[Ok(1)]).await, (Ok(1), 20.0, 5));
        assert_eq!(send(&[20, 0], &[away(), away()]).await.0, away(), "it is given up when the first one is");
    }
}
