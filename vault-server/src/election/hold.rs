//! A holder's work: keep the lease, obtain a term, lead, and hand over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vault_format::ids::Term;
use vault_format::leader::LeaderPage;

use super::Seat;
use super::page::Page;
use super::standing::Leader;
use super::tenure::{Fallen, Tenure, next_term};
use crate::limits::{FINISH_PATIENCE, LEADER_BYTES, LIST_EVERY, LOOK_EVERY};
use crate::log::reign::{Reign, ReignEnd};
use crate::log::retry::until_definite;
use crate::log::vault::Absent;
use crate::log::writer::Command;
use crate::storage::{LeaseId, StorageError};

/// How one term ended.
enum TermEnd {
    /// The server is to stop.
    Stopped,
    /// This term cannot go on; the lease is still held, so that the next one can begin.
    Over(ReignEnd),
    Fallen(Fallen),
}

impl Seat {
    /// Leads, under one term after the other, for as long as the lease is held. `None`: handed over because of `stop`.
    pub(super) async fn hold(
        &self,
        reign_over: &mut mpsc::Receiver<ReignEnd>,
        lease: &LeaseId,
        taken: Duration,
        stop: &CancellationToken,
    ) -> Option<Fallen> {
        let fallen = tokio::select! {
            biased;
            fallen = self.renew_on(lease, taken) => {
                self.context().metrics.election.lost.add(1);
                Some(fallen)
            }
            fallen = self.lead_on(reign_over, lease, stop) => fallen,
        };
        self.context().metrics.election.holds_nothing();
        if let Some(fallen) = &fallen {
            // Before anything that waits for storage, which may be what has failed.
            self.trouble(fallen.to_string());
            self.vault.step_down(Command::Halt).await;
        }
        self.vault.context.announced.send_replace(None);
        self.standing.send_modify(|standing| standing.leader = None);
        let released = self.storage().release_lease(&self.target(), lease).await;
        if let Err(error) = released {
            tracing::info!(%error, "the lease is left to run out");
        }
        fallen
    }

