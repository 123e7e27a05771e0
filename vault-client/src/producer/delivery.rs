//! One run, sent until it is stored or cannot be.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::sync::watch;

use super::queue::Pending;
use crate::client::{Appended, Client};
use crate::error::{Error, SideEffects};
use crate::retry::Retries;

/// How long a request whose predecessors are still on their way waits for them before it is sent again.
const GAP_WAIT: Duration = Duration::from_millis(200);

/// How far the deliveries of an epoch are, for those that come behind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// All requests before this sequence are stored.
    pub(super) settled: u64,
    /// One has failed: there is no sense in going on.
    pub(super) halted: bool,
}

/// A request that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// Whether any of the attempts may have been carried out.
    pub(super) side_effects: SideEffects,
}

pub(super) struct Delivery {
    pub(super) client: Client,
    pub(super) request: Result<Request<Bytes>, Error>,
    /// The request's number, where its producer counts them.
    pub(super) sequence: Option<u64>,
    pub(super) retry_time: Duration,
    pub(super) progress: watch::Receiver<Progress>,
}

impl Delivery {
    /// Sends the run, again and again where that makes sense.
    pub(super) async fn run(mut self, pending: Pending) -> (Pending, Result<Appended, Failure>) {
        let mut side_effects = SideEffects::None;
        let outcome = self.deliver(&mut side_effects).await;
        (pending, outcome.map_err(|error| Failure { error, side_effects }))
    }

    async fn deliver(&mut self, side_effects: &mut SideEffects) -> Result<Appended, Error> {
        let request = self.request.clone()?;
        let mut retries = Retries::new(Some(self.retry_time));
        loop {
            let error = match self.client.try_append(&request).await {
                Ok(appended) => return Ok(appended),
                Err(error) => error,
            };
            if error.side_effects() == SideEffects::Possible {
                *side_effects = SideEffects::Possible;
            }
            let Some(sequence) = self.sequence else {
                if *side_effects == SideEffects::Possible {
                    return Err(error);
                }
                retries.pause(error).await?;
                continue;
            };
            if self.progress.borrow().halted {
                return Err(error);
            }
            if error.code() == Some("producer_gap") && self.progress.borrow().settled < sequence {
                // It overtook the one before it on another connection. That one is sent for so long as it may be, and then
                // halts this one: the wait ends with it.
                let arrived = |progress: &Progress| progress.settled >= sequence || progress.halted;
                let _ = tokio::time::timeout(GAP_WAIT, self.progress.wait_for(arrived)).await;
                continue;
            }
            let halted = async {
                let _ = self.progress.wait_for(|progress| progress.halted).await;
            };
            let last = error.clone();
            tokio::select! {
                paused = retries.pause(error) => paused?,
                () = halted => return Err(last),
            }
        }
    }
}
