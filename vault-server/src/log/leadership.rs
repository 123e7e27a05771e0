//! The lease and the term under which a server writes.
//!
//! ```text
//!   wait for the lease --> raise the blob's number: the term --> lead, renew --> step down, release
//!           ^                        ^                               |
//!           |                        +---- outrun, lease still held -+
//!           +----------------------------- lease lost ---------------+
//! ```

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vault_format::ids::Term;
use vault_format::names::LEADER_BLOB;

use crate::env::Env;
use crate::limits::{FINISH_PATIENCE, LEASE, LIST_EVERY, RENEW_EVERY, TRY_LEASE_EVERY};
use crate::log::context::Context;
use crate::log::reign::{Reign, ReignEnd};
use crate::log::retry::until_definite;
use crate::log::vault::Vault;
use crate::log::writer::Command;
use crate::storage::{BlobName, LeaseId, LeaseTarget, Metadata, Storage, StorageError};

const VAULT_UID: &str = "vault_uid";
const LEADER_BYTES: u64 = 512;

/// Why a server cannot work for a vault.
#[derive(Debug, Error)]
pub enum LeadershipError {
    /// Storage refuses.
    #[error("cannot use the storage: {0}")]
    Storage(StorageError),
    /// Names of two vaults could meet.
    #[error(
        "the prefix `{ours}` and the prefix `{theirs}` of another vault here overlap; choose another --prefix"
    )]
    PrefixOverlaps {
        /// The prefix that was asked for.
        ours: String,
        /// The other vault's.
        theirs: String,
    },
    /// Another server has the lease for longer than we may wait.
    #[error("another server leads this vault and has not ended within {} s", .0.as_secs())]
    LeaseHeld(Duration),
}

impl From<StorageError> for LeadershipError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// Takes part in the election for one vault.
#[derive(Debug)]
pub struct Leadership {
    vault: Vault,
    reign_over: mpsc::Receiver<ReignEnd>,
    blob: BlobName,
}

impl Leadership {
    /// For a vault and the receiver that was made with it.
    #[must_use]
    pub fn new(vault: Vault, reign_over: mpsc::Receiver<ReignEnd>) -> Self {
        let container = vault.context.prefix.system_container();
        let blob = BlobName { container, name: LEADER_BLOB.to_owned() };
        Self { vault, reign_over, blob }
    }

