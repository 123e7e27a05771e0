//! Finding the tail of a segment: a search over block heads, then a scan forward.
//!
//! ```text
//! heads:    H  H  H  H  H  H  H  .  H  .  .  .     (H intact, . absent)
//!                    ^        ^ the search ends at some border between H and .
//!                    start    |
//!                    four blocks back: no more than that can be unacknowledged
//! ```

use vault_format::chain::{Broken, Chain};
use vault_format::header::{Header, Kind};
use vault_format::ids::Position;
use vault_format::layout::block_of;
use vault_format::limits::BLOCK_BYTES;

use crate::limits::WINDOW_BLOCKS;
use crate::log::error::Unusable;
use crate::log::store::{Head, Segment, Store};

/// Where a scan came to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanEnd {
    /// The first place without a valid batch, and why there is none.
    Tail(Broken),
    /// A batch of a later version of the format, which is not a tail.
    TooNew,
    /// After a seal: the log goes on in the next segment.
    Sealed,
    /// At the end of a segment that has no seal, which no writer leaves behind.
    SegmentEnd,
}

/// What a scan learned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scanned {
    /// The state after the last valid batch.
    pub(crate) chain: Chain,
    pub(crate) end: ScanEnd,
    /// The highest committed position that a valid batch has on record.
    pub(crate) recorded: Position,
    /// The end of the last batch with messages.
    pub(crate) messages_end: Position,
}

/// The number of the last block whose head is intact, as far as a search over heads can tell: heads inside the
/// in-flight window may be missing while later ones are there.
pub(crate) async fn last_head(store: &Store, segment: &Segment) -> Result<Option<u64>, Unusable> {
    // Invariant: the head of `low - 1` is intact (or low is 0), that of `high` is not (or high is the end).
    let (mut low, mut high) = (0, segment.bytes / BLOCK_BYTES);
    while low < high {
        let middle = low + (high - low) / 2;
        match store.head(segment, middle).await? {
            Head::Valid(_) => low = middle + 1,
            Head::TooNew | Head::Absent => high = middle,
        }
    }
    Ok(low.checked_sub(1))
}

/// The place from which a scan for the tail may start: a committed head, or `start` at the segment's beginning.
///
/// A window before the last intact head, every head was committed. Where one is damaged the scan starts at the one
/// before it, and so comes upon the damage.
pub(crate) async fn scan_start(store: &Store, segment: &Segment, start: Chain) -> Result<Chain, Unusable> {
    let Some(last) = last_head(store, segment).await? else { return Ok(start) };
    for block in (1..=last.saturating_sub(WINDOW_BLOCKS)).rev() {
        if let Head::Valid(header) = store.head(segment, block).await? {
            return Ok(Chain::before(&header));
        }
    }
    Ok(start)
}

/// Scans forward from `chain` to the tail, the seal or the end of the segment.
pub(crate) async fn scan(store: &Store, segment: &Segment, mut chain: Chain) -> Result<Scanned, Unusable> {
    let mut recorded = Position::ZERO;
    let mut messages_end = Position::ZERO;
    loop {
        if chain.position.0 >= segment.bytes {
            return Ok(Scanned { chain, end: ScanEnd::SegmentEnd, recorded, messages_end });
        }
        let start = chain.position;
        let bytes = store.read(segment.base, start, segment.block_end(start)).await?;
        while block_of(chain.position) == block_of(start) && chain.position.0 < segment.bytes {
            let at = usize::try_from(chain.position.0 - start.0).expect("a block fits in memory");
            match chain.accept(&bytes[at..]) {
                Ok(batch) => {
                    note(&batch.header, &mut recorded, &mut messages_end);
                    if batch.header.kind == Kind::Seal {
                        return Ok(Scanned { chain, end: ScanEnd::Sealed, recorded, messages_end });
                    }
                }
                Err(broken) => {
                    let end = if broken.is_too_new() { ScanEnd::TooNew } else { ScanEnd::Tail(broken) };
                    return Ok(Scanned { chain, end, recorded, messages_end });
                }
            }
        }
    }
}

fn note(header: &Header, recorded: &mut Position, messages_end: &mut Position) {
    *recorded = header.committed.max(*recorded);
    if header.kind == Kind::Messages {
        *messages_end = header.end();
    }
}
