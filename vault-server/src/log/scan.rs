//! Finding the tail of a segment: a search over block heads, then a scan forward.
//!
//! ```text
//! heads:    H  H  H  H  H  H  H  .  H  .  .  .     (H intact, . absent)
//!                    ^        ^ the search ends at some border between H and .
//!                    start    |
//!                    four blocks back: no more than that can be unacknowledged
//! ```

use vault_format::batch::Batch;
use vault_format::chain::{Broken, Chain};
use vault_format::codec::Codec;
use vault_format::header::Kind;
use vault_format::ids::Position;
use vault_format::layout::block_of;
use vault_format::limits::BLOCK_BYTES;
use vault_format::producers::Producers;

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
#[derive(Clone, Debug)]
pub(crate) struct Scanned {
    /// The state after the last valid batch.
    pub(crate) chain: Chain,
    pub(crate) end: ScanEnd,
    /// The highest committed position that a valid batch has on record.
    pub(crate) recorded: Position,
    /// The end of the last batch with messages.
    pub(crate) messages_end: Position,
    /// What is known of producers there, if that was asked for; else where a batch is malformed in what it says of them.
    pub(crate) producers: Result<Option<Producers>, Position>,
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
///
/// `producers` are those known at `chain`, of which a scan from the head of a block need know none. `None`: they are not
/// wanted, and nothing is uncompressed.
pub(crate) async fn scan(
    store: &Store,
    segment: &Segment,
    chain: Chain,
    producers: Option<Producers>,
) -> Result<Scanned, Unusable> {
    let mut scanned = Scanned {
        chain,
        end: ScanEnd::SegmentEnd,
        recorded: Position::ZERO,
        messages_end: Position::ZERO,
        producers: Ok(producers),
    };
    while scanned.chain.position.0 < segment.bytes {
        let start = scanned.chain.position;
        let bytes = store.read(segment.base, start, segment.block_end(start)).await?;
        while block_of(scanned.chain.position) == block_of(start) && scanned.chain.position.0 < segment.bytes
        {
            let at = usize::try_from(scanned.chain.position.0 - start.0).expect("a block fits in memory");
            match scanned.chain.accept(&bytes[at..]) {
                Ok(batch) => {
                    if scanned.note(&batch) {
                        // Thousands of them stand in a block, and this thread has others to serve.
                        tokio::task::yield_now().await;
                    }
                }
                Err(broken) if broken.is_too_new() => scanned.end = ScanEnd::TooNew,
                Err(broken) => scanned.end = ScanEnd::Tail(broken),
            }
            if scanned.end != ScanEnd::SegmentEnd {
                return Ok(scanned);
            }
        }
    }
    Ok(scanned)
}

impl Scanned {
    /// Takes note of a batch that has just been accepted. Whether it was uncompressed for it.
    fn note(&mut self, batch: &Batch<'_>) -> bool {
        let header = &batch.header;
        self.recorded = header.committed.max(self.recorded);
        match header.kind {
            Kind::Messages => self.messages_end = header.end(),
            Kind::Seal => self.end = ScanEnd::Sealed,
            Kind::Snapshot | Kind::Filler | Kind::Commit => {}
        }
        let Ok(Some(producers)) = &mut self.producers else { return false };
        if producers.note(batch).is_err() {
            self.producers = Err(header.position);
        }
        header.codec != Codec::None
    }
}