    /// Makes the vault if it does not exist, and waits at most `patience` for the lease.
    pub async fn acquire(&mut self, patience: Duration) -> Result<LeaseId, LeadershipError> {
        self.refuse_overlapping_prefix().await?;
        let started = self.env().clock.monotonic();
        loop {
            match self.try_acquire().await {
                Ok(lease) => return Ok(lease),
                Err(StorageError::LeaseHeld) if self.env().clock.monotonic() - started >= patience => {
                    return Err(LeadershipError::LeaseHeld(patience));
                }
                Err(error @ (StorageError::LeaseHeld | StorageError::Unavailable(_))) => {
                    tracing::info!(%error, "waiting for the lease");
                    self.env().clock.sleep(TRY_LEASE_EVERY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn try_acquire(&self) -> Result<LeaseId, StorageError> {
        self.make_vault().await?;
        self.storage().acquire_lease(&self.target(), LEASE).await
    }

    /// Leads, under one term after the other, until `stop`. Ends early where the lease is lost.
    pub async fn lead(&mut self, lease: LeaseId, stop: &CancellationToken) -> Result<(), LeadershipError> {
        let mut at_least = Term::ZERO;
        let outcome = loop {
            let obtained = tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                obtained = self.obtain_term(&lease, at_least) => obtained,
            };
            let reign = match obtained {
                Ok(reign) => reign,
                Err(error) => break Err(error),
            };
            tracing::info!(term = %reign.term, "leading");
            match self.reign(reign, &lease, stop).await {
                Ok(Some(end)) => {
                    tracing::warn!(?end, "this term is over");
                    self.vault.step_down(Command::Halt).await;
                    if let ReignEnd::Outrun(Some(seen)) = end {
                        at_least = seen;
                    }
                }
                Ok(None) => {
                    let finishing = self.vault.step_down(Command::Finish);
                    if self.env().timeout(FINISH_PATIENCE, finishing).await.is_err() {
                        tracing::warn!("storage does not take what was accepted: it ends unacknowledged");
                        self.vault.step_down(Command::Halt).await;
                    }
                    break Ok(());
                }
                Err(error) => {
                    self.vault.step_down(Command::Halt).await;
                    break Err(error);
                }
            }
        };
        if let Err(error) = self.storage().release_lease(&self.target(), &lease).await {
            tracing::warn!(%error, "the lease is left to run out");
        }
        outcome.map_err(LeadershipError::from)
    }

    /// Leads under one term until it is over (`Some`) or the server is to stop (`None`).
    async fn reign(
        &mut self,
        reign: Reign,
        lease: &LeaseId,
        stop: &CancellationToken,
    ) -> Result<Option<ReignEnd>, StorageError> {
        while self.reign_over.try_recv().is_ok() {
            // Notices of earlier terms.
        }
        self.vault.lead(reign).await?;
        let Self { vault, reign_over, blob } = self;
        let Context { env, storage, .. } = &*vault.context;
        let target = LeaseTarget::Blob(blob.clone());
        let renewing = async {
            loop {
                env.clock.sleep(RENEW_EVERY).await;
                if let Err(error) = until_definite(env, || storage.renew_lease(&target, lease)).await {
                    break error;
                }
            }
        };
        let listing = async {
            loop {
                env.clock.sleep(LIST_EVERY).await;
                if let Err(error) = vault.refresh().await {
                    tracing::warn!(%error, "cannot list the containers");
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(None),
            Some(end) = reign_over.recv() => Ok(Some(end)),
            error = renewing => Err(error),
            () = listing => Ok(None),
        }
    }

    /// Raises the number of the leader blob above itself, the clock and `at_least`. Only an answered change counts.
    async fn obtain_term(&self, lease: &LeaseId, at_least: Term) -> Result<Reign, StorageError> {
        loop {
            let before = until_definite(self.env(), || self.storage().properties(&self.blob)).await?;
            let seconds = self.env().clock.now().0 / 1_000;
            let term = Term((before.sequence_number.0.max(at_least.0) + 1).max(seconds));
            match self.storage().set_sequence_number(&self.blob, term, &before.etag, lease).await {
                Ok(()) => return Ok(Reign { term, leader_blob: self.blob.clone() }),
                // Carried out or not: read it and set it again.
                Err(StorageError::Unavailable(why)) => {
                    tracing::warn!(why, "it is unknown whether a term was obtained, trying again");
                    self.env().clock.sleep(TRY_LEASE_EVERY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whoever comes first makes the system container and the leader blob; who loses the race uses the winner's.
    pub(crate) async fn make_vault(&self) -> Result<(), StorageError> {
        let mut uid = [0; 16];
        self.env().entropy.fill(&mut uid);
        let uid = vault_format::ids::StreamId(uid).to_string();
        let metadata = Metadata::from([(VAULT_UID.to_owned(), uid)]);
        if self.storage().properties(&self.blob).await.is_ok() {
            return Ok(());
        }
        let exists = |error| if error == StorageError::AlreadyExists { Ok(()) } else { Err(error) };
        until_definite(self.env(), || self.storage().create_container(&self.blob.container, &metadata))
            .await
            .or_else(exists)?;
        let number = Term(self.env().clock.now().0 / 1_000);
        until_definite(self.env(), || self.storage().create_page_blob(&self.blob, LEADER_BYTES, number))
            .await
            .map(|_| ())
            .or_else(exists)
    }

    async fn refuse_overlapping_prefix(&self) -> Result<(), LeadershipError> {
        let prefix = &self.vault.context.prefix;
        let containers = until_definite(self.env(), || self.storage().list_containers("")).await?;
        for entry in containers.iter().filter(|entry| entry.metadata.contains_key(VAULT_UID)) {
            let theirs = entry.name.as_str().strip_suffix(vault_format::names::SYSTEM).unwrap_or_default();
            if prefix.overlaps(theirs) {
                let (ours, theirs) = (prefix.as_str().to_owned(), theirs.to_owned());
                return Err(LeadershipError::PrefixOverlaps { ours, theirs });
            }
        }
        Ok(())
    }

    fn target(&self) -> LeaseTarget {
        LeaseTarget::Blob(self.blob.clone())
    }

    fn storage(&self) -> &Arc<dyn Storage> {
        &self.vault.context.storage
    }

    fn env(&self) -> &Env {
        &self.vault.context.env
    }
}
