//! Reading and changing the metadata of a stream's container.

use vault_format::ids::StreamId;
use vault_format::names::ContainerName;

use crate::limits::LEASE;
use crate::log::context::Context;
use crate::log::error::{StreamFault, Unusable};
use crate::log::retry::{Backoff, until_definite};
use crate::log::settings::StreamMeta;
use crate::log::store::Store;
use crate::storage::{LeaseId, LeaseTarget, StorageError};

pub(crate) async fn read(context: &Context, container: &ContainerName) -> Result<StreamMeta, Unusable> {
    let metadata = until_definite(&context.env, || context.storage.container_metadata(container)).await?;
    StreamMeta::from_metadata(&metadata)
        .map_err(|invalid| StreamFault::DataMissing(invalid.to_string()).into())
}

/// Whether retention deletes from the stream, as its container says now.
pub(crate) async fn is_trimmed(store: &Store) -> Result<bool, StorageError> {
    let metadata = until_definite(&store.env, || store.storage.container_metadata(&store.container)).await?;
    Ok(StreamMeta::from_metadata(&metadata).is_ok_and(|meta| meta.trimmed))
}

/// Changes the metadata under the container's lease, so that a request which arrives late fails on a container of the
/// same name made since: no lease on that one has its id, whatever else arrives late. Tries until the outcome is known, or
/// this server no longer leads. `NotFound` where the container is another stream's by now.
pub(crate) async fn update(
    context: &Context,
    container: &ContainerName,
    stream: StreamId,
    change: impl Fn(&mut StreamMeta),
) -> Result<StreamMeta, StorageError> {
    let mut backoff = Backoff::default();
    loop {
        let outcome = with_lease(context, container, async |lease| {
            let metadata = context.storage.container_metadata(container).await?;
            let mut meta = StreamMeta::from_metadata(&metadata)
                .map_err(|error| StorageError::Refused(error.to_string()))?;
            if meta.id != stream {
                return Err(StorageError::NotFound);
            }
            let before = meta.clone();
            change(&mut meta);
            if meta != before {
                let mut changed = metadata;
                meta.write_to(&mut changed);
                context.storage.set_container_metadata(container, &changed, &lease).await?;
            }
            Ok(meta)
        })
        .await;
        match outcome {
            Err(error @ (StorageError::NotFound | StorageError::Refused(_))) => return Err(error),
            Err(error) if context.reign.borrow().is_none() => return Err(error),
            Err(error) => {
                tracing::warn!(%container, %error, "cannot change the container's metadata, trying again");
                backoff.wait(&context.env).await;
            }
            Ok(meta) => return Ok(meta),
        }
    }
}

/// Does something while holding the lease on a container, and gives it back.
pub(crate) async fn with_lease<T>(
    context: &Context,
    container: &ContainerName,
    work: impl AsyncFnOnce(LeaseId) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let target = LeaseTarget::Container(container.clone());
    let lease = context.storage.acquire_lease(&target, LEASE).await?;
    let outcome = work(lease.clone()).await;
    // A lease that is not given back runs out; of a deleted container there is none.
    if let Err(error) = context.storage.release_lease(&target, &lease).await {
        tracing::debug!(%container, %error, "the container's lease is left to run out");
    }
    outcome
}
