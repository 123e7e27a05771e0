//! Appending: what a request must pass before the writer gets it, and waiting for what comes of it.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};
use vault_format::ids::Offset;
use vault_format::limits::MAX_RUN_BYTES;
use vault_format::record::stamp_of;

use super::{OpenStream, Stream};
use crate::limits::{MIN_REQUEST_COST, QUEUE_BYTES_PER_STREAM};
use crate::log::appender::Appended;
use crate::log::error::{AppendError, Unusable};
use crate::log::rate::{Rate, TooFast};
use crate::log::writer::AppendRequest;
use crate::storage::StorageError;
use crate::traces;

const STREAM_FULL: &str = "the stream has too much waiting to be written";
const SERVER_FULL: &str = "the server has too much waiting to be written";
const SHARE_FULL: &str = "the stream has more waiting to be written than is left for all others";

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
        // First of all, before anything is waited for: from here on the records count as queued.
        let permits = self.queue_up(append.records.len())?;
        let open = self.opened(patience).await?;
        if let Some(fault) = open.fault() {
            return Err(Unusable::from(fault).into());
        }
        if let Some(StorageError::Full(why)) = open.reader.shown.stalled() {
            return Err(AppendError::StorageFull(why));
        }
        let max_bytes = self.policy.borrow().max_bytes;
        let mut no_room = None;
        if let Some(max_bytes) = max_bytes
            && !self.has_room(&open, max_bytes, patience).await?
        {
            // What a producer sends again may be stored already, and needs no room: its turn tells.
            if stamp_of(&append.records).is_none() {
                return Err(AppendError::StreamFull { max_bytes });
            }
            no_room = Some(max_bytes);
        }
        let bytes = append.records.len();
        self.rate()
            .take(bytes, env.clock.monotonic())
            .map_err(|TooFast { retry_after_seconds }| AppendError::RateExceeded { retry_after_seconds })?;
        let left = patience.saturating_sub(env.clock.monotonic() - started);
        let outcome = self.hand_over(&open, append, no_room, permits, left).await;
        if !matches!(outcome, Ok(_) | Err(AppendError::Unknown(_))) {
            self.rate().give_back(bytes);
        }
        outcome
    }

    /// Takes room in the queues of the stream and of the server. A stream may have as much waiting as is left for all
    /// others, so that a few on which more comes in than storage takes cannot keep the others from being written to.
    fn queue_up(&self, bytes: usize) -> Result<[OwnedSemaphorePermit; 2], AppendError> {
        let cost = bytes.max(MIN_REQUEST_COST);
        let cost_permits = u32::try_from(cost).expect("a request is at most 3 MiB");
        let take = |queue: &Arc<Semaphore>, why| match Arc::clone(queue).try_acquire_many_owned(cost_permits)
        {
            Ok(permit) => Ok(permit),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => Err(AppendError::QueueFull(why)),
        };
        let permits = [take(&self.queue, STREAM_FULL)?, take(&self.context.queue, SERVER_FULL)?];
        let waiting = QUEUE_BYTES_PER_STREAM - self.queue.available_permits();
        if waiting > cost && waiting > self.context.queue.available_permits() {
            return Err(AppendError::QueueFull(SHARE_FULL));
        }
        Ok(permits)
    }

    /// Whether what is stored and what is queued, this append included, is within the stream's limit.
    async fn has_room(
        &self,
        open: &OpenStream,
        max_bytes: u64,
        patience: Duration,
    ) -> Result<bool, AppendError> {
        let queued = (QUEUE_BYTES_PER_STREAM - self.queue.available_permits()) as u64;
        let Some(most) = max_bytes.checked_sub(queued) else { return Ok(false) };
        let fits = self.context.env.timeout(patience, open.reader.holds_at_most(most)).await;
        Ok(fits.unwrap_or(Err(Unusable::TimedOut))?)
    }

    /// Gives an append to the writer and waits for what comes of it.
    async fn hand_over(
        &self,
        open: &OpenStream,
        append: Append,
        no_room: Option<u64>,
        permits: [OwnedSemaphorePermit; 2],
        patience: Duration,
    ) -> Result<Appended, AppendError> {
        let (reply, answer) = oneshot::channel();
        let Append { records, record_count, expected_offset } = append;
        let span = traces::current();
        let request = AppendRequest {
            records,
            record_count,
            expected_offset,
            no_room,
            early_until: None,
            reply,
            span,
            permits,
        };
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
