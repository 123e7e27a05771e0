//! A follower's work: find the vault, look at the leader's page, keep the list of streams, take the lease when it is time.

use std::time::Duration;

use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;
use vault_format::leader::{LeaderPage, LeaderState};

use super::Seat;
use super::joining::{Conflict, JoinError};
use super::standing::Leader;
use super::watch::{Advice, Look, Watch};
use crate::limits::{BLIND_AFTER, LEADER_BYTES, LEASE, LOOK_EVERY};
use crate::log::retry::Backoff;
use crate::log::vault::Absent;
use crate::storage::{LeaseId, StorageError};

impl Seat {
    /// Follows until this server has the lease; answers it with the time at which it was asked for. `None`: `stop`.
    pub(super) async fn follow(
        &self,
        stop: &CancellationToken,
    ) -> Result<Option<(LeaseId, Duration)>, Conflict> {
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(None),
            followed = self.follow_on() => followed.map(Some),
        }
    }

    async fn follow_on(&self) -> Result<(LeaseId, Duration), Conflict> {
        // What the page says of the streams, for the one that lists them.
        let changes = channel::Sender::new(None);
        tokio::select! {
            taken = self.look_on(&changes) => taken,
            () = self.list_on(changes.subscribe()) => unreachable!("listing goes on for ever"),
        }
    }

    /// Looks at the page again and again until the lease is taken.
    async fn look_on(&self, changes: &channel::Sender<Option<u64>>) -> Result<(LeaseId, Duration), Conflict> {
        let mut watch = Watch::default();
        let mut seen = None;
        loop {
            // Before anything is read or written it is certain that this is the right vault.
            if self.standing.borrow().vault_uid.is_none() {
                self.join_now().await?;
                if self.standing.borrow().vault_uid.is_none() {
                    self.env().clock.sleep(LOOK_EVERY).await;
                    continue;
                }
            }
            let sent = self.now();
            match self.storage().read(&self.blob, 0..LEADER_BYTES).await {
                Ok(read) => {
                    let page = LeaderPage::decode(&read.bytes);
                    seen = Some(self.now());
                    self.note(page.as_ref().ok());
                    changes.send_replace(Some(page.as_ref().map_or(0, |page| page.changes)));
                    let look = Look { sent, answered: self.now(), etag: read.etag, page };
                    if let Some(lease) = self.act_on(watch.saw(&look)).await {
                        return Ok(lease);
                    }
                }
                // Somebody has deleted `leader`.
                Err(StorageError::NotFound) => self.join_now().await?,
                Err(error) => {
                    let blind = seen.is_none_or(|seen| self.now() - seen >= BLIND_AFTER);
                    if blind {
                        self.trouble(format!("the storage cannot be reached: {error}"));
                    }
                    tracing::warn!(%error, "cannot look who leads");
                }
            }
            self.env().clock.sleep(LOOK_EVERY).await;
        }
    }

    /// Makes or finds the vault. A conflict ends the server only at its start: later, somebody may put it right.
    async fn join_now(&self) -> Result<(), Conflict> {
        let first = self.standing.borrow().vault_uid.is_none();
        match self.join().await {
            Ok(()) => Ok(()),
            Err(JoinError::Conflict(conflict)) if first => Err(conflict),
            Err(error) => {
                tracing::warn!(%error, "cannot work for the vault");
                self.trouble(error.to_string());
                Ok(())
            }
        }
    }

    /// Keeps the list of streams as new as the page says that it should be.
    async fn list_on(&self, mut changes: channel::Receiver<Option<u64>>) {
        let mut backoff = Backoff::default();
        loop {
            // The sender lives as long as this runs.
            let _ = changes.wait_for(|changes| *changes != self.vault.listed_at() && changes.is_some()).await;
            let wanted = *changes.borrow_and_update();
            match self.vault.refresh(Absent::WasDeleted).await {
                Ok(()) => {
                    backoff = Backoff::default();
                    self.vault.set_listed_at(wanted);
                    self.standing.send_modify(|standing| standing.listed = true);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot list the containers");
                    self.trouble(format!("the containers cannot be listed: {error}"));
                    backoff.wait(self.env()).await;
                }
            }
        }
    }

    async fn act_on(&self, advice: Advice) -> Option<(LeaseId, Duration)> {
        match advice {
            Advice::Wait if !self.storage().leases_last() => return None,
            Advice::Break(etag) if !self.storage().leases_last() => {
                tracing::warn!("the leader is silent: its lease is broken");
                match self.storage().break_lease(&self.blob, &etag).await {
                    // No lease is there any more, or the leader lives after all: taking it tells.
                    Ok(()) | Err(StorageError::PreconditionFailed) => {}
                    Err(error) => {
                        tracing::warn!(%error, "cannot break the lease");
                        return None;
                    }
                }
            }
            // A lease that lasts as long as its holder's process is simply tried.
            _ => {}
        }
        let sent = self.now();
        match self.storage().acquire_lease(&self.target(), LEASE).await {
            Ok(lease) => Some((lease, sent)),
            Err(StorageError::LeaseHeld) => None,
            Err(error) => {
                tracing::warn!(%error, "cannot take the lease");
                self.trouble(format!("the lease cannot be taken: {error}"));
                None
            }
        }
    }

    /// Puts down who leads. Storage answers, so that nothing is in the way.
    fn note(&self, page: Option<&LeaderPage>) {
        let leader = page.filter(|page| page.state == LeaderState::Leading);
        let leader = leader.map(|page| Leader { endpoint: page.endpoint.clone(), term: page.term });
        self.standing.send_if_modified(|standing| {
            let changed = standing.leader != leader || standing.trouble.is_some();
            standing.leader = leader;
            standing.trouble = None;
            changed
        });
    }

    pub(super) fn now(&self) -> Duration {
        self.env().clock.monotonic()
    }
}
