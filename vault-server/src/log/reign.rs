//! The term under which this server writes, and how it shows that it is still in force.

use std::sync::Arc;

use vault_format::ids::Term;

use crate::env::Env;
use crate::log::retry::until_definite;
use crate::storage::{BlobName, Storage, StorageError};

/// A term that was obtained by election. It ends when another server, or this one, obtains a higher one.
#[derive(Clone, Debug)]
pub struct Reign {
    /// The fence of every write.
    pub term: Term,
    /// The blob whose sequence number is the highest term given out.
    pub leader_blob: BlobName,
}

/// Why a reign is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReignEnd {
    /// A write was refused, or a higher term seen. A leader that holds the lease all the same must rise above it.
    Outrun(Option<Term>),
    /// The outcome of a request is unknown that may take effect later: only a new term makes sure that it does not.
    Unsure,
}

impl Reign {
    /// Whether storage shows our term as the highest: on the segment that is written to, or before there is one on
    /// the blob that gives out terms. The answer was given after this was called.
    pub(crate) async fn in_force(
        &self,
        storage: &Arc<dyn Storage>,
        env: &Env,
        segment: Option<&BlobName>,
    ) -> Result<bool, StorageError> {
        let shows_ours = async |blob: &BlobName| {
            let properties = until_definite(env, || storage.properties(blob)).await?;
            Ok(properties.sequence_number == self.term)
        };
        let leader_shows_ours = async || match shows_ours(&self.leader_blob).await {
            // Whoever leads next makes it anew, with a higher term. No stream is missing by that.
            Err(StorageError::NotFound) => Ok(false),
            shown => shown,
        };
        let Some(segment) = segment else { return leader_shows_ours().await };
        match shows_ours(segment).await {
            // Deleted with its stream, or by a successor's retention.
            Err(StorageError::NotFound) if !leader_shows_ours().await? => Ok(false),
            shown => shown,
        }
    }
}
