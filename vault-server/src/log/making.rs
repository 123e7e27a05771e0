//! Making segments, and getting rid of those that nobody uses.
//!
//! ```text
//!  made as unused ---> leader looked at ---> claimed: the number is our term ---> used
//!         |                                    |
//!         +--- counts for nobody               +--- blank, and somebody's
//! ```
//!
//! A request that makes a segment may arrive when its sender was deposed long ago, even when retention has deleted that
//! very segment. What it makes then stays unused ([`Term::UNUSED`]): whoever comes upon it in front of the segments that
//! count takes no notice of it, and what was zeroed by accident is told from it by its number. A late write of a deposed
//! leader does not land in it: it names the term that it was claimed under. Nor does a late claim: see
//! [`claim`](crate::log::claim).

use vault_format::ids::{Offset, Position, Term};

use crate::log::claim::{Raised, claim, claim_unused, outrun, prove, raise};
use crate::log::error::Unusable;
use crate::log::recover::{RecoverError, corrupt, pages};
use crate::log::reign::Reign;
use crate::log::retry::{Backoff, until_definite};
use crate::log::store::{Head, Segment, Store};
use crate::storage::{ETag, StorageError};

/// Makes a segment, blank and fenced with our term. One that a request of ours, or an earlier leader, made and never
/// wrote to is as good.
///
/// A successor knows of it: `leader` showed our term when the segment was there already, so that whoever leads later lists
/// it, and claims or deletes it before he writes.
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
    let create = || store.storage.create_page_blob(&blob, segment_bytes, Term::UNUSED);
    let new = match until_definite(&store.env, create).await {
        Ok(etag) => Some(etag),
        Err(StorageError::AlreadyExists) => None,
        Err(StorageError::LeaseHeld | StorageError::PreconditionFailed) => return Err(outrun()),
        Err(error) => {
            // A successor may have deleted the stream.
            if error == StorageError::NotFound {
                prove(store, reign).await?;
            }
            return Err(error.into());
        }
    };
    let (segment, is_blank) = match claim_made(store, reign, base, segment_bytes, new.as_ref()).await {
        Err(RecoverError::Unusable(Unusable::NotFound)) => return Ok(None),
        claimed => claimed?,
    };
    if is_blank {
        return Ok(Some(segment));
    }
    // What a successor has written is no damage.
    prove(store, reign).await?;
    let detail = "it is written to, but nothing led to it";
    Err(Unusable::from(corrupt(&segment, Position::ZERO, detail)).into())
}

/// Claims the segment that is there by now, and looks whether it is blank. `new`: its state, where we have just made it.
async fn claim_made(
    store: &Store,
    reign: &Reign,
    base: Offset,
    segment_bytes: u64,
    new: Option<&ETag>,
) -> Result<(Segment, bool), RecoverError> {
    let made = Segment { base, bytes: segment_bytes };
    if let Some(new) = new
        && claim_unused(store, reign, &made, new).await?
    {
        return Ok((made, true));
    }
    let blob = store.blob(base);
    let bytes = until_definite(&store.env, || store.storage.properties(&blob)).await?.bytes;
    let segment = Segment { base, bytes };
    claim(store, reign, &segment).await?;
    let is_blank = is_blank(store, &segment).await?;
    Ok((segment, is_blank))
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

/// Whether nobody has ever used a segment: then no page of it can have been written.
async fn is_unused(store: &Store, segment: &Segment) -> Result<bool, Unusable> {
    let blob = store.blob(segment.base);
    match until_definite(&store.env, || store.storage.properties(&blob)).await {
        Ok(properties) => Ok(properties.sequence_number == Term::UNUSED),
        // Deleted since it was listed: who comes there finds out why.
        Err(StorageError::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Deletes segments that belong to nobody: they were blank when they were listed. One that is written to by now is none
/// of them, and neither are those behind it. Whether there was none such.
pub(crate) async fn delete_leftovers(
    store: &Store,
    reign: &Reign,
    leftovers: &[Segment],
) -> Result<bool, RecoverError> {
    for leftover in leftovers {
        let blob = store.blob(leftover.base);
        // From here on whoever writes to it claims it before, which changes its state. A write alone may not.
        let number = match raise(store, reign, leftover).await {
            Ok(Raised::Claimed) => reign.term,
            Ok(Raised::Unused) => Term::UNUSED,
            Err(RecoverError::Unusable(Unusable::NotFound)) => continue,
            Err(error) => return Err(error),
        };
        let etag = match until_definite(&store.env, || store.storage.properties(&blob)).await {
            Ok(found) if found.sequence_number == number => found.etag,
            Ok(_) => return Ok(false),
            Err(StorageError::NotFound) => continue,
            Err(error) => return Err(error.into()),
        };
        match is_blank(store, leftover).await {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(Unusable::NotFound) => continue,
            Err(error) => return Err(error.into()),
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
