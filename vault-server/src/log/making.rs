//! Making segments, and getting rid of those that nobody uses.
//!
//! ```text
//!  made with number 0 ---> leader looked at ---> claimed: the number is our term ---> leader looked at ---> used
//!         |                                        |
//!         +--- unused: counts for nobody           +--- blank, and somebody's
//! ```
//!
//! A request that makes a segment may arrive when its sender was deposed long ago, even when retention has deleted that
//! very segment. What it makes then stays unused: whoever comes upon it in front of the segments that count takes no
//! notice of it, and what was zeroed by accident is told from it by its number. A late write of a deposed leader does
//! not land in it: it names the term that it was claimed under.

use vault_format::ids::{Offset, Position, Term};

use crate::log::error::Unusable;
use crate::log::recover::{RecoverError, claim, corrupt, pages};
use crate::log::reign::{Reign, ReignEnd};
use crate::log::retry::{Backoff, until_definite};
use crate::log::store::{Head, Segment, Store};
use crate::storage::StorageError;

/// Makes a segment, blank and fenced with our term. One that a request of ours, or an earlier leader, made and never
/// wrote to is as good.
pub(crate) async fn create_segment(
    store: &Store,
    reign: &Reign,
    base: Offset,
    segment_bytes: u64,
) -> Result<Segment, RecoverError> {
    let mut backoff = Backoff::default();
    loop {
        if let Some(segment) = try_create(store, reign, base, segment_bytes).await? {
            return Ok(segment);
        }
        backoff.wait(&store.env).await;
    }
}

/// `None` where it was there, and was deleted before it could be claimed: somebody has taken it for a leftover.
async fn try_create(
    store: &Store,
    reign: &Reign,
    base: Offset,
    segment_bytes: u64,
) -> Result<Option<Segment>, RecoverError> {
    let blob = store.blob(base);
    let created =
        until_definite(&store.env, || store.storage.create_page_blob(&blob, segment_bytes, Term::ZERO)).await;
    let is_new = match created {
        Ok(_) => true,
        Err(StorageError::AlreadyExists) => false,
        Err(StorageError::LeaseHeld | StorageError::PreconditionFailed) => return Err(outrun()),
        Err(error) => {
            // A successor may have deleted the stream.
            if error == StorageError::NotFound {
                prove(store, reign).await?;
            }
            return Err(error.into());
        }
    };
    // A leader that was deposed before the segment was made must not claim it: retention may have deleted what its
    // successor had made of it.
    prove(store, reign).await?;
    let bytes = if is_new {
        segment_bytes
    } else {
        match until_definite(&store.env, || store.storage.properties(&blob)).await {
            Ok(properties) => properties.bytes,
            Err(StorageError::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    };
    let segment = Segment { base, bytes };
    match claim(store, reign, &segment).await {
        Err(RecoverError::Unusable(Unusable::NotFound)) => return Ok(None),
        claimed => claimed?,
    }
    let is_blank = is_new || is_blank(store, &segment).await?;
    // A leader that was deposed meanwhile could use a segment that its successor knows nothing of, or take for damage
    // what its successor has written.
    prove(store, reign).await?;
    if is_blank {
        return Ok(Some(segment));
    }
    let detail = "it is written to, but nothing led to it";
    Err(Unusable::from(corrupt(&segment, Position::ZERO, detail)).into())
}

/// Fails where a higher term was given out.
async fn prove(store: &Store, reign: &Reign) -> Result<(), RecoverError> {
    if reign.in_force(&store.storage, &store.env, None).await? { Ok(()) } else { Err(outrun()) }
}

fn outrun() -> RecoverError {
    RecoverError::Reign(ReignEnd::Outrun(None))
}

/// Whether no page of a segment is written.
pub(crate) async fn is_blank(store: &Store, segment: &Segment) -> Result<bool, Unusable> {
    if !segment.is_whole() || store.head(segment, 0).await? != Head::Absent {
        return Ok(false);
    }
    Ok(pages(store, segment, 0..segment.bytes).await?.is_empty())
}

/// Segments as they are listed.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Those that count, oldest first, and perhaps leftovers behind them.
    pub(crate) segments: Vec<Segment>,
    /// Unused ones in front of these, made by requests that came late.
    pub(crate) late: Vec<Segment>,
}

/// Lists the segments, and tells those that count from what late requests have made in front of them.
pub(crate) async fn list(store: &Store) -> Result<Listed, Unusable> {
    let mut segments = store.segments().await?;
    let mut late = 0;
    // The last one is used by whoever comes next.
    while late + 1 < segments.len() && is_unused(store, &segments[late]).await? {
        late += 1;
    }
    let late = segments.drain(..late).collect();
    Ok(Listed { segments, late })
}

/// Whether nobody has ever used a segment. One that was restored without its number is not blank.
pub(crate) async fn is_unused(store: &Store, segment: &Segment) -> Result<bool, Unusable> {
    let blob = store.blob(segment.base);
    match until_definite(&store.env, || store.storage.properties(&blob)).await {
        Ok(properties) if properties.sequence_number > Term::ZERO => Ok(false),
        Ok(_) => is_blank(store, segment).await,
        // Deleted since it was listed: who comes there finds out why.
        Err(StorageError::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Deletes segments that belong to nobody: they were blank when they were listed. One that is written to by now is none
/// of them, and neither are those behind it. Whether there was none such.
pub(crate) async fn delete_leftovers(store: &Store, leftovers: &[Segment]) -> Result<bool, Unusable> {
    for leftover in leftovers {
        let blob = store.blob(leftover.base);
        let etag = match until_definite(&store.env, || store.storage.properties(&blob)).await {
            Ok(properties) => properties.etag,
            Err(StorageError::NotFound) => continue,
            Err(error) => return Err(error.into()),
        };
        // What is blank after its state was read is deleted in that state, or not at all.
        match is_blank(store, leftover).await {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(Unusable::NotFound) => continue,
            Err(error) => return Err(error),
        }
        tracing::warn!(%blob, "deleting a segment that was made and never written to");
        match until_definite(&store.env, || store.storage.delete_blob(&blob, Some(&etag))).await {
            Ok(()) | Err(StorageError::NotFound) => {}
            Err(StorageError::PreconditionFailed) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}
