//! Verified batches in memory: loading them, and a bounded cache of whole blocks for all streams together.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vault_format::chain::{Broken, Chain};
use vault_format::header::{Header, Kind};
use vault_format::ids::{Offset, Position, StreamId};
use vault_format::layout::{block_end, block_of, block_start, is_block_start};
use vault_format::limits::BLOCK_BYTES;

use crate::limits::READ_MEMORY_WAIT;
use crate::log::error::{ReadError, StreamFault, Unusable};
use crate::log::store::Store;

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
}

/// Bytes that count against the readers' memory as long as anybody holds them.
struct Counted {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
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
        }
    }

    /// A whole block that will not change any more.
    pub(crate) async fn whole(
        &self,
        store: &Store,
        segment: Offset,
        block: u64,
    ) -> Result<Batches, ReadError> {
        let load = async {
            let start = block_start(block);
            self.load(store, segment, None, start, block_end(start)).await
        };
        self.cache.get_or_insert_async(&(store.id, segment, block), load).await
    }

    /// The batches from `chain` on to `end`, a tail inside the same block.
    pub(crate) async fn part(
        &self,
        store: &Store,
        segment: Offset,
        chain: &Chain,
        end: Position,
    ) -> Result<Batches, ReadError> {
        self.load(store, segment, Some(chain), chain.position, end).await
    }

    /// Forgets a stream's blocks.
    pub(crate) fn forget(&self, stream: StreamId) {
        self.cache.retain(|key, _| key.0 != stream);
    }

    /// Loads and verifies; damage is looked at twice, so that a read which went wrong is not taken for it.
    async fn load(
        &self,
        store: &Store,
        segment: Offset,
        chain: Option<&Chain>,
        from: Position,
        to: Position,
    ) -> Result<Batches, ReadError> {
        let length = u32::try_from(to.0 - from.0).expect("what is loaded lies in one block");
        let waiting = Arc::clone(&self.memory).acquire_many_owned(length);
        let permit = store
            .env
            .timeout(READ_MEMORY_WAIT, waiting)
            .await
            .map_err(|_| ReadError::Overloaded)?
            .map_err(|_| ReadError::Overloaded)?;
        let mut bytes = store.read(segment, from, to).await.map_err(Unusable::from)?;
        let mut verified = verify(&bytes, chain, from, to);
        if verified.is_err() {
            bytes = store.read(segment, from, to).await.map_err(Unusable::from)?;
            verified = verify(&bytes, chain, from, to);
        }
        match verified {
            Ok(Verified { before, after, seals, length }) => {
                let bytes = bytes.slice(..length);
                let bytes = Bytes::from_owner(Counted { bytes, _permit: permit });
                Ok(Batches { segment, bytes, before, after, seals })
            }
            Err((position, broken)) if broken.is_too_new() => {
                Err(StreamFault::FormatTooNew { segment, position }.into())
            }
            Err((position, broken)) => {
                Err(StreamFault::Corrupt { segment, position, detail: broken.to_string() }.into())
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
}

/// Checks that `bytes` hold valid batches from `from` to `to` without a gap, or to a seal. Where no chain is given,
/// the head of the block is trusted as the search over heads trusts it.
fn verify(
    bytes: &[u8],
    chain: Option<&Chain>,
    from: Position,
    to: Position,
) -> Result<Verified, (Position, Broken)> {
    let before = match chain {
        Some(chain) => *chain,
        None => {
            assert!(is_block_start(from));
            Chain::before(&Header::decode(bytes).map_err(|error| (from, error.into()))?)
        }
    };
    if before.position != from {
        return Err((from, Broken::Misplaced("another position")));
    }
    let mut after = before;
    let mut length = 0;
    while after.position < to && block_of(after.position) == block_of(from) {
        let position = after.position;
        let at = usize::try_from(position.0 - from.0).expect("a block fits in memory");
        let batch = after.accept(&bytes[at..]).map_err(|broken| (position, broken))?;
        length = at + usize::try_from(batch.header.written_bytes()).expect("a batch fits in memory");
        if batch.header.kind == Kind::Seal {
            return Ok(Verified { before, after, seals: true, length });
        }
    }
    Ok(Verified { before, after, seals: false, length })
}
