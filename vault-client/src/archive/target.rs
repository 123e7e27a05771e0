//! The container that a copy is written to: made where it is missing, locked against everybody else, and marked as long
//! as what is in it is not whole.

use std::sync::Arc;
use std::time::Duration;

use vault_format::ids::Offset;
use vault_format::names::{ContainerName, StreamName};
use vault_server::env::Env;
use vault_server::log::inspect::StoredStream;
use vault_server::log::retry::until_definite;
use vault_server::log::settings::StreamMeta;
use vault_server::storage::{LeaseId, LeaseTarget, Metadata, Storage, StorageError};

use super::limits::{LEASE, RENEW_EVERY};
use super::{ArchiveError, Origin, Place};

/// Whether what is written is a stream at any moment, or only once it is whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wholeness {
    /// A copy that grows: what is there so far is a stream.
    Grows,
    /// A stream that is restored: until [`LogWriter::complete`](super::LogWriter::complete) servers take it for none.
    AllOrNothing,
}

/// The container, locked.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) place: Place,
    pub(super) name: StreamName,
    pub(super) meta: StreamMeta,
    /// All that the container says, names of later versions too.
    metadata: Metadata,
    wholeness: Wholeness,
    lock: Lock,
}

impl Target {
    /// Makes the container, or finds it, and locks it.
    pub(super) async fn open(
        place: &Place,
        name: &StreamName,
        origin: &Origin,
        wholeness: Wholeness,
    ) -> Result<Self, ArchiveError> {
        let in_use = |error| match error {
            StorageError::LeaseHeld => ArchiveError::InUse(name.clone()),
            error => error.into(),
        };
        let settings = vault_server::log::settings::Settings {
            account: place.account.clone(),
            ..origin.settings.clone()
        };
        let wanted = StreamMeta {
            id: origin.id,
            created: origin.created,
            settings,
            begun: false,
            trimmed: false,
            deleting: false,
            owner: None,
        };
        let (container, storage) = (place.prefix.container(name), &place.storage);
        match until_definite(&place.env, || storage.container_metadata(&container)).await {
            Ok(found) => {
                written_as(name, &wanted, wholeness, &found)?;
            }
            Err(StorageError::NotFound) => {
                let metadata = stored(&wanted, wholeness, &Metadata::new());
                match until_definite(&place.env, || storage.create_container(&container, &metadata)).await {
                    Ok(()) | Err(StorageError::AlreadyExists) => {}
                    Err(error) => return Err(in_use(error)),
                }
            }
            Err(error) => return Err(error.into()),
        }
        let lock =
            Lock::take(Arc::clone(storage), place.env.clone(), container.clone()).await.map_err(in_use)?;
        let found = until_definite(&place.env, || storage.container_metadata(&container)).await?;
        let meta = written_as(name, &wanted, wholeness, &found)?;
        let (place, name) = (place.clone(), name.clone());
        let mut target = Self { place, name, meta, metadata: found, wholeness, lock };
        // What has changed at the source since.
        target.change(|meta| meta.settings = wanted.settings.clone()).await?;
        Ok(target)
    }

    /// The stream in it, finished or not.
    pub(super) fn stream(&self) -> StoredStream {
        let Place { storage, env, prefix, .. } = &self.place;
        StoredStream::with_meta(Arc::clone(storage), env.clone(), prefix, &self.name, self.meta.clone())
    }

    /// Before the first segment is made: a stream that does not begin at 0 must say that this is right.
    pub(super) async fn before_first_segment(&mut self, base: Offset) -> Result<(), ArchiveError> {
        self.change(|meta| meta.trimmed |= base > Offset::ZERO).await
    }

    /// After it was made.
    pub(super) async fn after_first_segment(&mut self) -> Result<(), ArchiveError> {
        self.change(|meta| meta.begun = true).await
    }

    /// Before the first segment is deleted, which nothing was written to: else servers would take the stream's messages for
    /// lost.
    pub(super) async fn before_no_segment(&mut self) -> Result<(), ArchiveError> {
        self.change(|meta| meta.begun = false).await
    }

    /// From now on servers take what is there for a stream.
    pub(super) async fn complete(&mut self) -> Result<(), ArchiveError> {
        self.wholeness = Wholeness::Grows;
        self.store().await
    }

    async fn change(&mut self, change: impl FnOnce(&mut StreamMeta)) -> Result<(), ArchiveError> {
        let before = self.meta.clone();
        change(&mut self.meta);
        if self.meta == before { Ok(()) } else { self.store().await }
    }

