//! Appending: what a request must pass before the writer gets it, and waiting for what comes of it.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};
use vault_format::ids::Offset;
use vault_format::limits::MAX_RUN_BYTES;

use super::{OpenStream, Stream};
use crate::limits::MIN_REQUEST_COST;
use crate::log::appender::Appended;
use crate::log::error::{AppendError, Unusable};
use crate::log::rate::{Rate, TooFast};
use crate::log::writer::AppendRequest;
use crate::storage::StorageError;
use crate::traces;

/// Messages to be appended as one run of consecutive offsets.
#[derive(Clone, Debug)]
pub struct Append {
    /// The records, encoded and checked by [`vault_format::record`], with the stamp of an idempotent producer on the first
    /// where there is one; at most 3 MiB.
    pub records: Bytes,
    /// How many; at least 1.
    pub record_count: u32,
    /// Append only where the stream's next offset is this one.
    pub expected_offset: Option<Offset>,
}

impl Stream {
    /// Appends and waits until the messages are stored, at most for `patience`.
    pub async fn append(
        self: &Arc<Self>,
        append: Append,
        patience: Duration,
    ) -> Result<Appended, AppendError> {
        assert!(append.record_count > 0 && (1..=MAX_RUN_BYTES).contains(&append.records.len()));
        let env = &self.context.env;
        let started = env.clock.monotonic();
        let open = self.opened(patience).await?;
        if let Some(fault) = open.fault() {
            return Err(Unusable::from(fault).into());
        }
        if let Some(StorageError::Full(why)) = open.reader.shown.stalled() {
            return Err(AppendError::StorageFull(why));
        }
        let cost =
            u32::try_from(append.records.len().max(MIN_REQUEST_COST)).expect("a request is at most 3 MiB");
        let take = |semaphore: &Arc<Semaphore>, whose: &'static str| match Arc::clone(semaphore)
            .try_acquire_many_owned(cost)
        {
            Ok(permit) => Ok(permit),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => Err(AppendError::QueueFull(whose)),
        };
        let permits = [take(&self.queue, "the stream")?, take(&self.context.queue, "the server")?];
        let bytes = append.records.len();
        self.rate()
            .take(bytes, env.clock.monotonic())
            .map_err(|TooFast { retry_after_seconds }| AppendError::RateExceeded { retry_after_seconds })?;
        let left = patience.saturating_sub(env.clock.monotonic() - started);
        let outcome = self.hand_over(&open, append, permits, left).await;
        if !matches!(outcome, Ok(_) | Err(AppendError::Unknown(_))) {
            self.rate().give_back(bytes);
        }
        outcome
    }

    /// Gives an append to the writer and waits for what comes of it.
    async fn hand_over(
        &self,
        open: &OpenStream,
        append: Append,
        permits: [OwnedSemaphorePermit; 2],
        patience: Duration,
    ) -> Result<Appended, AppendError> {
        let (reply, answer) = oneshot::channel();
        let Append { records, record_count, expected_offset } = append;
        let span = traces::current();
        let request = AppendRequest { records, record_count, expected_offset, reply, span, permits };
        let requests = open.requests.as_ref().ok_or(Unusable::NoLeader)?;
        requests.send(request).map_err(|_| self.why_not_leading(open))?;
        match self.context.env.timeout(patience, answer).await {
            Ok(Ok(Err(AppendError::Unusable(Unusable::NoLeader)))) => Err(self.why_not_leading(open).into()),
            Ok(Ok(Err(AppendError::Unknown(Unusable::NoLeader)))) => {
                Err(AppendError::Unknown(self.why_not_leading(open)))
            }
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(AppendError::Unknown(self.why_not_leading(open))),
            Err(_) => Err(AppendError::Unknown(Unusable::TimedOut)),
        }
    }

    pub(super) fn rate(&self) -> MutexGuard<'_, Rate> {
        // It is whole between any two of its operations.
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
