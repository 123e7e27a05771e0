//! Sends one Put Page until its outcome is definite.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use vault_format::ids::Position;

use crate::env::Env;
use crate::log::reign::Reign;
use crate::log::retry::Backoff;
use crate::metrics::log::StreamMetrics;
use crate::storage::{BlobName, Storage, StorageError};

/// How a put ended. There is no other way: anything else is sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PutOutcome {
    Stored,
    /// Another leader has claimed the segment.
    Outrun,
    /// The segment does not exist any more.
    Gone,
}

/// Why storage does not take a put at the moment, for status pages and to refuse what would only wait behind it.
pub(crate) type Stalled = Arc<Mutex<Option<StorageError>>>;

pub(crate) struct PutSender {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) env: Env,
    pub(crate) blob: BlobName,
    pub(crate) reign: Reign,
    pub(crate) stalled: Stalled,
    pub(crate) metrics: Arc<StreamMetrics>,
}

impl PutSender {
    /// Sends the same bytes to the same place, so that a copy which lands late changes nothing.
    pub(crate) async fn send(self, position: Position, bytes: Bytes) -> PutOutcome {
        let sent = self.env.clock.monotonic();
        let mut backoff = Backoff::default();
        let mut troubled = false;
        loop {
            let fence = self.reign.term;
            #[cfg(feature = "canaries")]
            let fence = if vault_format::canary::Canary::NoFencing.is_on() {
                self.storage.properties(&self.blob).await.map_or(fence, |found| found.sequence_number)
            } else {
                fence
            };
            let answer = self.storage.put_pages(&self.blob, position, bytes.clone(), fence, None).await;
            match answer {
                Ok(()) => {
                    if troubled {
                        tracing::info!(blob = %self.blob, %position, "storage takes writes again");
                        self.show(None);
                    }
                    self.metrics.put_stored(self.env.clock.monotonic().saturating_sub(sent));
                    return PutOutcome::Stored;
                }
                Err(StorageError::PreconditionFailed | StorageError::LeaseHeld) => return PutOutcome::Outrun,
                // A successor's retention may have deleted the segment.
                Err(StorageError::NotFound) => {
                    return match self.reign.in_force(&self.storage, &self.env, None).await {
                        Ok(true) => PutOutcome::Gone,
                        Ok(false) | Err(_) => PutOutcome::Outrun,
                    };
                }
                Err(error) => {
                    if !troubled {
                        tracing::warn!(blob = %self.blob, %position, %error, "a write failed and is sent until it succeeds");
                    }
                    troubled = true;
                    self.show(Some(error));
                    backoff.wait(&self.env).await;
                }
            }
        }
    }

    fn show(&self, trouble: Option<StorageError>) {
        *self.stalled.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}
