//! Making or finding the vault: its system container, which names it, and the blob `leader` in it.

use thiserror::Error;
use vault_format::ids::{StreamId, Term};

use super::Seat;
use crate::limits::LEADER_BYTES;
use crate::log::retry::until_definite;
use crate::storage::{Metadata, StorageError};

/// In the metadata of a system container: which vault it belongs to. Servers write it when they make the container, and
/// never change what stands there.
pub const VAULT_UID: &str = "vault_uid";

/// Why this server must not work here, whatever it tries.
#[derive(Debug, Error)]
pub enum Conflict {
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
    /// The containers of this prefix are another vault's.
    #[error(
        "the container `{container}` belongs to the vault {theirs}, and this server is for the vault {ours}; \
         choose another --prefix or storage account, or the right --vault-uid"
    )]
    AnotherVault {
        /// The system container.
        container: String,
        /// The vault uid that was asked for or found before.
        ours: String,
        /// The one found.
        theirs: String,
    },
    /// The container has the name of a system container, and somebody else has made it.
    #[error("the container `{0}` has no vault uid: it is not a vault's; choose another --prefix")]
    NoVault(String),
}

/// Why this server has not joined.
#[derive(Debug, Error)]
pub(super) enum JoinError {
    #[error(transparent)]
    Conflict(#[from] Conflict),
    #[error("cannot use the storage: {0}")]
    Storage(#[from] StorageError),
}

impl Seat {
    /// Makes the vault where it does not exist, and checks that it is the right one. Whoever comes first makes it; who
    /// loses the race uses what the winner made.
    pub(super) async fn join(&self) -> Result<(), JoinError> {
        self.refuse_overlapping_prefix().await?;
        let uid = self.make_container().await?;
        self.make_leader_blob().await?;
        self.standing.send_modify(|standing| standing.vault_uid = Some(uid));
        Ok(())
    }

    /// Makes the system container, or checks that it is this vault's; answers the vault's uid.
    pub(super) async fn make_container(&self) -> Result<String, JoinError> {
        let container = &self.blob.container;
        // A container that was deleted under this server is made again for the same vault.
        let known = self.standing.borrow().vault_uid.clone();
        let wanted = self.candidacy.vault_uid.clone().or(known);
        let found = until_definite(self.env(), || self.storage().container_metadata(container)).await;
        let metadata = match found {
            Err(StorageError::NotFound) => {
                let uid = wanted.clone().unwrap_or_else(|| self.random_uid());
                let metadata = Metadata::from([(VAULT_UID.to_owned(), uid.clone())]);
                match until_definite(self.env(), || self.storage().create_container(container, &metadata))
                    .await
                {
                    Ok(()) => {
                        tracing::info!(%container, uid, "vault created");
                        return Ok(uid);
                    }
                    Err(StorageError::AlreadyExists) => {
                        until_definite(self.env(), || self.storage().container_metadata(container)).await?
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            found => found?,
        };
        let theirs = metadata.get(VAULT_UID).ok_or_else(|| Conflict::NoVault(container.to_string()))?;
        match wanted {
            Some(ours) if ours != *theirs => {
                let (container, theirs) = (container.to_string(), theirs.clone());
                Err(Conflict::AnotherVault { container, ours, theirs }.into())
            }
            _ => Ok(theirs.clone()),
        }
    }

    async fn make_leader_blob(&self) -> Result<(), StorageError> {
        if self.storage().properties(&self.blob).await.is_ok() {
            return Ok(());
        }
        let number = Term(self.env().clock.now().0 / 1_000);
        match until_definite(self.env(), || self.storage().create_page_blob(&self.blob, LEADER_BYTES, number))
            .await
        {
            Ok(_) | Err(StorageError::AlreadyExists) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn refuse_overlapping_prefix(&self) -> Result<(), JoinError> {
        let prefix = &self.context().prefix;
        let containers = until_definite(self.env(), || self.storage().list_containers("")).await?;
        for entry in containers.iter().filter(|entry| entry.metadata.contains_key(VAULT_UID)) {
            let theirs = entry.name.as_str().strip_suffix(vault_format::names::SYSTEM).unwrap_or_default();
            if prefix.overlaps(theirs) {
                let (ours, theirs) = (prefix.as_str().to_owned(), theirs.to_owned());
                return Err(Conflict::PrefixOverlaps { ours, theirs }.into());
            }
        }
        Ok(())
    }

    fn random_uid(&self) -> String {
        let mut uid = [0; 16];
        self.env().entropy.fill(&mut uid);
        StreamId(uid).to_string()
    }
}
