//! What lies beyond the tail: damage is told from the remains of writes that were never acknowledged, and these are kept
//! aside and cleared.

use bytes::{Bytes, BytesMut};
use vault_format::header::Header;
use vault_format::ids::{Position, StreamId, Term};
use vault_format::layout::window_end;
use vault_format::limits::{BLOCK_BYTES, PAGE_BYTES};
use vault_format::names::SegmentName;

use crate::limits::ASIDES_KEPT;
use crate::log::error::{StreamFault, Unusable};
use crate::log::recover::{Purpose, RecoverError, corrupt, pages};
use crate::log::reign::{Reign, ReignEnd};
use crate::log::retry::until_definite;
use crate::log::scan::{ScanEnd, Scanned, scan};
use crate::log::store::{Segment, Store};
use crate::storage::{BlobName, StorageError};

pub(crate) enum Settled {
    /// Nothing is left beyond the tail.
    Clean,
    /// On a second look the log goes on.
    Longer,
    /// What lies beyond proves that acknowledged bytes are damaged.
    Damaged(StreamFault),
}

/// Decides what the pages beyond the tail are, and clears them where they are the remains of writes that were never
/// acknowledged.
pub(crate) async fn settle_tail(
    store: &Store,
    purpose: Purpose<'_>,
    segment: &Segment,
    scanned: &Scanned,
) -> Result<Settled, RecoverError> {
    let tail = scanned.chain.position;
    let window = tail.0..window_end(tail, segment.bytes).0;
    let beyond = pages(store, segment, tail.0..segment.bytes).await?;
    let Some(last) = beyond.last() else { return Ok(Settled::Clean) };
    let damage = if last.end > window.end {
        Some(Position(
            beyond.iter().find(|range| range.end > window.end).map_or(last.start, |range| range.start),
        ))
    } else {
        let highest = match purpose {
            Purpose::Lead { reign, .. } => reign.term,
            Purpose::Follow | Purpose::Resume => {
                let blob = store.blob(segment.base);
                until_definite(&store.env, || store.storage.properties(&blob)).await?.sequence_number
            }
        };
        evidence(store, highest, segment, tail, &beyond).await?
    };
    #[cfg(feature = "canaries")]
    let damage = damage.filter(|_| !vault_format::canary::Canary::CorruptionIsTail.is_on());
    if let Some(proof) = damage {
        let again = scan(store, segment, scanned.chain, None).await?;
        if again.chain.position > tail {
            return Ok(Settled::Longer);
        }
        let ScanEnd::Tail(broken) = scanned.end else { return Ok(Settled::Longer) };
        let detail = format!("{broken}, although the bytes at {proof} prove that it was acknowledged");
        return Ok(Settled::Damaged(corrupt(segment, tail, detail)));
    }
    // Of somebody else's stream these are writes on their way.
    if let Purpose::Lead { reign, .. } = purpose {
        set_aside(store, reign, segment, tail, last.end).await?;
        clear(store, reign, segment, window).await?;
    }
    Ok(Settled::Clean)
}

/// Looks at every page beyond the tail for a header that says that what stands at the tail was committed.
async fn evidence(
    store: &Store,
    highest: Term,
    segment: &Segment,
    tail: Position,
    pages: &[std::ops::Range<u64>],
) -> Result<Option<Position>, Unusable> {
    for span in spans(pages) {
        let (from, to) = (Position(span.start), Position(span.end));
        let bytes = store.read(segment.base, from, to).await?;
        if let Some(proof) = committed_beyond(&bytes, from, &store.id, tail, highest) {
            return Ok(Some(proof));
        }
    }
    Ok(None)
}

