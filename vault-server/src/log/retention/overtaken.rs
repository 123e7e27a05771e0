//! Readers under whom retention deletes segments: what is gone is told from what is lost.
//!
//! Segments are deleted oldest first, each deletion confirmed before the next. So what retention has deleted comes
//! before all that is there; a segment that is missing between others is lost.

use std::sync::PoisonError;

use crate::log::claim::{Raised, raise};
use crate::log::error::Unusable;
use crate::log::making::list;
use crate::log::reader::Reader;
use crate::log::recover::RecoverError;
use crate::log::reign::Reign;
use crate::log::retry::until_definite;
use crate::log::settings::StreamMeta;
use crate::log::store::{Segment, Store};

/// Lists the segments and forgets the known ones that come before all that are there. Whether there were any.
///
/// Where nothing of what is known is there, or something else is missing as well, nothing is forgotten: that takes a
/// closer look.
pub(crate) async fn forget_deleted(reader: &Reader) -> Result<bool, Unusable> {
    let listed = list(&reader.store).await?.segments;
    let Some(first) = listed.first() else { return Ok(false) };
    let some_are_gone = reader.segments().first().is_some_and(|oldest| oldest.base < first.base);
    if !some_are_gone || !is_trimmed(&reader.store).await? {
        return Ok(false);
    }
    let mut known = reader.shown.segments.write().unwrap_or_else(PoisonError::into_inner);
    let gone = known.partition_point(|segment| segment.base < first.base);
    let is_there = |base| listed.binary_search_by_key(&base, |segment| segment.base).is_ok();
    // One that was made since the list was asked for is not in it.
    let newest = listed.last().map_or(first.base, |last| last.base);
    let kept = &known[gone..];
    if gone == 0 || kept.is_empty() || kept.iter().any(|it| it.base <= newest && !is_there(it.base)) {
        return Ok(false);
    }
    for segment in known.drain(..gone) {
        reader.shown.ends.forget(segment.base);
    }
    Ok(true)
}

/// Whether it is on record that retention has deleted segments of the stream. That is so before it deletes the first.
pub(crate) async fn is_trimmed(store: &Store) -> Result<bool, Unusable> {
    let metadata = until_definite(&store.env, || store.storage.container_metadata(&store.container)).await?;
    Ok(StreamMeta::from_metadata(&metadata).is_ok_and(|meta| meta.id == store.id && meta.trimmed))
}

/// Claims the oldest segment for a new term: a deletion that an earlier leader has on its way is then refused, since it
/// names the segment as it was.
pub(crate) async fn guard_oldest(
    store: &Store,
    reign: &Reign,
    segments: &mut Vec<Segment>,
) -> Result<(), RecoverError> {
    while segments.len() > 1 {
        match raise(store, reign, &segments[0]).await {
            Ok(Raised::Claimed) => return Ok(()),
            // It was deleted a moment ago, and may have been made anew by a request that came late.
            Ok(Raised::Unused) | Err(RecoverError::Unusable(Unusable::NotFound)) => {
                segments.remove(0);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
