//! A vault's open storage, and what was last seen of its containers and servers.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::{Client, ResourceExt};
use tokio::sync::Mutex;
use vault_format::names::{ContainerName, Prefix};
use vault_server::env::Env;
use vault_server::log::settings::StreamMeta;
use vault_server::storage::Storage as BlobStorage;
use vault_server::storage::accounts::Accounts;
use vault_server::storage::azure::AzureStorage;
use vault_server::storage::counted::Counted;
use vault_server::storage::{Metadata, StorageError};

use super::credentials::{CannotOpen, WayIn};
use crate::api::MessageVault;
use crate::api::storage::Storage;
use crate::conditions::Reason;
use crate::limits::FRESH_VIEW;
use crate::servers::Seen;
use crate::streams::carry_out;

/// A vault's storage and what was last seen of it.
pub struct OpenVault {
    uid: String,
    spec: Storage,
    way_in: WayIn,
    prefix: Prefix,
    main_account: String,
    storage: Arc<Counted<dyn BlobStorage>>,
    env: Env,
    may_be_old: Duration,
    containers: Mutex<Option<Listing>>,
    seen: Mutex<Option<(Duration, Seen)>>,
}

struct Listing {
    /// On the monotonic clock.
    taken: Duration,
    containers: HashMap<ContainerName, Metadata>,
}

impl OpenVault {
    /// Opens the storage that a vault's resource names. Nothing is sent yet.
    pub fn new(
        client: &Client,
        env: &Env,
        vault: &MessageVault,
        way_in: WayIn,
        may_be_old: Duration,
    ) -> Result<Self, CannotOpen> {
        let wrong = |why: String| CannotOpen::User(Reason::new("InvalidStorage", why));
        let prefix = Prefix::new(&vault.spec.storage.prefix)
            .map_err(|error| wrong(format!("storage.prefix cannot be used: {error}")))?;
        let mut accounts: Vec<(String, Arc<dyn BlobStorage>)> = Vec::new();
        for settings in way_in.settings(client, vault)? {
            let name = settings.account().name.clone();
            let storage = AzureStorage::connect(settings, env).map_err(|error| wrong(error.to_string()))?;
            if accounts.iter().any(|(other, _)| *other == name) {
                return Err(wrong(format!("the storage account {name} is named twice")));
            }
            accounts.push((name, Arc::new(storage)));
        }
        let main_account = accounts.first().map(|(name, _)| name.clone()).unwrap_or_default();
        let before = vault.status.as_ref().and_then(|status| status.account.as_ref());
        if let Some(before) = before.filter(|before| **before != main_account) {
            return Err(wrong(format!(
                "the vault is in the storage account {before}, and this leads to {main_account}: the messages stay where \
                 they are; lead back to {before}, or make another MessageVault and copy the streams with mvctl"
            )));
        }
        let storage: Arc<dyn BlobStorage> = Arc::new(Accounts::new(accounts));
        Ok(Self {
            uid: vault.uid().unwrap_or_default(),
            spec: vault.spec.storage.clone(),
            way_in,
            prefix,
            main_account,
            storage: Arc::new(Counted::new(storage, env)),
            env: env.clone(),
            may_be_old,
            containers: Mutex::new(None),
            seen: Mutex::new(None),
        })
    }

    /// Whether this is the storage that the resource names.
    #[must_use]
    pub fn fits(&self, vault: &MessageVault) -> bool {
        self.spec == vault.spec.storage && vault.uid().as_deref() == Some(self.uid.as_str())
    }

    /// How requests are let in.
    #[must_use]
    pub fn way_in(&self) -> &WayIn {
        &self.way_in
    }

    /// What container names begin with.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// The account in which streams live that name none.
    #[must_use]
    pub fn main_account(&self) -> &str {
        &self.main_account
    }

    /// The storage.
    #[must_use]
    pub fn storage(&self) -> &Counted<dyn BlobStorage> {
        &self.storage
    }

    /// Clock and randomness.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// The metadata of a stream's container, `None` where there is none. A `routine` look may be some minutes old: one
    /// listing tells of all streams of the vault.
    pub async fn container(
        &self,
        name: &ContainerName,
        routine: bool,
    ) -> Result<Option<Metadata>, StorageError> {
        if !routine {
            return carry_out::look(&*self.storage, name).await;
        }
        let mut listing = self.containers.lock().await;
        let now = self.env.clock.monotonic();
        let fresh = listing.as_ref().filter(|listing| now.saturating_sub(listing.taken) < self.may_be_old);
        if let Some(listing) = fresh {
            return Ok(listing.containers.get(name).cloned());
        }
        // What is changed meanwhile waits for the lock, and changes what is listed afterwards.
        let containers = self.storage.list_containers(self.prefix.as_str()).await?;
        let containers: HashMap<_, _> =
            containers.into_iter().map(|entry| (entry.name, entry.metadata)).collect();
        let found = containers.get(name).cloned();
        *listing = Some(Listing { taken: now, containers });
        Ok(found)
    }

    /// Notes what was written to a container, or that it is gone.
    pub async fn note(&self, name: &ContainerName, meta: Option<&StreamMeta>) {
        if let Some(listing) = self.containers.lock().await.as_mut() {
            match meta {
                Some(meta) => {
                    let metadata = listing.containers.entry(name.clone()).or_default();
                    meta.write_to(metadata);
                }
                None => {
                    listing.containers.remove(name);
                }
            }
        }
    }

    /// What was seen of the servers, some minutes ago at most in a `routine` look, else some seconds; or looks again.
    pub async fn seen(&self, routine: bool, look: impl Future<Output = Seen>) -> Seen {
        let mut seen = self.seen.lock().await;
        let now = self.env.clock.monotonic();
        let may_be_old = if routine { self.may_be_old } else { FRESH_VIEW };
        let fresh = seen.as_ref().filter(|(taken, _)| now.saturating_sub(*taken) < may_be_old);
        if let Some((_, seen)) = fresh {
            return seen.clone();
        }
        let found = look.await;
        *seen = Some((now, found.clone()));
        found
    }

    /// Notes what was seen of the servers just now.
    pub async fn note_seen(&self, found: Seen) {
        *self.seen.lock().await = Some((self.env.clock.monotonic(), found));
    }
}
