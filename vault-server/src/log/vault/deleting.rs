//! Deleting streams, for callers and for owners.
//!
//! First it is known that a stream may go, then it goes: whoever leads next and misses it must not take it for lost.
//!
//! ```text
//!   page: a deletion is under way -> lease on the container -> term in force, wish stands -> closed -> container gone
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use vault_format::ids::Term;
use vault_format::names::StreamName;

use super::{Vault, unowned};
use crate::limits::STREAMS_OPENED_AT_ONCE;
use crate::log::context::Context;
use crate::log::error::{AdminError, Unusable};
use crate::log::meta;
use crate::log::reign::Reign;
use crate::log::settings::{self, StreamMeta};
use crate::log::stream::Stream;
use crate::storage::{Metadata, StorageError};

/// Who wants a stream to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    /// Somebody who may, by a request. Not where the stream has an owner.
    Caller,
    /// The owner, as the container says. Not where there is none.
    Owner,
}

/// What became of it.
enum Outcome {
    Gone,
    /// It belongs to that owner.
    Owned(String),
    /// The owner wants it to stay after all.
    Kept,
}

impl Vault {
    /// Deletes a stream and everything in it, unless Kubernetes owns it. Deleting one whose container is gone makes the
    /// vault forget it.
    pub async fn delete(&self, name: &StreamName) -> Result<(), AdminError> {
        let stream = self.stream(name)?;
        unowned(stream.meta().owner)?;
        self.delete_for(By::Caller, &stream).await
    }

    /// Deletes the streams whose owners want that, as far as this server has listed it. What fails is tried again the next
    /// time.
    pub(crate) async fn delete_unwanted(&self) {
        let is_due =
            |stream: &&Arc<Stream>| stream.is_to_go() || stream.is_unwanted() && !stream.is_deleted();
        let due: Vec<_> = self.read().values().filter(is_due).cloned().collect();
        let deleting = due.into_iter().map(|stream| {
            let vault = self.clone();
            async move {
                if let Err(error) = vault.delete_for(By::Owner, &stream).await {
                    tracing::warn!(stream = %stream.name(), %error, "cannot delete the stream for its owner yet");
                }
            }
        });
        futures::stream::iter(deleting).buffer_unordered(STREAMS_OPENED_AT_ONCE).collect::<()>().await;
    }

    /// Whether a deletion is under way, or one has failed whose outcome may be unknown.
    pub(crate) fn is_deleting(&self) -> bool {
        self.context.deletions.load(Ordering::SeqCst) > 0 || self.read().values().any(|it| it.is_to_go())
    }

    async fn delete_for(&self, by: By, stream: &Arc<Stream>) -> Result<(), AdminError> {
        let (vault, stream) = (self.clone(), Arc::clone(stream));
        self.to_the_end(async move { vault.delete_now(by, &stream).await }).await
    }

    async fn delete_now(&self, by: By, stream: &Arc<Stream>) -> Result<(), AdminError> {
        let reign = self.context.reign.borrow().clone().ok_or(Unusable::NoLeader)?;
        let term = reign.term;
        let deletion = Deletion::begin(&self.context);
        self.announce(term).await?;
        let container = self.context.prefix.container(stream.name());
        let begun = AtomicBool::new(false);
        let deleted = meta::with_lease(&self.context, &container, async |lease| {
            // A successor may have opened the stream meanwhile.
            if !reign.in_force(&self.context.storage, &self.context.env, None).await? {
                return Err(StorageError::PreconditionFailed);
            }
            // The lease keeps what the container says as it is from here on.
            let metadata = self.context.storage.container_metadata(&container).await?;
            if let Some(kept) = by.why_not(stream, &metadata) {
                return Ok(kept);
            }
            begun.store(true, Ordering::Relaxed);
            stream.set_deleted();
            self.context.storage.delete_container(&container, &lease).await.map(|()| Outcome::Gone)
        });
        match deleted.await {
            Ok(Outcome::Owned(owner)) => {
                if stream.set_owner(Some(owner.clone())) {
                    self.context.count_change();
                }
                Err(AdminError::Managed(owner))
            }
            Ok(Outcome::Kept) => {
                if stream.is_to_go() {
                    stream.set_not_deleted(term);
                }
                Ok(())
            }
            Ok(Outcome::Gone) | Err(StorageError::NotFound) => {
                self.forget(stream);
                drop(deletion);
                // Who listed the streams when this was announced has seen the container still.
                self.context.count_change();
                tracing::info!(stream = %stream.name(), ?by, "stream deleted");
                Ok(())
            }
            Err(error) => {
                match by {
                    _ if !begun.into_inner() => {}
                    By::Caller => stream.set_not_deleted(term),
                    By::Owner => stream.set_to_go(),
                }
                match error {
                    StorageError::LeaseHeld => Err(AdminError::Busy),
                    StorageError::PreconditionFailed => Err(Unusable::NoLeader.into()),
                    error => Err(Unusable::Storage(error).into()),
                }
            }
        }
    }

    /// Counts a change and waits until the leader's page shows it, as long as a request waits for storage.
    async fn announce(&self, term: Term) -> Result<(), Unusable> {
        let change = self.context.count_change();
        let (mut announced, mut reign) = (self.context.announced.subscribe(), self.context.reign.subscribe());
        let ours = |reign: &Option<Reign>| reign.as_ref().is_some_and(|reign| reign.term == term);
        let shown = async {
            // The senders live as long as the vault.
            tokio::select! {
                _ = announced.wait_for(|shown| shown.is_none_or(|shown| shown >= change)) => Ok(()),
                _ = reign.wait_for(|reign| !ours(reign)) => Err(Unusable::NoLeader),
            }
        };
        self.context.env.timeout(self.patience(), shown).await.unwrap_or(Err(Unusable::TimedOut))
    }
}

impl By {
    /// What keeps the container with these metadata from being deleted for the sake of this stream.
    fn why_not(self, stream: &Stream, metadata: &Metadata) -> Option<Outcome> {
        let owner = settings::owner(metadata);
        let meta = StreamMeta::from_metadata(metadata).ok();
        match (self, owner) {
            (Self::Caller, Some(owner)) => return Some(Outcome::Owned(owner)),
            (Self::Owner, None) => return Some(Outcome::Kept),
            (Self::Caller, None) | (Self::Owner, Some(_)) => {}
        }
        match meta {
            // The stream's own container is gone.
            Some(meta) if meta.id != stream.meta().id => Some(Outcome::Gone),
            Some(meta) if self == Self::Owner && !meta.deleting => Some(Outcome::Kept),
            None if self == Self::Owner => Some(Outcome::Kept),
            _ => None,
        }
    }
}

/// A deletion under way, which the leader's page shows.
struct Deletion<'a>(&'a Context);

impl<'a> Deletion<'a> {
    fn begin(context: &'a Context) -> Self {
        context.deletions.fetch_add(1, Ordering::SeqCst);
        Self(context)
    }
}

impl Drop for Deletion<'_> {
    fn drop(&mut self) {
        self.0.deletions.fetch_sub(1, Ordering::SeqCst);
    }
}
