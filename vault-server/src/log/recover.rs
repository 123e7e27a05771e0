//! Taking over a stream: claim its last segment, find the tail, clear what lies beyond it.
//!
//! The order is what makes it safe. **Claim first**: once the segment's sequence number is our term, no write of an
//! earlier leader can land. **Only then scan**, so that what the scan finds is all there will ever be. **Then clear**
//! what earlier writes left beyond the tail, so that a later scan cannot meet it.
//!
//! A follower goes the same way without claiming and without changing anything: what it finds is a prefix of the log.

use vault_format::chain::Chain;
use vault_format::ids::{Offset, Position};
use vault_format::producers::Producers;

use crate::limits::OVERTAKEN_TRIES;
use crate::log::beyond::{Settled, settle_tail};
use crate::log::claim::claim;
use crate::log::error::{StreamFault, Unusable};
use crate::log::making::{Listed, create_segment, delete_leftovers, is_blank, list};
use crate::log::reign::{Reign, ReignEnd};
use crate::log::retry::until_definite;
use crate::log::scan::{ScanEnd, Scanned, scan, scan_start};
use crate::log::store::{Segment, Store};
use crate::storage::StorageError;

/// A stream as recovery leaves it.
#[derive(Clone, Debug)]
pub(crate) struct Recovered {
    /// All segments, oldest first. Empty before the first append.
    pub(crate) segments: Vec<Segment>,
    /// The state at the tail, or before the damage where there is a fault.
    pub(crate) chain: Chain,
    /// The highest committed position on record in the last segment.
    pub(crate) recorded: Position,
    /// The end of the last batch with messages in the last segment.
    pub(crate) messages_end: Position,
    /// Whether the last segment is sealed and the next one not made yet: only for who follows.
    pub(crate) sealed: bool,
    /// What is known of producers at the tail: only for who takes the stream over.
    pub(crate) producers: Producers,
    /// Why nothing may be appended.
    pub(crate) fault: Option<StreamFault>,
}

/// Why a stream could not be taken over.
#[derive(Clone, Debug)]
pub(crate) enum RecoverError {
    Reign(ReignEnd),
    Unusable(Unusable),
}

impl<E: Into<Unusable>> From<E> for RecoverError {
    fn from(error: E) -> Self {
        Self::Unusable(error.into())
    }
}

/// What is to be done about a stream besides finding its tail.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose<'a> {
    /// Take it over. Segments that have to be made get this size.
    Lead { reign: &'a Reign, segment_bytes: u64 },
    /// Read what another server appends.
    Follow,
    /// Go on with a copy that nobody else writes to, which claims and clears by itself.
    Resume,
}

impl Purpose<'_> {
    /// Where a scan begins with producers: at nobody, or not at all, since only who appends wants to know them.
    fn producers(self) -> Option<Producers> {
        match self {
            Self::Lead { .. } | Self::Resume => Some(Producers::default()),
            Self::Follow => None,
        }
    }
}

/// Finds the tail, and takes the stream over where that is the purpose. `begun` says that a first segment was made once.
pub(crate) async fn recover(
    store: &Store,
    purpose: Purpose<'_>,
    begun: bool,
) -> Result<Recovered, RecoverError> {
    let mut tries = 0..OVERTAKEN_TRIES;
    loop {
        match attempt(store, purpose, begun).await {
            Ok(None) => {}
            // A deletion that an earlier leader had on its way has landed since the segments were listed; unless the
            // whole container is gone.
            Err(RecoverError::Unusable(Unusable::NotFound)) if matches!(purpose, Purpose::Lead { .. }) => {
                store.segments().await?;
                if tries.next().is_none() {
                    return Err(Unusable::TimedOut.into());
                }
            }
            Ok(Some(recovered)) => return Ok(recovered),
            Err(error) => return Err(error),
        }
    }
}

