//! Verified batches in memory: loading them, and a bounded cache of whole blocks for all streams together.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vault_format::batch::Batch;
use vault_format::chain::{Broken, Chain};
use vault_format::codec::Codec;
use vault_format::header::{Header, Kind};
use vault_format::ids::{Offset, Position, StreamId};
use vault_format::layout::{block_end, block_of, block_start};
use vault_format::limits::{BLOCK_BYTES, HEADER_BYTES};

use crate::limits::{COUNTED_PIECE_BYTES, READ_MEMORY_WAIT};
use crate::log::error::{ReadError, StreamFault, Unusable};
use crate::log::store::{Segment, Store};
use crate::metrics::log::Lookups;

/// Batches that follow each other in one block, verified. Of a filler only the first page is there, as it is stored.
#[derive(Clone, Debug)]
pub struct Batches {
    /// The segment in which they stand.
    pub(crate) segment: Offset,
    /// Whole batches.
    pub bytes: Bytes,
    /// The state in front of the first.
    pub before: Chain,
    /// The state behind the last.
    pub after: Chain,
    /// Whether the last one ends the segment.
    pub(crate) seals: bool,
    /// Why the bytes behind the last one are not the batch that should stand there.
    pub(crate) damage: Option<Box<StreamFault>>,
}

impl Batches {
    /// The base offset of the segment in which they stand.
    #[must_use]
    pub fn segment(&self) -> Offset {
        self.segment
    }

    /// The headers, each with where its batch begins in `bytes`.
    pub fn headers(&self) -> impl Iterator<Item = (usize, Header)> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let header = Header::decode(self.bytes.get(at..)?).ok()?;
            let found = (at, header);
            at += usize::try_from(header.written_bytes()).ok()?;
            Some(found)
        })
    }

    /// What is left from the batch on that begins at `chain`'s position. `None` where that batch is not the next one
    /// after `chain`.
    pub(crate) fn starting_at(&self, chain: &Chain) -> Option<Self> {
        let skipped = chain.position.0.checked_sub(self.before.position.0)?;
        let bytes = self.bytes.slice_ref(self.bytes.get(usize::try_from(skipped).ok()?..)?);
        let header = Header::decode(&bytes).ok()?;
        chain.check(&header).ok()?;
        Some(Self { bytes, before: *chain, ..self.clone() })
    }
}

type BlockKey = (StreamId, Offset, u64);

#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<BlockKey, Batches> for ByBytes {
    fn weight(&self, _: &BlockKey, block: &Batches) -> u64 {
        block.bytes.len() as u64
    }
}

/// Loads batches from storage. What readers hold and what the cache holds has one limit in bytes.
#[derive(Debug)]
pub(crate) struct Blocks {
    cache: Cache<BlockKey, Batches, ByBytes>,
    memory: Arc<Semaphore>,
    pub(crate) lookups: Lookups,
}

