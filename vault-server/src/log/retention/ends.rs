//! How far sealed segments go. A segment that was sealed early is shorter than its blob, and nothing but its seal says
//! so. The end is known to who saw the seal written or passed it; else it is looked up once and remembered.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use futures::{StreamExt, TryStreamExt};
use vault_format::header::{Header, Kind};
use vault_format::ids::{Offset, Position};
use vault_format::layout::{block_end, block_start};
use vault_format::limits::{BLOCK_BYTES, PAGE_BYTES};

use crate::limits::ENDS_FOUND_AT_ONCE;
use crate::log::error::Unusable;
use crate::log::retry::until_definite;
use crate::log::scan::last_head;
use crate::log::store::{Head, Segment, Store};

/// The ends of one stream's sealed segments: where the byte behind the seal stands.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    known: RwLock<BTreeMap<Offset, Position>>,
    /// Held by the one who looks ends up; others find them found.
    finding: tokio::sync::Mutex<()>,
}

impl Ends {
    /// Takes note of where a segment was sealed.
    pub(crate) fn note(&self, base: Offset, end: Position) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(base, end);
    }

    /// Forgets a segment that is gone.
    pub(crate) fn forget(&self, base: Offset) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&base);
    }

    /// The end of a segment, if it is known.
    pub(crate) fn get(&self, base: Offset) -> Option<Position> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&base).copied()
    }

    /// Whether all of these are known.
    pub(crate) fn knows(&self, sealed: &[Segment]) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        sealed.iter().all(|segment| known.contains_key(&segment.base))
    }

    /// How many bytes these segments hold together, with `unknown` telling what one counts whose end is not known.
    pub(crate) fn sum(&self, sealed: &[Segment], unknown: impl Fn(&Segment) -> u64) -> u64 {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let bytes =
            |segment: &Segment| known.get(&segment.base).map_or_else(|| unknown(segment), |end| end.0);
        sealed.iter().map(bytes).sum()
    }

    /// Looks up what is not known of these segments. One that is gone is passed over.
    pub(crate) async fn find(&self, store: &Store, sealed: &[Segment]) -> Result<(), Unusable> {
        if self.knows(sealed) {
            return Ok(());
        }
        let _finding = self.finding.lock().await;
        let unknown: Vec<_> =
            sealed.iter().filter(|segment| self.get(segment.base).is_none()).copied().collect();
        let looking = unknown.into_iter().map(|segment| async move {
            match sealed_at(store, &segment).await {
                Ok(end) => {
                    self.note(segment.base, end);
                    Ok(())
                }
                Err(Unusable::NotFound) => Ok(()),
                Err(error) => Err(error),
            }
        });
        futures::stream::iter(looking).buffer_unordered(ENDS_FOUND_AT_ONCE).try_collect::<()>().await
    }
}

/// The end of a sealed segment; the blob's where there is no seal to be found, as in a damaged one.
async fn sealed_at(store: &Store, segment: &Segment) -> Result<Position, Unusable> {
    let full = Position(segment.bytes);
    let Some(last) = (segment.bytes / BLOCK_BYTES).checked_sub(1) else { return Ok(full) };
    // Most segments are full.
    let last = match store.head(segment, last).await? {
        Head::Valid(_) => Some(last),
        Head::TooNew | Head::Absent => last_head(store, segment).await?,
    };
    let Some(last) = last else { return Ok(full) };
    let (start, blob) = (block_start(last), store.blob(segment.base));
    let block = start.0..block_end(start).0.min(segment.bytes);
    let pages = until_definite(&store.env, || store.storage.page_ranges(&blob, block.clone())).await?;
    // Nothing is written behind a seal.
    let Some(end) = pages.last().map(|range| Position(range.end)) else { return Ok(full) };
    let seal = Position(end.0.saturating_sub(PAGE_BYTES));
    let page = store.read(segment.base, seal, end).await?;
    let is_seal = |header: &Header| {
        header.kind == Kind::Seal
            && header.stream == store.id
            && header.position == seal
            && header.end() == end
    };
    Ok(if Header::decode(&page).is_ok_and(|header| is_seal(&header)) { end } else { full })
}