/// What to read to have seen all these pages, a block at a time: a write that is stored in part may leave thousands of
/// them apart from each other, and the pages in between hold zeros, which are no header.
fn spans(pages: &[std::ops::Range<u64>]) -> Vec<std::ops::Range<u64>> {
    let mut spans: Vec<std::ops::Range<u64>> = Vec::new();
    for range in pages {
        let mut from = range.start;
        while from < range.end {
            if spans.last().is_none_or(|span| from >= span.start + BLOCK_BYTES) {
                spans.push(from..from);
            }
            let span = spans.last_mut().expect("there is one");
            span.end = range.end.min(span.start + BLOCK_BYTES);
            from = span.end;
        }
    }
    spans
}

/// The first page in `bytes` that holds a header of this stream and place, of a term up to `highest`, on whose record
/// something beyond `tail` is committed.
pub(crate) fn committed_beyond(
    bytes: &[u8],
    start: Position,
    stream: &StreamId,
    tail: Position,
    highest: Term,
) -> Option<Position> {
    let mut position = start;
    for page in bytes.chunks(usize::try_from(PAGE_BYTES).expect("a page fits in memory")) {
        if let Ok(header) = Header::decode(page)
            && header.stream == *stream
            && header.position == position
            && header.fence <= highest
            && header.committed > tail
        {
            return Some(position);
        }
        position = position + PAGE_BYTES;
    }
    None
}

/// Keeps a copy of what is about to be cleared, and the newest few of earlier copies.
async fn set_aside(
    store: &Store,
    reign: &Reign,
    segment: &Segment,
    from: Position,
    to: u64,
) -> Result<(), Unusable> {
    let mut copy = BytesMut::new();
    let mut at = from;
    while at.0 < to {
        let end = Position(to.min(at.0 + BLOCK_BYTES));
        copy.extend_from_slice(&store.read(segment.base, at, end).await?);
        at = end;
    }
    let copy: Bytes = copy.freeze();
    let name = SegmentName { stream: store.id, base: segment.base }.aside(from, reign.term);
    let blob = BlobName { container: store.container.clone(), name };
    tracing::warn!(%blob, bytes = copy.len(), "setting aside what was written beyond the tail and never acknowledged");
    until_definite(&store.env, || store.storage.put_block_blob(&blob, copy.clone())).await?;
    store.metrics.set_aside(copy.len());
    let kept = store.asides().await?;
    for old in kept.iter().take(kept.len().saturating_sub(ASIDES_KEPT)) {
        match until_definite(&store.env, || store.storage.delete_blob(old, None)).await {
            Ok(()) | Err(StorageError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Clears once and never again: a clear that arrives late would wipe out what was written since.
async fn clear(
    store: &Store,
    reign: &Reign,
    segment: &Segment,
    range: std::ops::Range<u64>,
) -> Result<(), RecoverError> {
    match store.storage.clear_pages(&store.blob(segment.base), range, reign.term).await {
        Ok(()) => {
            store.metrics.cleared();
            Ok(())
        }
        Err(StorageError::PreconditionFailed | StorageError::LeaseHeld) => {
            Err(RecoverError::Reign(ReignEnd::Outrun(None)))
        }
        Err(StorageError::Unavailable(_) | StorageError::Full(_)) => {
            Err(RecoverError::Reign(ReignEnd::Unsure))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_apart_from_each_other_are_read_together() {
        let scattered: Vec<_> = (0..8_192).map(|n| n * 1_024 + 512..n * 1_024 + 1_024).collect();
        let block = BLOCK_BYTES;
        assert_eq!(spans(&scattered), [512..block, block + 512..2 * block]);
        assert_eq!(spans(&[0..512, block - 512..block + 1_024]), [0..block, block..block + 1_024]);
        assert_eq!(
            spans(std::slice::from_ref(&(512..3 * block))),
            [512..block + 512, block + 512..2 * block + 512, 2 * block + 512..3 * block]
        );
        assert_eq!(
            spans(&[512..1_024, 2 * block..2 * block + 512]),
            [512..1_024, 2 * block..2 * block + 512]
        );
        assert_eq!(spans(&[]), []);
    }
}