    async fn store(&mut self) -> Result<(), ArchiveError> {
        let Place { storage, env, .. } = &self.place;
        let (container, lease) = (&self.lock.container, &self.lock.lease);
        let metadata = stored(&self.meta, self.wholeness, &self.metadata);
        let stored =
            until_definite(env, || storage.set_container_metadata(container, &metadata, lease)).await;
        stored.map_err(|error| self.or_in_use(error))
    }

    /// Keeps the container locked; to be called now and then.
    pub(super) async fn keep(&mut self) -> Result<(), ArchiveError> {
        self.lock.keep().await.map_err(|error| self.or_in_use(error))
    }

    /// Makes sure that nobody else has locked the container since this did. Whoever claims a segment and then learns this
    /// is the only one who may write under the number that it claimed: another one would have claimed a higher number, or
    /// does not get this answer any more.
    pub(super) async fn prove(&mut self) -> Result<(), ArchiveError> {
        self.lock.renew().await.map_err(|error| self.or_in_use(error))
    }

    /// What a refused request to the target means.
    pub(super) fn or_in_use(&self, error: StorageError) -> ArchiveError {
        match error {
            StorageError::PreconditionFailed | StorageError::LeaseHeld => {
                ArchiveError::InUse(self.name.clone())
            }
            error => error.into(),
        }
    }

    /// Gives the lock back.
    pub(super) async fn close(mut self) {
        self.lock.release().await;
    }
}

/// What the container is to say, of which `found` stands there.
fn stored(meta: &StreamMeta, wholeness: Wholeness, found: &Metadata) -> Metadata {
    let mut metadata = found.clone();
    match wholeness {
        Wholeness::Grows => meta.write_to(&mut metadata),
        Wholeness::AllOrNothing => meta.write_unfinished_to(&mut metadata),
    }
    metadata
}

/// What stands in a container that is there already, if it may be gone on with.
fn written_as(
    name: &StreamName,
    wanted: &StreamMeta,
    wholeness: Wholeness,
    metadata: &Metadata,
) -> Result<StreamMeta, ArchiveError> {
    let unfinished = StreamMeta::from_unfinished_metadata(metadata);
    let found = match (wholeness, unfinished) {
        (Wholeness::Grows, Some(_)) => return Err(ArchiveError::Unfinished(name.clone())),
        (Wholeness::AllOrNothing, None) => return Err(ArchiveError::Exists(name.clone())),
        (Wholeness::AllOrNothing, Some(unfinished)) => unfinished,
        (Wholeness::Grows, None) => StreamMeta::from_metadata(metadata),
    };
    let found = found.map_err(|invalid| StorageError::Refused(invalid.to_string()))?;
    if found.id == wanted.id {
        Ok(found)
    } else {
        Err(ArchiveError::OtherStream { name: name.clone(), found: found.id })
    }
}

/// The lease on a container. In a directory it keeps every other process from writing to any of it.
#[derive(Debug)]
struct Lock {
    storage: Arc<dyn Storage>,
    env: Env,
    container: ContainerName,
    lease: LeaseId,
    renewed: Duration,
    released: bool,
}

impl Lock {
    async fn take(
        storage: Arc<dyn Storage>,
        env: Env,
        container: ContainerName,
    ) -> Result<Self, StorageError> {
        let target = LeaseTarget::Container(container.clone());
        let renewed = env.clock.monotonic();
        let lease = storage.acquire_lease(&target, LEASE).await?;
        Ok(Self { storage, env, container, lease, renewed, released: false })
    }

    async fn keep(&mut self) -> Result<(), StorageError> {
        let now = self.env.clock.monotonic();
        if now < self.renewed + RENEW_EVERY { Ok(()) } else { self.renew().await }
    }

    async fn renew(&mut self) -> Result<(), StorageError> {
        let now = self.env.clock.monotonic();
        let target = LeaseTarget::Container(self.container.clone());
        until_definite(&self.env, || self.storage.renew_lease(&target, &self.lease)).await?;
        self.renewed = now;
        Ok(())
    }

    async fn release(&mut self) {
        self.released = true;
        let target = LeaseTarget::Container(self.container.clone());
        if let Err(error) = self.storage.release_lease(&target, &self.lease).await {
            tracing::debug!(container = %self.container, %error, "the container's lease is left to run out");
        }
    }
}

impl Drop for Lock {
    /// Whoever gives up in the middle must not keep others waiting until the lease runs out.
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.released {
            return;
        }
        let (storage, lease) = (Arc::clone(&self.storage), self.lease.clone());
        let target = LeaseTarget::Container(self.container.clone());
        runtime.spawn(async move { storage.release_lease(&target, &lease).await });
    }
}
