//! Carrying out what was planned for a stream's container. Every change of a container is made under its lease, so that
//! a request which arrives late fails on a container of the same name made since.

use vault_format::names::ContainerName;
use vault_server::env::Env;
use vault_server::log::settings::StreamMeta;
use vault_server::storage::{LeaseId, LeaseTarget, Metadata, Storage, StorageError};

use super::plan::{Step, Wanted, plan};
use crate::limits::CONTAINER_LEASE;

/// The metadata of a container, `None` where there is none.
pub async fn look(
    storage: &dyn Storage,
    container: &ContainerName,
) -> Result<Option<Metadata>, StorageError> {
    match storage.container_metadata(container).await {
        Ok(metadata) => Ok(Some(metadata)),
        Err(StorageError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the container of a new stream. `AlreadyExists` where somebody was first.
pub async fn create(
    storage: &dyn Storage,
    env: &Env,
    container: &ContainerName,
    wanted: &Wanted,
) -> Result<StreamMeta, StorageError> {
    let meta = StreamMeta {
        id: env.stream_id(),
        created: env.clock.now(),
        settings: wanted.settings.clone(),
        begun: false,
        trimmed: false,
        deleting: false,
        owner: Some(wanted.owner.clone()),
    };
    storage.create_container(container, &meta.to_metadata()).await?;
    Ok(meta)
}

/// Changes the metadata of a container, if the plan is still to do so: what storage says under the lease counts.
pub async fn change(
    storage: &dyn Storage,
    container: &ContainerName,
    wanted: &Wanted,
    released: Option<&str>,
) -> Result<Step, StorageError> {
    with_lease(storage, container, async |lease| {
        let Some(metadata) = look(storage, container).await? else { return Err(StorageError::NotFound) };
        let step = plan(wanted, Some(&metadata), released);
        let Step::Change(meta) = step else { return Ok(step) };
        let mut changed = metadata;
        meta.write_to(&mut changed);
        storage.set_container_metadata(container, &changed, &lease).await?;
        Ok(Step::Nothing(meta))
    })
    .await
}

/// What became of a stream that is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deletion {
    /// There is no such container, or it is not the owner's.
    Done,
    /// The servers are told to delete it, by a mark in its metadata.
    Marked,
}

/// Marks a stream as one that its owner deletes: whoever leads carries that out.
pub async fn mark_for_deletion(
    storage: &dyn Storage,
    container: &ContainerName,
    owner: &str,
) -> Result<Deletion, StorageError> {
    let ours = |metadata: &Metadata| {
        StreamMeta::from_metadata(metadata).ok().filter(|meta| meta.owner.as_deref() == Some(owner))
    };
    let Some(metadata) = look(storage, container).await? else { return Ok(Deletion::Done) };
    match ours(&metadata) {
        None => return Ok(Deletion::Done),
        Some(meta) if meta.deleting => return Ok(Deletion::Marked),
        Some(_) => {}
    }
    let marked = with_lease(storage, container, async |lease| {
        let metadata = storage.container_metadata(container).await?;
        let Some(mut meta) = ours(&metadata) else { return Ok(Deletion::Done) };
        meta.deleting = true;
        let mut changed = metadata;
        meta.write_to(&mut changed);
        storage.set_container_metadata(container, &changed, &lease).await?;
        Ok(Deletion::Marked)
    })
    .await;
    match marked {
        Err(StorageError::NotFound) => Ok(Deletion::Done),
        other => other,
    }
}

/// Takes the mark off again, where it is there: the owner wants the stream to stay.
pub async fn take_mark_off(
    storage: &dyn Storage,
    container: &ContainerName,
    owner: &str,
) -> Result<(), StorageError> {
    let marked = |metadata: &Metadata| {
        let meta = StreamMeta::from_metadata(metadata).ok();
        meta.filter(|meta| meta.deleting && meta.owner.as_deref() == Some(owner))
    };
    let found = look(storage, container).await?;
    if found.as_ref().and_then(marked).is_none() {
        return Ok(());
    }
    with_lease(storage, container, async |lease| {
        let metadata = storage.container_metadata(container).await?;
        let Some(mut meta) = marked(&metadata) else { return Ok(()) };
        meta.deleting = false;
        let mut changed = metadata;
        meta.write_to(&mut changed);
        storage.set_container_metadata(container, &changed, &lease).await
    })
    .await
}

/// Deletes a marked stream's container, where no server runs that could.
pub async fn delete_marked(
    storage: &dyn Storage,
    container: &ContainerName,
    owner: &str,
) -> Result<(), StorageError> {
    let lease = storage.acquire_lease(&LeaseTarget::Container(container.clone()), CONTAINER_LEASE).await;
    let lease = match lease {
        Err(StorageError::NotFound) => return Ok(()),
        lease => lease?,
    };
    let metadata = storage.container_metadata(container).await?;
    let marked = StreamMeta::from_metadata(&metadata)
        .is_ok_and(|meta| meta.deleting && meta.owner.as_deref() == Some(owner));
    if marked {
        storage.delete_container(container, &lease).await?;
    } else {
        give_back(storage, container, &lease).await;
    }
    Ok(())
}

/// Does something while holding the lease on a container, and gives it back.
pub async fn with_lease<T>(
    storage: &dyn Storage,
    container: &ContainerName,
    work: impl AsyncFnOnce(LeaseId) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let lease = storage.acquire_lease(&LeaseTarget::Container(container.clone()), CONTAINER_LEASE).await?;
    let outcome = work(lease.clone()).await;
    give_back(storage, container, &lease).await;
    outcome
}

async fn give_back(storage: &dyn Storage, container: &ContainerName, lease: &LeaseId) {
    // A lease that is not given back runs out; of a deleted container there is none.
    if let Err(error) = storage.release_lease(&LeaseTarget::Container(container.clone()), lease).await {
        tracing::debug!(%container, %error, "the container's lease is left to run out");
    }
}
