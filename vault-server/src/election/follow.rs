//! A follower's work: find the vault, look at the leader's page, keep the list of streams, take the lease when it is time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;
use vault_format::leader::{LeaderPage, LeaderState};

use super::Seat;
use super::joining::{Conflict, JoinError};
use super::standing::Leader;
use super::watch::{Advice, Look, Watch};
use crate::limits::{BLIND_AFTER, LEADER_BYTES, LEASE, LOOK_AGAIN, LOOK_EVERY};
use crate::log::retry::Backoff;
use crate::log::vault::Absent;
use crate::storage::{LeaseId, StorageError};

impl Seat {
    /// Follows until this server has the lease; answers it with the time at which it was asked for. `None`: `stop`. `fell`
    /// says that it had the lease before, and could not lead or had to stop.
    pub(super) async fn follow(
        &self,
        fell: bool,
        stop: &CancellationToken,
    ) -> Result<Option<(LeaseId, Duration)>, Conflict> {
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(None),
            followed = self.follow_on(fell) => followed.map(Some),
        }
    }

    async fn follow_on(&self, fell: bool) -> Result<(LeaseId, Duration), Conflict> {
        self.find_vault().await?;
        // What the page says of the streams, for the one that lists them.
        let changes = channel::Sender::new(None);
        tokio::select! {
            taken = self.look_on(fell, &changes) => taken,
            () = self.list_on(changes.subscribe()) => unreachable!("listing goes on for ever"),
        }
    }

    /// Looks at the page again and again until the lease is taken.
    async fn look_on(
        &self,
        mut fell: bool,
        changes: &channel::Sender<Option<u64>>,
    ) -> Result<(LeaseId, Duration), Conflict> {
        let mut watch = Watch::default();
        let mut seen = None;
        let mut unsure = false;
        loop {
            let sent = self.now();
            match self.storage().read(&self.blob, 0..LEADER_BYTES).await {
                Ok(read) => {
                    let answered = self.now();
                    let page = LeaderPage::decode(&read.bytes);
                    seen = Some(answered);
                    self.note(page.as_ref().ok());
                    let shown = page.as_ref().map_or(0, |page| page.changes);
                    if std::mem::take(&mut fell) {
                        // Where it is no good as a leader it may well serve reads.
                        changes.send_replace(Some(shown));
                        let mut standing = self.standing.subscribe();
                        let listed = standing.wait_for(|_| self.vault.listed_at() == Some(shown));
                        // Where the list cannot be had soon, the lease is tried all the same.
                        let _ = self.env().timeout(BLIND_AFTER, listed).await;
                    }
                    let look = Look { sent, answered, etag: read.etag, page };
                    if let Some((lease, sent)) = self.act_on(watch.saw(&look), &mut unsure).await {
                        if self.still_ours(&lease).await {
                            return Ok((lease, sent));
                        }
                        self.find_vault().await?;
                        watch = Watch::default();
                    } else if look.page.is_ok_and(|page| page.state == LeaderState::Free) {
                        // Whoever has ended gives the lease back in a moment.
                        self.context().doubts.notify_one();
                    }
                    // Not before the lease was tried: a server that begins beside a dead leader's page would be ready,
                    // and hand on to nobody what it is about to do itself.
                    changes.send_replace(Some(shown));
                }
                Err(StorageError::NotFound) => {
                    self.try_to_join().await?;
                }
                Err(error) => {
                    let blind = seen.is_none_or(|seen| self.now() - seen >= BLIND_AFTER);
                    // This comes with every look.
                    if blind && self.trouble(format!("the storage cannot be reached: {error}")) {
                        tracing::warn!(%error, "cannot look who leads");
                    }
                }
            }
            self.rest_before_next_look().await;
        }
    }

    /// Rests as long as the leader is not doubted, and a while where it is: one that ends in order is replaced sooner.
    async fn rest_before_next_look(&self) {
        let clock = &self.env().clock;
        clock.sleep(LOOK_AGAIN).await;
        tokio::select! {
            () = clock.sleep(LOOK_EVERY - LOOK_AGAIN) => {}
            () = self.context().doubts.notified() => {}
        }
    }

    /// Makes or finds the vault, however long that takes. Nothing in it is looked at before.
    async fn find_vault(&self) -> Result<(), Conflict> {
        while !self.try_to_join().await? {
            self.env().clock.sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Makes the vault where it is not there, as a new one or where somebody has deleted it, or checks that it is the
    /// right one. Whether that succeeded; a conflict ends a server only before it has worked for its vault.
    async fn try_to_join(&self) -> Result<bool, Conflict> {
        let first = self.standing.borrow().vault_uid.is_none();
        match self.join().await {
            Ok(()) => Ok(true),
            Err(JoinError::Conflict(conflict)) if first => Err(conflict),
            Err(error) => {
                tracing::warn!(%error, "cannot work for the vault");
                self.trouble(error.to_string());
                Ok(false)
            }
        }
    }

    /// Whether the lease just taken is one of the right vault: another's may have come to stand in its place. Gives it
    /// back where it is not.
    async fn still_ours(&self, lease: &LeaseId) -> bool {
        let Err(error) = self.make_container().await else { return true };
        tracing::warn!(%error, "the lease is given back");
        self.trouble(error.to_string());
        if let Err(error) = self.storage().release_lease(&self.target(), lease).await {
            tracing::info!(%error, "the lease is left to run out");
        }
        false
    }

    /// Keeps the list of streams as new as the page says that it should be.
    async fn list_on(&self, mut changes: channel::Receiver<Option<u64>>) {
        let mut backoff = Backoff::default();
        let mut listed = None;
        loop {
            tokio::select! {
                // The sender lives as long as this runs.
                _ = changes.wait_for(|shown| shown.is_some() && *shown != listed) => {}
                () = self.context().listings.until_asked(self.env()) => {}
            }
            let wanted = *changes.borrow_and_update();
            let listing = self.context().listings.begin(self.env());
            let refreshed = self.vault.refresh(Absent::WasDeleted).await;
            match &refreshed {
                Ok(()) => {
                    backoff = Backoff::default();
                    listed = wanted;
                    self.vault.set_listed_at(wanted);
                    self.standing.send_modify(|standing| standing.listed = true);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot list the containers");
                    self.trouble(format!("the containers cannot be listed: {error}"));
                }
            }
            let failed = refreshed.is_err();
            self.context().listings.end(&listing, refreshed);
            if failed {
                backoff.wait(self.env()).await;
            }
        }
    }

    /// Does what a look advises. `unsure` says that the lease may be ours already, since the answer to the last try got lost:
    /// then it is tried again, whatever is advised.
    async fn act_on(&self, advice: Advice, unsure: &mut bool) -> Option<(LeaseId, Duration)> {
        match advice {
            Advice::Wait if !self.storage().leases_last() && !*unsure => return None,
            Advice::Break(etag) if !self.storage().leases_last() && !*unsure => {
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
        let taken = self.storage().acquire_lease(&self.target(), LEASE).await;
        *unsure = matches!(taken, Err(StorageError::Unavailable(_)));
        match taken {
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
        if let Some(page) = page {
            self.seen.fetch_max(page.term.0, Ordering::Relaxed);
        }
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
