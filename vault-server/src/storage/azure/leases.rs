//! Leases on containers and blobs.

use std::time::Duration;

use azure_storage_blob::models::{
    BlobClientAcquireLeaseResultHeaders, BlobClientBreakLeaseOptions, BlobClientGetPropertiesResultHeaders,
    BlobContainerClientAcquireLeaseResultHeaders, LeaseState,
};

use super::{AzureStorage, etag, present, quoted};
use crate::limits::AZURE_SMALL_REQUEST_TIME;
use crate::storage::arguments::check_duration;
use crate::storage::{BlobName, ETag, LeaseId, LeaseTarget, StorageError};

impl AzureStorage {
    pub(super) async fn acquire(
        &self,
        target: &LeaseTarget,
        duration: Duration,
    ) -> Result<LeaseId, StorageError> {
        check_duration(duration)?;
        // Between 15 and 60, and Azure counts whole seconds.
        let seconds = i32::try_from(duration.as_secs()).unwrap_or(i32::MAX);
        let id = match target {
            LeaseTarget::Container(name) => {
                let client = self.container(name);
                let answer = self.ask(AZURE_SMALL_REQUEST_TIME, client.acquire_lease(seconds, None)).await?;
                answer.lease_id()
            }
            LeaseTarget::Blob(name) => {
                let client = self.blob(name);
                let answer = self.ask(AZURE_SMALL_REQUEST_TIME, client.acquire_lease(seconds, None)).await?;
                answer.lease_id()
            }
        };
        present(id, "lease id").map(LeaseId)
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