/// The same, once. `None` where what was taken for a leftover is none: then everything is looked at again.
async fn attempt(
    store: &Store,
    purpose: Purpose<'_>,
    begun: bool,
) -> Result<Option<Recovered>, RecoverError> {
    let Listed { segments: listed, late } = list(store).await?;
    let Some(mut index) = last_in_use(store, &listed).await? else {
        if begun {
            let missing = "the stream has begun, but it has no segment".to_owned();
            return Err(Unusable::from(StreamFault::DataMissing(missing)).into());
        }
        return Ok(Some(Recovered {
            segments: Vec::new(),
            chain: Chain::at_segment_start(store.id, Offset::ZERO),
            recorded: Position::ZERO,
            messages_end: Position::ZERO,
            sealed: false,
            producers: Producers::default(),
            fault: None,
        }));
    };
    let mut segments = listed;
    loop {
        let segment = segments[index];
        #[cfg(feature = "canaries")]
        let claims_late = vault_format::canary::Canary::ScanBeforeClaim.is_on();
        #[cfg(not(feature = "canaries"))]
        let claims_late = false;
        if let Purpose::Lead { reign, .. } = purpose
            && !claims_late
        {
            claim(store, reign, &segment).await?;
        }
        let start = Chain::at_segment_start(store.id, segment.base);
        let start = scan_start(store, &segment, start).await?;
        let mut scanned = scan(store, &segment, start, purpose.producers()).await?;
        #[cfg(feature = "canaries")]
        if let Purpose::Lead { reign, .. } = purpose
            && claims_late
        {
            claim(store, reign, &segment).await?;
        }
        // The segment that says what is known of producers.
        let mut told_by = segment;
        if scanned.chain.position == Position::ZERO && index > 0 {
            // Nothing valid stands here yet: the state comes from the segment before.
            match end_of_sealed(store, purpose, &segments[index - 1], segment.base).await? {
                Ok(before) => {
                    told_by = segments[index - 1];
                    scanned.chain = before.chain.in_next_segment();
                    scanned.producers = before.producers;
                }
                Err((before, fault)) => {
                    segments.truncate(index);
                    let scanned = Scanned { chain: before.chain, ..scanned };
                    return Ok(Some(recovered(segments, scanned, Some(fault))));
                }
            }
        }
        if let Purpose::Lead { reign, .. } = purpose
            && scanned.chain.fence > reign.term
        {
            // The blob was restored from a copy, which does not keep the sequence number: rise above what it holds.
            return Err(RecoverError::Reign(ReignEnd::Outrun(Some(scanned.chain.fence))));
        }
        let fault = match scanned.end {
            ScanEnd::Sealed => {
                if next_segment(store, purpose, &mut segments, index, &scanned).await? {
                    index += 1;
                    continue;
                }
                segments.truncate(index + 1);
                return Ok(Some(recovered(segments, scanned, None)));
            }
            ScanEnd::Tail(_) if !segment.is_whole() => {
                let detail = format!("the segment was cut off, {} bytes are left", segment.bytes);
                Some(corrupt(&segment, scanned.chain.position, detail))
            }
            ScanEnd::Tail(_) => match settle_tail(store, purpose, &segment, &scanned).await? {
                Settled::Clean => scanned.producers.as_ref().err().map(|position| {
                    corrupt(&told_by, *position, "what this batch says of producers is malformed")
                }),
                Settled::Longer => continue,
                Settled::Damaged(fault) => Some(fault),
            },
            ScanEnd::TooNew => {
                Some(StreamFault::FormatTooNew { segment: segment.base, position: scanned.chain.position })
            }
            ScanEnd::SegmentEnd => {
                Some(corrupt(&segment, scanned.chain.position, "the segment ends without a seal"))
            }
        };
        if fault.is_some() {
            segments.truncate(index + 1);
            return Ok(Some(recovered(segments, scanned, fault)));
        }
        let leftovers = segments.split_off(index + 1);
        if let Purpose::Lead { reign, .. } = purpose
            && !(delete_leftovers(store, reign, &leftovers).await?
                && delete_leftovers(store, reign, &late).await?)
        {
            return Ok(None);
        }
        return Ok(Some(recovered(segments, scanned, None)));
    }
}

fn recovered(segments: Vec<Segment>, scanned: Scanned, fault: Option<StreamFault>) -> Recovered {
    let Scanned { chain, recorded, messages_end, end, producers } = scanned;
    let (sealed, producers) = (end == ScanEnd::Sealed, producers.ok().flatten().unwrap_or_default());
    Recovered { segments, chain, recorded, messages_end, sealed, producers, fault }
}

pub(crate) fn corrupt(segment: &Segment, position: Position, detail: impl Into<String>) -> StreamFault {
    StreamFault::Corrupt { segment: segment.base, position, detail: detail.into() }
}

/// The newest segment that holds a page, else the newest: blank ones behind it are left over from a roll-over.
async fn last_in_use(store: &Store, segments: &[Segment]) -> Result<Option<usize>, Unusable> {
    for (index, segment) in segments.iter().enumerate().rev() {
        if !is_blank(store, segment).await? {
            return Ok(Some(index));
        }
    }
    Ok(segments.len().checked_sub(1))
}

/// The pages of a segment that may hold something.
pub(crate) async fn pages(
    store: &Store,
    segment: &Segment,
    range: std::ops::Range<u64>,
) -> Result<Vec<std::ops::Range<u64>>, StorageError> {
    let blob = store.blob(segment.base);
    until_definite(&store.env, || store.storage.page_ranges(&blob, range.clone())).await
}

/// The state after the seal of a segment that is not the last. It must lead to `next`.
async fn end_of_sealed(
    store: &Store,
    purpose: Purpose<'_>,
    segment: &Segment,
    next: Offset,
) -> Result<Result<Scanned, (Scanned, StreamFault)>, Unusable> {
    let start = scan_start(store, segment, Chain::at_segment_start(store.id, segment.base)).await?;
    let scanned = scan(store, segment, start, purpose.producers()).await?;
    let chain = &scanned.chain;
    if scanned.end == ScanEnd::Sealed && chain.next_offset == next {
        return Ok(Ok(scanned));
    }
    let fault = if scanned.end == ScanEnd::TooNew {
        StreamFault::FormatTooNew { segment: segment.base, position: chain.position }
    } else {
        corrupt(segment, chain.position, format!("segment {next:020} follows, but no seal leads to it"))
    };
    Ok(Err((scanned, fault)))
}

/// Finds the segment that a seal names behind the one with that seal in `segments`; a leader makes it where it is
/// missing. Whether it is there.
async fn next_segment(
    store: &Store,
    purpose: Purpose<'_>,
    segments: &mut Vec<Segment>,
    index: usize,
    sealed: &Scanned,
) -> Result<bool, RecoverError> {
    let base = sealed.chain.next_offset;
    if segments.get(index + 1).is_some_and(|next| next.base == base) {
        return Ok(true);
    }
    let Purpose::Lead { reign, segment_bytes } = purpose else { return Ok(false) };
    let made = create_segment(store, reign, base, segment_bytes).await?;
    segments.insert(index + 1, made);
    Ok(true)
}
