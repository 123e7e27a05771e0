//! Leases on containers and blobs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use azure_storage_blob::models::{
    BlobClientAcquireLeaseOptions, BlobClientBreakLeaseOptions, BlobClientGetPropertiesResultHeaders,
    BlobContainerClientAcquireLeaseOptions, LeaseState,
};

use super::{AzureStorage, etag, present, quoted};
use crate::env::Env;
use crate::limits::AZURE_SMALL_REQUEST_TIME;
use crate::storage::arguments::check_duration;
use crate::storage::leases::random_hex;
use crate::storage::{BlobName, ETag, LeaseId, LeaseTarget, StorageError};

/// The ids under which leases may be held without anybody knowing, since the answer to the request that took them got
/// lost. Who takes such a lease next does so under that id, which storage allows as it would a renewal; under another one
/// he would wait until it has run out. No id is in two hands: it is taken out, and is put back where there was no answer
/// again. One under which something was sent is never used again, also where its release was not answered: a deletion that
/// arrives late would find its lease on a container that was made anew since.
#[derive(Debug, Default)]
pub(super) struct UnsureLeases(Mutex<HashMap<LeaseTarget, LeaseId>>);

impl UnsureLeases {
    fn take_out(&self, target: &LeaseTarget) -> Option<LeaseId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(target)
    }

    fn put_back(&self, target: &LeaseTarget, id: LeaseId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(target.clone(), id);
    }
}

/// A request that takes a lease. Unless it has a definite outcome, its id is put back when it ends: also where whoever waits
/// for it gives up.
struct Asking<'a> {
    unsure: &'a UnsureLeases,
    target: &'a LeaseTarget,
    id: Option<LeaseId>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.unsure.put_back(self.target, id);
        }
    }
}

/// A new id, in the form in which Azure wants them.
fn new_id(env: &Env) -> LeaseId {
    let digits = random_hex(env);
    let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
    LeaseId(format!("{a}-{b}-{c}-{d}-{e}"))
}

impl AzureStorage {
    pub(super) async fn acquire(
        &self,
        target: &LeaseTarget,
        duration: Duration,
    ) -> Result<LeaseId, StorageError> {
        check_duration(duration)?;
        let id = self.unsure.take_out(target).unwrap_or_else(|| new_id(&self.env));
        let mut asked = Asking { unsure: &self.unsure, target, id: Some(id.clone()) };
        let taken = self.acquire_as(target, &id, duration).await;
        if !matches!(taken, Err(StorageError::Unavailable(_))) {
            asked.id = None;
        }
        taken.map(|()| id)
    }

    async fn acquire_as(
        &self,
        target: &LeaseTarget,
        id: &LeaseId,
        duration: Duration,
    ) -> Result<(), StorageError> {
        // Between 15 and 60, and Azure counts whole seconds.
        let seconds = i32::try_from(duration.as_secs()).unwrap_or(i32::MAX);
        let proposed_lease_id = Some(id.0.clone());
        match target {
            LeaseTarget::Container(name) => {
                let options =
                    BlobContainerClientAcquireLeaseOptions { proposed_lease_id, ..Default::default() };
                let client = self.container(name);
                let request = client.acquire_lease(seconds, Some(options));
                self.ask(AZURE_SMALL_REQUEST_TIME, request).await.map(|_| ())
            }
            LeaseTarget::Blob(name) => {
                let options = BlobClientAcquireLeaseOptions { proposed_lease_id, ..Default::default() };
                let client = self.blob(name);
                let request = client.acquire_lease(seconds, Some(options));
                self.ask(AZURE_SMALL_REQUEST_TIME, request).await.map(|_| ())
            }
        }
    }

    pub(super) async fn renew(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        let id = lease.0.clone();
        match target {
            LeaseTarget::Container(name) => {
                let client = self.container(name);
                self.ask(AZURE_SMALL_REQUEST_TIME, client.renew_lease(id, None)).await.map(|_| ())
            }
            LeaseTarget::Blob(name) => {
                let client = self.blob(name);
                self.ask(AZURE_SMALL_REQUEST_TIME, client.renew_lease(id, None)).await.map(|_| ())
            }
        }
    }

    pub(super) async fn release(&self, target: &LeaseTarget, lease: &LeaseId) -> Result<(), StorageError> {
        let id = lease.0.clone();
        match target {
            LeaseTarget::Container(name) => {
                let client = self.container(name);
                self.ask(AZURE_SMALL_REQUEST_TIME, client.release_lease(id, None)).await.map(|_| ())
            }
            LeaseTarget::Blob(name) => {
                let client = self.blob(name);
                self.ask(AZURE_SMALL_REQUEST_TIME, client.release_lease(id, None)).await.map(|_| ())
            }
        }
    }

    /// Azure breaks a lease that has run out, or was broken before, as if somebody held it. So one looks first.
    pub(super) async fn end_lease(&self, blob: &BlobName, if_match: &ETag) -> Result<(), StorageError> {
        let client = self.blob(blob);
        let found = self.ask(AZURE_SMALL_REQUEST_TIME, client.get_properties(None)).await?;
        let state = present(found.lease_state(), "lease state")?;
        let held = matches!(state, LeaseState::Leased | LeaseState::Breaking);
        if !held || etag(present(found.etag(), "ETag")?.as_ref()) != *if_match {
            return Err(StorageError::PreconditionFailed);
        }
        let options = BlobClientBreakLeaseOptions {
            break_period: Some(0),
            if_match: Some(quoted(if_match)),
            ..Default::default()
        };
        self.ask(AZURE_SMALL_REQUEST_TIME, client.break_lease(Some(options))).await.map(|_| ())
    }
}
