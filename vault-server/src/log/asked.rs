//! Listings that somebody asks for, beside those that come by themselves: one serves all who asked before it began.
//!
//! ```text
//!   ask ---> asked 7 --+                         +--> ended {served: 7} ---> answered
//!   ask ---> asked 8 --+--> listing begins at 8 --+--> ended {served: 8} ---> answered
//!                             ask ---> asked 9, served by the next one
//! ```

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::env::Env;
use crate::limits::ASKED_LISTINGS_APART;
use crate::storage::StorageError;

/// How the newest listing that has ended did end.
#[derive(Clone, Debug)]
struct Ended {
    /// How many had asked before it began.
    served: u64,
    outcome: Result<(), StorageError>,
}

/// Who has asked for a listing, and which have ended. One task at a time lists.
#[derive(Debug)]
pub(crate) struct AskedListings {
    asked: watch::Sender<u64>,
    ended: watch::Sender<Ended>,
    /// When the newest listing began, on the monotonic clock.
    began: Mutex<Option<Duration>>,
}

/// A listing that has begun.
#[derive(Debug)]
pub(crate) struct Listing {
    serves: u64,
}

impl Default for AskedListings {
    fn default() -> Self {
        Self {
            asked: watch::Sender::new(0),
            ended: watch::Sender::new(Ended { served: 0, outcome: Ok(()) }),
            began: Mutex::default(),
        }
    }
}

impl AskedListings {
    /// Asks for a listing, and waits until one that began after this has ended.
    pub(crate) async fn ask(&self) -> Result<(), StorageError> {
        let mut ours = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            ours = *asked;
        });
        let mut ended = self.ended.subscribe();
        match ended.wait_for(|ended| ended.served >= ours).await {
            Ok(ended) => ended.outcome.clone(),
            Err(_) => unreachable!("the sender is here"),
        }
    }

    /// Waits until somebody has asked whom no listing has served, and the one before began long enough ago.
    pub(crate) async fn until_asked(&self, env: &Env) {
        let served = self.ended.borrow().served;
        // The sender lives as long as this.
        let _ = self.asked.subscribe().wait_for(|asked| *asked > served).await;
        let began = *self.began.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(began) = began {
            let due = began + ASKED_LISTINGS_APART;
            env.clock.sleep(due.saturating_sub(env.clock.monotonic())).await;
        }
    }

    /// A listing begins. One that never ends serves nobody.
    pub(crate) fn begin(&self, env: &Env) -> Listing {
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = Some(env.clock.monotonic());
        Listing { serves: *self.asked.borrow() }
    }

    pub(crate) fn end(&self, listing: &Listing, outcome: Result<(), StorageError>) {
        self.ended.send_replace(Ended { served: listing.serves, outcome });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const LISTING: Duration = Duration::from_millis(400);

    #[tokio::test(start_paused = true)]
    async fn who_asks_is_served_by_a_listing_that_begins_afterwards_and_others_share_it() {
        let env = Env::controlled(1);
        let asked = Arc::new(AskedListings::default());
        let listings = Arc::new(AtomicU64::new(0));
        let (lists, counts, clock) = (Arc::clone(&asked), Arc::clone(&listings), env.clone());
        let listing = tokio::spawn(async move {
            loop {
                lists.until_asked(&clock).await;
                let listing = lists.begin(&clock);
                clock.clock.sleep(LISTING).await;
                let number = counts.fetch_add(1, Ordering::SeqCst);
                let outcome = if number == 2 { Err(StorageError::NotFound) } else { Ok(()) };
                lists.end(&listing, outcome);
            }
        });
        let started = env.clock.monotonic();
        let first = tokio::spawn({
            let asked = Arc::clone(&asked);
            async move { asked.ask().await }
        });
        env.clock.sleep(LISTING / 2).await;
        // A listing is under way, which may have seen nothing of what these know of.
        let late = async || {
            let outcome = asked.ask().await;
            (outcome, listings.load(Ordering::SeqCst), env.clock.monotonic() - started)
        };
        let (one, two, three) = tokio::join!(late(), late(), late());
        first.await.unwrap().unwrap();
        assert_eq!(one, (Ok(()), 2, ASKED_LISTINGS_APART + LISTING));
        assert_eq!((&one, &one), (&two, &three));
        assert_eq!(asked.ask().await, Err(StorageError::NotFound));
        assert_eq!(asked.ask().await, Ok(()));
        listing.abort();
    }
}
