//! One look at storage for many who ask at the same time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::env::Env;

/// Shares the outcome of a look among all who asked before it began.
#[derive(Debug)]
pub(crate) struct Fresh<T> {
    begun: AtomicU64,
    done: Mutex<Option<Done<T>>>,
}

#[derive(Debug)]
struct Done<T> {
    number: u64,
    began: Duration,
    outcome: T,
}

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        Self { begun: AtomicU64::new(0), done: Mutex::new(None) }
    }
}

impl<T: Clone> Fresh<T> {
    /// The outcome of a look that begins after this was called, or began at most `may_be_old` before.
    pub(crate) async fn get(&self, env: &Env, may_be_old: Duration, look: impl AsyncFnOnce() -> T) -> T {
        let asked = env.clock.monotonic();
        let wanted = self.begun.load(Ordering::SeqCst) + 1;
        let mut done = self.done.lock().await;
        if let Some(done) = &*done
            && (done.number >= wanted || asked < done.began + may_be_old)
        {
            return done.outcome.clone();
        }
        // Whoever gives up in the middle leaves a number without an outcome.
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let began = env.clock.monotonic();
        let outcome = look().await;
        *done = Some(Done { number, began, outcome: outcome.clone() });
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_while_a_look_is_under_way_share_the_next() {
        let (env, fresh) = (Env::controlled(1), Arc::new(Fresh::default()));
        let looks = Arc::new(AtomicU64::new(0));
        let ask = || {
            let (env, fresh, looks) = (env.clone(), Arc::clone(&fresh), Arc::clone(&looks));
            tokio::spawn(async move {
                let clock = Arc::clone(&env.clock);
                let look = async || {
                    clock.sleep(SECOND).await;
                    looks.fetch_add(1, Ordering::SeqCst) + 1
                };
                fresh.get(&env, Duration::ZERO, look).await
            })
        };
        let first = ask();
        env.clock.sleep(SECOND / 2).await;
        let later: Vec<_> = (0..10).map(|_| ask()).collect();
        assert_eq!(first.await.unwrap(), 1);
        for asked in later {
            assert_eq!(asked.await.unwrap(), 2, "the first look began before they asked");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outcome_serves_as_long_as_it_may_be_old() {
        let (env, fresh) = (Env::controlled(1), Fresh::default());
        assert_eq!(fresh.get(&env, SECOND, async || 1).await, 1);
        env.clock.sleep(SECOND / 2).await;
        assert_eq!(fresh.get(&env, SECOND, async || 2).await, 1);
        assert_eq!(fresh.get(&env, Duration::ZERO, async || 3).await, 3);
        env.clock.sleep(2 * SECOND).await;
        assert_eq!(fresh.get(&env, SECOND, async || 4).await, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_leaves_the_look_to_others() {
        let (env, fresh) = (Env::controlled(1), Fresh::default());
        let never = fresh.get(&env, Duration::ZERO, async || std::future::pending().await);
        assert!(env.timeout(SECOND, never).await.is_err());
        assert_eq!(fresh.get(&env, Duration::ZERO, async || 5).await, 5);
    }
}