    /// Renews the lease until it is lost or may have run out.
    async fn renew_on(&self, lease: &LeaseId, taken: Duration) -> Fallen {
        let mut tenure = Tenure::taken(taken);
        let metrics = &self.context().metrics.election;
        metrics.holds_since(taken);
        let target = self.target();
        let mut why = "no answer came".to_owned();
        loop {
            let (due, ends) = (tenure.renew_at(), tenure.ends());
            self.env().clock.sleep(due.min(ends).saturating_sub(self.now())).await;
            let sent = self.now();
            if sent >= ends {
                return Fallen::LeaseRanOut(why);
            }
            let renewed = self.env().timeout(ends - sent, self.storage().renew_lease(&target, lease)).await;
            match renewed {
                Ok(Ok(())) => {
                    tenure.renewed(sent);
                    metrics.renewed.add(1);
                    metrics.holds_since(sent);
                }
                Ok(Err(StorageError::PreconditionFailed | StorageError::LeaseHeld)) => {
                    return Fallen::LeaseLost;
                }
                Ok(Err(StorageError::NotFound)) => return Fallen::LeaderGone,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lease could not be renewed, trying again");
                    metrics.failed.add(1);
                    why = error.to_string();
                    tenure.not_renewed(self.now());
                }
                Err(_) => return Fallen::LeaseRanOut(why),
            }
        }
    }

    async fn lead_on(
        &self,
        reign_over: &mut mpsc::Receiver<ReignEnd>,
        lease: &LeaseId,
        stop: &CancellationToken,
    ) -> Option<Fallen> {
        let mut at_least = Term::ZERO;
        loop {
            let reign = match self.obtain_term(lease, at_least).await {
                Ok(reign) => reign,
                Err(error) => return Some(fallen(&error)),
            };
            let term = reign.term;
            tracing::info!(%term, "leading");
            let mut page = Page::new(self, term, lease);
            match self.reign(reign_over, reign, &mut page, stop).await {
                TermEnd::Stopped => {
                    self.hand_over(&mut page).await;
                    return None;
                }
                TermEnd::Over(end) => {
                    tracing::warn!(?end, "this term is over");
                    self.vault.step_down(Command::Halt).await;
                    if let ReignEnd::Outrun(Some(seen)) = end {
                        at_least = seen;
                    }
                }
                TermEnd::Fallen(fallen) => return Some(fallen),
            }
        }
    }

    /// Raises the number of the leader blob. Only an answered change gives a term.
    async fn obtain_term(&self, lease: &LeaseId, at_least: Term) -> Result<Reign, StorageError> {
        loop {
            let read = || self.storage().read(&self.blob, 0..LEADER_BYTES);
            let before = until_definite(self.env(), read).await?;
            let seen = Term(self.seen.load(Ordering::Relaxed));
            let (now, by_chance) = (self.env().clock.now(), self.by_chance());
            let term =
                next_term(before.sequence_number, at_least.max(seen), now, by_chance).ok_or_else(|| {
                    let number = before.sequence_number;
                    StorageError::Refused(format!(
                        "no term is left above the number {number} of {}",
                        self.blob
                    ))
                })?;
            match self.storage().set_sequence_number(&self.blob, term, &before.etag, Some(lease)).await {
                Ok(()) => {
                    self.seen.fetch_max(term.0, Ordering::Relaxed);
                    self.context().metrics.election.terms.add(1);
                    let page = LeaderPage::decode(&before.bytes);
                    // Where nobody knows how many changes there were, a time is more than that many.
                    let changes = page.as_ref().map_or(self.env().clock.now().0, |page| page.changes);
                    self.vault.begin_changes(changes);
                    if page.is_ok_and(|page| page.deleting) {
                        // The last leader may have deleted one that this server has listed.
                        self.vault.set_listed_at(None);
                    }
                    return Ok(Reign { term, leader_blob: self.blob.clone() });
                }
                // Carried out or not: read it and set it again.
                Err(StorageError::Unavailable(why)) => {
                    tracing::warn!(why, "it is unknown whether a term was obtained, trying again");
                    self.env().clock.sleep(LOOK_EVERY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn by_chance(&self) -> u16 {
        let mut bytes = [0; 2];
        self.env().entropy.fill(&mut bytes);
        u16::from_le_bytes(bytes)
    }

    /// Leads under one term.
    async fn reign(
        &self,
        reign_over: &mut mpsc::Receiver<ReignEnd>,
        reign: Reign,
        page: &mut Page<'_>,
        stop: &CancellationToken,
    ) -> TermEnd {
        while reign_over.try_recv().is_ok() {
            // Notices of earlier terms.
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => TermEnd::Stopped,
            Some(end) = reign_over.recv() => TermEnd::Over(end),
            error = page.beat_on() => TermEnd::Fallen(fallen(&error)),
            error = self.lead_and_list(reign) => TermEnd::Fallen(fallen(&error)),
        }
    }

    /// Opens the streams to appends and keeps an eye on their containers.
    async fn lead_and_list(&self, reign: Reign) -> StorageError {
        let leader = Leader { endpoint: self.candidacy.endpoint.clone(), term: reign.term };
        if let Err(error) = self.vault.lead(reign).await {
            return error;
        }
        self.standing.send_modify(|standing| {
            (standing.leader, standing.trouble, standing.listed) = (Some(leader), None, true);
        });
        let listings = &self.context().listings;
        self.vault.delete_unwanted().await;
        loop {
            tokio::select! {
                () = self.env().clock.sleep(LIST_EVERY) => {}
                () = listings.until_asked(self.env()) => {}
            }
            let listing = listings.begin(self.env());
            let refreshed = self.vault.refresh(Absent::IsMissing).await;
            match &refreshed {
                Ok(()) => self.vault.delete_unwanted().await,
                Err(error) => tracing::warn!(%error, "cannot list the containers"),
            }
            listings.end(&listing, refreshed);
        }
    }

    /// Stores what was accepted and lets the next leader begin at once.
    async fn hand_over(&self, page: &mut Page<'_>) {
        let finishing = self.vault.step_down(Command::Finish);
        if self.env().timeout(FINISH_PATIENCE, finishing).await.is_err() {
            tracing::warn!("storage does not take what was accepted: it ends unacknowledged");
            self.vault.step_down(Command::Halt).await;
        }
        if let Err(error) = page.free().await {
            tracing::warn!(%error, "the next leader has to wait until this one is taken for dead");
        }
    }
}

fn fallen(error: &StorageError) -> Fallen {
    match error {
        StorageError::PreconditionFailed | StorageError::LeaseHeld => Fallen::LeaseLost,
        StorageError::NotFound => Fallen::LeaderGone,
        other => Fallen::Storage(other.to_string()),
    }
}