/// Bytes that count against the readers' memory as long as anybody holds them.
struct Counted {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

/// The first `length` of these bytes. Where that is little of them, as in a segment that was sealed early, the rest is
/// given back.
fn counted(bytes: &Bytes, length: usize, mut permit: OwnedSemaphorePermit) -> Counted {
    let (held, bytes) = if length > bytes.len() / 2 {
        (bytes.len(), bytes.slice(..length))
    } else {
        (length, Bytes::copy_from_slice(&bytes[..length]))
    };
    drop(permit.split(permit.num_permits().saturating_sub(held)));
    Counted { bytes, _permit: permit }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Blocks {
    pub(crate) fn new(cache_bytes: u64, memory_bytes: usize) -> Self {
        let blocks = usize::try_from(cache_bytes / BLOCK_BYTES).unwrap_or(1).max(1);
        Self {
            cache: Cache::with_weighter(blocks, cache_bytes, ByBytes),
            memory: Arc::new(Semaphore::new(memory_bytes)),
            lookups: Lookups::default(),
        }
    }

    /// A whole block that will not change any more.
    pub(crate) async fn whole(
        &self,
        store: &Store,
        segment: &Segment,
        block: u64,
    ) -> Result<Batches, ReadError> {
        let key = (store.id, segment.base, block);
        if let Some(block) = self.cache.get(&key) {
            self.lookups.cache.add(1);
            return Ok(block);
        }
        // Waited for here, so that those who wait for memory do so at the same time and not one after the other.
        let permit = self.permit(store, BLOCK_BYTES).await?;
        let load = async {
            let start = block_start(block);
            self.load(store, segment, None, start..block_end(start), permit).await
        };
        self.cache.get_or_insert_async(&key, load).await
    }

    /// The batches from `chain` on to `end`, a tail inside the same block.
    pub(crate) async fn part(
        &self,
        store: &Store,
        segment: &Segment,
        chain: &Chain,
        end: Position,
    ) -> Result<Batches, ReadError> {
        let permit = self.permit(store, end.0 - chain.position.0).await?;
        self.load(store, segment, Some(chain), chain.position..end, permit).await
    }

    /// Bytes in the cache.
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.cache.weight()
    }

    /// Forgets a stream's blocks.
    pub(crate) fn forget(&self, stream: StreamId) {
        self.cache.retain(|key, _| key.0 != stream);
    }

    /// Bytes that were made for a reader, counted as long as anybody holds them.
    pub(crate) async fn counted(&self, store: &Store, bytes: Vec<u8>) -> Result<Bytes, ReadError> {
        let permit = self.permit(store, bytes.len() as u64).await?;
        Ok(Bytes::from_owner(Counted { bytes: bytes.into(), _permit: permit }))
    }

    /// The records of the batch of messages that begins at `at` in `batches`, uncompressed; compressed ones count against
    /// the readers' memory from before they are made until nobody holds them. An error where the writer made a mistake:
    /// the checksum held.
    pub(crate) async fn records(
        &self,
        store: &Store,
        batches: &Batches,
        at: usize,
        header: &Header,
    ) -> Result<Bytes, ReadError> {
        let payload =
            batches.bytes.slice(at + HEADER_BYTES..at + HEADER_BYTES + header.payload_bytes as usize);
        if header.codec == Codec::None {
            return Ok(payload);
        }
        let uncompressed = header.uncompressed_bytes as usize;
        let permit = match uncompressed {
            0..COUNTED_PIECE_BYTES => None,
            _ => Some(self.permit(store, uncompressed as u64).await?),
        };
        let batch = Batch { header: *header, payload: &payload };
        let records = batch.uncompressed().map_err(|invalid| StreamFault::Corrupt {
            segment: batches.segment,
            position: header.position,
            detail: invalid.to_string(),
        })?;
        let bytes = records.into_bytes().into_owned().into();
        let Some(permit) = permit else { return Ok(bytes) };
        // It took milliseconds, and whoever filters goes on to the next batch: others get their turn in between.
        tokio::task::yield_now().await;
        Ok(Bytes::from_owner(Counted { bytes, _permit: permit }))
    }

    /// A reader's share of the memory for `bytes`.
    async fn permit(&self, store: &Store, bytes: u64) -> Result<OwnedSemaphorePermit, ReadError> {
        let bytes = u32::try_from(bytes).expect("readers are given blocks and pieces, which are small");
        let waiting = Arc::clone(&self.memory).acquire_many_owned(bytes);
        let waited = store.env.timeout(READ_MEMORY_WAIT, waiting).await;
        waited.ok().and_then(Result::ok).ok_or(ReadError::Overloaded)
    }

    /// Loads and verifies. Damage is looked at twice, so that a read which went wrong is not taken for it; what stands
    /// in front of it is served.
    async fn load(
        &self,
        store: &Store,
        segment: &Segment,
        chain: Option<&Chain>,
        Range { start: from, end: to }: Range<Position>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Batches, ReadError> {
        self.lookups.storage.add(1);
        let corrupt =
            |position, detail: String| StreamFault::Corrupt { segment: segment.base, position, detail };
        let present = to.min(Position(segment.bytes));
        if present <= from {
            return Err(corrupt(from, "the segment ends here without a seal".to_owned()).into());
        }
        let mut bytes = store.read(segment.base, from, present).await.map_err(Unusable::from)?;
        let mut verified = verify(&bytes, chain, from, to);
        if verified.broken.is_some() {
            bytes = store.read(segment.base, from, present).await.map_err(Unusable::from)?;
            verified = verify(&bytes, chain, from, to);
        }
        let Verified { before, after, seals, length, broken } = verified;
        let damage = broken.map(|broken| {
            if broken.is_too_new() {
                StreamFault::FormatTooNew { segment: segment.base, position: after.position }
            } else {
                corrupt(after.position, broken.to_string())
            }
        });
        match damage {
            Some(damage) if length == 0 => Err(damage.into()),
            damage => {
                let bytes = Bytes::from_owner(counted(&bytes, length, permit));
                let damage = damage.map(Box::new);
                Ok(Batches { segment: segment.base, bytes, before, after, seals, damage })
            }
        }
    }
}

struct Verified {
    before: Chain,
    after: Chain,
    seals: bool,
    /// How many of the bytes are batches.
    length: usize,
    /// Why no batch stands behind them although one should.
    broken: Option<Broken>,
}

impl Verified {
    fn nothing(place: Chain, broken: Broken) -> Self {
        Self { before: place, after: place, seals: false, length: 0, broken: Some(broken) }
    }
}

/// Goes through the valid batches in `bytes` from `from` to `to`, or to a seal, or to where there should be one and is
/// none. Where no chain is given, the head of the block is trusted as the search over heads trusts it.
fn verify(bytes: &[u8], chain: Option<&Chain>, from: Position, to: Position) -> Verified {
    let before = match (chain, Header::decode(bytes)) {
        (Some(chain), _) => *chain,
        (None, Ok(header)) => Chain::before(&header),
        (None, Err(error)) => {
            let nowhere = Chain::at_segment_start(StreamId([0; 16]), Offset::ZERO);
            return Verified::nothing(Chain { position: from, ..nowhere }, error.into());
        }
    };
    if before.position != from {
        return Verified::nothing(Chain { position: from, ..before }, Broken::Misplaced("another position"));
    }
    let mut found = Verified { before, after: before, seals: false, length: 0, broken: None };
    while found.after.position < to && block_of(found.after.position) == block_of(from) && !found.seals {
        let at = usize::try_from(found.after.position.0 - from.0).expect("a block fits in memory");
        match found.after.accept(bytes.get(at..).unwrap_or_default()) {
            Ok(batch) => {
                let written = usize::try_from(batch.header.written_bytes()).expect("a batch fits in memory");
                found.length = (at + written).min(bytes.len());
                found.seals = batch.header.kind == Kind::Seal;
            }
            Err(broken) => {
                found.broken = Some(broken);
                break;
            }
        }
    }
    found
}
