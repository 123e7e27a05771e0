//! The leader's page: rewritten every second, so that followers see that the leader lives.
//!
//! A write that was not answered may land late, and must not take back what a later one says: that a stream is about to be
//! deleted, above all. So each names the state that the page must be in:
//!
//! ```text
//!   state 1 -- beat 7, if 1 --> state 2 -- beat 8, if 2, no answer --> 2 or 3? look -- beat 9, if 3 --> state 4
//!                                                                   a copy of beat 8, if 2: refused
//! ```

use std::time::Duration;

use bytes::Bytes;
use vault_format::ids::Term;
use vault_format::leader::{LeaderPage, LeaderState};

use super::Seat;
use crate::limits::{BEAT_AGAIN, BEAT_EVERY, LEADER_BYTES};
use crate::storage::{BlobRead, ETag, LeaseId, StorageError};

/// The page under one term.
pub(super) struct Page<'a> {
    seat: &'a Seat,
    term: Term,
    lease: &'a LeaseId,
    /// How often it was written.
    beat: u64,
    /// The state that it is in, unless a write is on its way or was not answered.
    state: Option<ETag>,
}

impl<'a> Page<'a> {
    pub(super) fn new(seat: &'a Seat, term: Term, lease: &'a LeaseId) -> Self {
        Self { seat, term, lease, beat: 0, state: None }
    }

    /// Rewrites the page every second, at once where storage takes longer than that or the set of streams has changed. Ends
    /// where that proves that another leads, or nobody can.
    pub(super) async fn beat_on(&mut self) -> StorageError {
        let seat = self.seat;
        let (context, clock) = (seat.context(), &seat.env().clock);
        let mut changes = context.changes.subscribe();
        let mut troubled = false;
        loop {
            let current = *changes.borrow_and_update();
            let began = clock.monotonic();
            let rest = match self.write(LeaderState::Leading, current).await {
                Ok(()) => {
                    context.announced.send_replace(Some(current));
                    if std::mem::take(&mut troubled) {
                        tracing::info!("storage shows again that this server lives");
                    }
                    BEAT_EVERY.saturating_sub(clock.monotonic() - began)
                }
                // The lease tells in time whether this server may go on.
                Err(
                    error @ (StorageError::Unavailable(_) | StorageError::Full(_) | StorageError::Refused(_)),
                ) => {
                    if !std::mem::replace(&mut troubled, true) {
                        tracing::warn!(%error, "cannot show that this server lives, trying again");
                    }
                    // Another such wait after one for an answer, and a follower would take this server for dead.
                    BEAT_AGAIN
                }
                Err(error) => return error,
            };
            tokio::select! {
                () = rested(seat, current, rest) => {}
                // The sender lives as long as the vault.
                _ = changes.changed() => {}
            }
        }
    }

    /// Says that nobody leads any more. What was on its way when this server was told to end may come in between.
    pub(super) async fn free(&mut self) -> Result<(), StorageError> {
        let changes = *self.seat.context().changes.borrow();
        match self.write(LeaderState::Free, changes).await {
            Err(StorageError::Unavailable(_)) if self.state.is_some() => {
                self.write(LeaderState::Free, changes).await
            }
            freed => freed,
        }
    }

    async fn write(&mut self, state: LeaderState, changes: u64) -> Result<(), StorageError> {
        let before = match self.state.take() {
            Some(state) => state,
            None => self.look().await?.etag,
        };
        self.beat += 1;
        let (endpoint, deleting) = (self.seat.candidacy.endpoint.clone(), self.seat.vault.is_deleting());
        let page = LeaderPage { state, term: self.term, beat: self.beat, changes, deleting, endpoint };
        let page = Bytes::from(page.encode());
        let storage = self.seat.storage();
        match storage.rewrite_page(&self.seat.blob, page.clone(), self.term, &before, self.lease).await {
            Ok(after) => {
                self.state = Some(after);
                Ok(())
            }
            Err(StorageError::PreconditionFailed) => self.see_why_refused(&before, &page).await,
            Err(error) => Err(error),
        }
    }

    /// A write is refused because the lease is lost, because a copy of it was carried out, or because an earlier one came in
    /// between, whose outcome was unknown.
    async fn see_why_refused(&mut self, before: &ETag, page: &Bytes) -> Result<(), StorageError> {
        let found = self.look().await?;
        if found.etag == *before {
            return Err(StorageError::PreconditionFailed);
        }
        self.state = Some(found.etag);
        if found.bytes == *page {
            return Ok(());
        }
        Err(StorageError::Unavailable("an earlier write to the leader's page has come late".to_owned()))
    }

    /// Reads the page. `PreconditionFailed` where another term was given out.
    async fn look(&self) -> Result<BlobRead, StorageError> {
        let found = self.seat.storage().read(&self.seat.blob, 0..LEADER_BYTES).await?;
        if found.sequence_number == self.term { Ok(found) } else { Err(StorageError::PreconditionFailed) }
    }
}

/// Where a lease lasts as long as its holder's process, nobody needs to be shown that it lives.
async fn rested(seat: &Seat, shown: u64, rest: Duration) {
    if seat.storage().leases_last() && *seat.context().announced.borrow() == Some(shown) {
        std::future::pending::<()>().await;
    }
    seat.env().clock.sleep(rest).await;
}
