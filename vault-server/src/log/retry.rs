//! The one loop that sends a storage request again.

use std::future::Future;
use std::time::Duration;

use crate::env::Env;
use crate::limits::{RETRY_FIRST_MS, RETRY_LONGEST_MS, STORAGE_PATIENCE};
use crate::storage::StorageError;

/// Waits that double from one try to the next, with jitter.
#[derive(Debug)]
pub(crate) struct Backoff {
    next_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next_ms: RETRY_FIRST_MS }
    }
}

impl Backoff {
    pub(crate) async fn wait(&mut self, env: &Env) {
        env.retries.add(1);
        let wait = env.jitter(Duration::from_millis(self.next_ms));
        self.next_ms = (self.next_ms * 2).min(RETRY_LONGEST_MS);
        env.clock.sleep(wait).await;
    }
}

/// Sends a request that changes nothing, or may be carried out twice, until its outcome is definite or
/// [`STORAGE_PATIENCE`] is over.
pub async fn until_definite<T, F>(env: &Env, mut request: impl FnMut() -> F) -> Result<T, StorageError>
where
    F: Future<Output = Result<T, StorageError>>,
{
    let started = env.clock.monotonic();
    let mut backoff = Backoff::default();
    loop {
        match request().await {
            Err(StorageError::Unavailable(why)) if env.clock.monotonic() - started < STORAGE_PATIENCE => {
                tracing::debug!(why, "storage request is sent again");
                backoff.wait(env).await;
            }
            outcome => return outcome,
        }
    }
}
