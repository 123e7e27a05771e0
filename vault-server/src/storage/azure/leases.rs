//! Leases on containers and blobs.

use std::time::Duration;

use azure_storage_blob::models::{
    BlobClientAcquireLeaseOptions, BlobClientBreakLeaseOptions, BlobClientGetPropertiesResultHeaders,
    BlobContainerClientAcquireLeaseOptions, LeaseState,
};

use super::unsure::Taking;
use super::{AzureStorage, etag, present, quoted};
use crate::env::Env;
use crate::limits::AZURE_SMALL_REQUEST_TIME;
use crate::storage::arguments::check_duration;
use crate::storage::leases::random_hex;
use crate::storage::{BlobName, ETag, LeaseId, LeaseTarget, StorageError};

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
        // Between 15 and 60, and Azure counts whole seconds.
        let seconds = i32::try_from(duration.as_secs()).unwrap_or(i32::MAX);
        let send = |request| self.take_as(target, request, seconds);
        self.unsure.take(target, || new_id(&self.env), send).await
    }

    async fn take_as(&self, target: &LeaseTarget, request: Taking, seconds: i32) -> Result<(), StorageError> {
        match (target, request) {
            (LeaseTarget::Container(name), Taking::Acquire(id)) => {
                let options = BlobContainerClientAcquireLeaseOptions {
                    proposed_lease_id: Some(id.0),
                    ..Default::default()
                };
                let client = self.container(name);
                let request = client.acquire_lease(seconds, Some(options));
                self.ask(AZURE_SMALL_REQUEST_TIME, request).await.map(|_| ())
            }
            (LeaseTarget::Container(name), Taking::Change { from, to }) => {
                let client = self.container(name);
                let request = client.change_lease(from.0, to.0, None);
                self.ask(AZURE_SMALL_REQUEST_TIME, request).await.map(|_| ())
            }
            (LeaseTarget::Blob(name), Taking::Acquire(id)) => {
                let options =
                    BlobClientAcquireLeaseOptions { proposed_lease_id: Some(id.0), ..Default::default() };
                let client = self.blob(name);
                let request = client.acquire_lease(seconds, Some(options));
                self.ask(AZURE_SMALL_REQUEST_TIME, request).await.map(|_| ())
            }
            (LeaseTarget::Blob(name), Taking::Change { from, to }) => {
                let client = self.blob(name);
                let request = client.change_lease(from.0, to.0, None);
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
        let look = || self.ask(AZURE_SMALL_REQUEST_TIME, client.get_properties(None));
        let found = self.ask_again(0, look).await?;
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
