//! Where a log goes on behind damage.
//!
//! ```text
//!  block  | S | a | b | ##### | d | e |        pages behind the damage, one after the other, then those of later blocks
//!                       ^     ^
//!                  damage     the first intact batch of this stream that names its own place
//! ```

use vault_format::batch::Batch;
use vault_format::chain::Chain;
use vault_format::header::Header;
use vault_format::ids::{Offset, Position};
use vault_format::layout::{block_of, block_start};
use vault_format::limits::{BLOCK_BYTES, MAX_UNCOMPRESSED_BYTES, PAGE_BYTES};

use super::{InspectError, Walk};
use crate::log::making::{is_blank, list};
use crate::log::recover::pages;
use crate::log::store::Segment;
use crate::storage::StorageError;

/// The shortest record: its length and five fields, of which the shortest forms take a byte each.
const MIN_RECORD_BYTES: u64 = 6;

impl Walk {
    /// Moves to the next intact batch behind the place, and answers its base offset. `None`: there is none.
    pub(super) async fn find_behind(&mut self) -> Result<Option<Offset>, InspectError> {
        let chain = self.chain();
        self.loaded = None;
        if let Some(segment) = self.current.filter(|_| !self.sealed) {
            match self.find_in(&segment, &chain).await {
                Ok(Some(header)) => {
                    self.audit.go_on_at(Chain::before(&header));
                    return Ok(Some(header.base_offset));
                }
                Ok(None) | Err(InspectError::Storage(StorageError::NotFound | StorageError::Refused(_))) => {}
                Err(error) => return Err(error),
            }
        }
        self.segments = list(&self.stream.store).await?.segments;
        let behind = self.current.map_or(Offset::ZERO, |current| Offset(current.base.0 + 1));
        let least = behind.max(chain.next_offset);
        for next in self.segments.clone().into_iter().filter(|next| next.base >= least) {
            if !is_blank(&self.stream.store, &next).await? {
                self.audit.go_on_at(Chain { next_offset: next.base, ..chain.in_next_segment() });
                self.move_to(next);
                return Ok(Some(next.base));
            }
        }
        Ok(None)
    }

    /// The first intact batch in the segment behind `chain` that may continue it.
    async fn find_in(&self, segment: &Segment, chain: &Chain) -> Result<Option<Header>, InspectError> {
        let store = &self.stream.store;
        let end = segment.bytes / PAGE_BYTES * PAGE_BYTES;
        if chain.position.0 >= end {
            return Ok(None);
        }
        let mut seen = None;
        for range in pages(store, segment, chain.position.0..end).await? {
            for block in block_of(Position(range.start))..=block_of(Position(range.end - 1)) {
                if seen.is_some_and(|seen| block <= seen) {
                    continue;
                }
                seen = Some(block);
                let from = block_start(block).max(chain.position);
                let to = Position((block_start(block) + BLOCK_BYTES).0.min(end));
                let bytes = store.read(segment.base, from, to).await?;
                if let Some(header) = first_behind(&bytes, from, chain) {
                    return Ok(Some(header));
                }
            }
        }
        Ok(None)
    }
}

/// The first intact batch in `bytes`, which begin at `from` in a segment, that may follow `chain` behind something lost.
fn first_behind(bytes: &[u8], from: Position, chain: &Chain) -> Option<Header> {
    let mut at = 0;
    while at < bytes.len() {
        let position = from + at as u64;
        let mut next = at + usize::try_from(PAGE_BYTES).expect("a page fits in memory");
        if let Ok(header) = Header::decode(&bytes[at..])
            && may_follow(&header, position, chain)
        {
            if position > chain.position && Batch::with_header(header, &bytes[at..]).is_ok() {
                return Some(header);
            }
            // What stands inside a damaged batch is what somebody has sent, and not believed.
            next = at + header.total_bytes as usize;
        }
        at = next;
    }
    None
}

fn may_follow(header: &Header, position: Position, chain: &Chain) -> bool {
    let pages = position.0.saturating_sub(chain.position.0) / PAGE_BYTES;
    // No more can have stood in between, however well it was compressed.
    let most = pages.saturating_mul(MAX_UNCOMPRESSED_BYTES / MIN_RECORD_BYTES);
    header.stream == chain.stream
        && header.position == position
        && header.base_offset >= chain.next_offset
        && header.base_offset.0 - chain.next_offset.0 <= most
        && header.first_timestamp >= chain.last_timestamp
        && header.fence >= chain.fence
}

#[cfg(test)]
mod tests {
    use vault_format::batch::BatchWriter;
    use vault_format::ids::{StreamId, Term, Timestamp};
    use vault_format::record::Message;

    use super::*;

    const START: Position = Position(PAGE_BYTES * 8);

    fn chain() -> Chain {
        let start = Chain::at_segment_start(StreamId([5; 16]), Offset(100));
        Chain { position: START, last_timestamp: Timestamp(50), fence: Term(3), ..start }
    }

    /// A batch of one message with this value, and where it stands in what is there already.
    fn batch(chain: &mut Chain, out: &mut Vec<u8>, value: &[u8]) -> usize {
        let (at, mut records) = (out.len(), Vec::new());
        Message { value, ..Message::default() }.encode(0, &mut records);
        let mut writer = BatchWriter { chain, fence: Term(3), committed: Position::ZERO, out };
        writer.messages([&records[..]], 1, Timestamp(60));
        at
    }

    fn found(bytes: &[u8]) -> Option<u64> {
        first_behind(bytes, START, &chain()).map(|header| header.base_offset.0)
    }

    #[test]
    fn the_next_intact_batch_is_found_page_by_page() {
        let (mut after, mut bytes) = (chain(), Vec::new());
        batch(&mut after, &mut bytes, &[b'a'; 3_000]);
        let second = batch(&mut after, &mut bytes, &[b'b'; 2_000]);
        let third = batch(&mut after, &mut bytes, b"c");
        bytes[5] ^= 1;
        assert_eq!(found(&bytes), Some(101));
        bytes[second + 700] ^= 1;
        assert_eq!(found(&bytes), Some(102));
        bytes[third + 40] ^= 1;
        assert_eq!(found(&bytes), None);
    }

    #[test]
    fn what_a_damaged_batch_carries_is_not_believed() {
        // A value that holds, at the right place, what looks like a batch with a high offset.
        let mut forged_at = chain();
        (forged_at.position, forged_at.next_offset) = (START + 2 * PAGE_BYTES, Offset(100_000));
        let mut forged = Vec::new();
        batch(&mut forged_at, &mut forged, b"forged");
        let mut value = vec![b'a'; 5_000];
        let into = 2 * 512 - (128 + 2 + 1 + 1 + 1 + 1 + 2);
        value[into..into + forged.len()].copy_from_slice(&forged);
        let (mut after, mut bytes) = (chain(), Vec::new());
        batch(&mut after, &mut bytes, &value);
        batch(&mut after, &mut bytes, b"real");
        assert!(bytes[1_024..].starts_with(&forged), "it stands at the head of a page");
        bytes[300] ^= 1;
        assert_eq!(found(&bytes), Some(101));
    }

    #[test]
    fn no_more_is_taken_for_lost_than_can_have_stood_there() {
        let (mut after, mut bytes) = (chain(), vec![0; 512]);
        (after.position, after.next_offset) = (START + PAGE_BYTES, Offset(100 + (1 << 40)));
        batch(&mut after, &mut bytes, b"far");
        assert_eq!(found(&bytes), None);
        for wrong in [
            Chain { next_offset: Offset(99), ..chain() },
            Chain { last_timestamp: Timestamp(49), ..chain() },
            Chain { stream: StreamId([6; 16]), ..chain() },
        ] {
            let mut after = Chain { position: START + PAGE_BYTES, ..wrong };
            let mut bytes = vec![0; 512];
            let mut writer =
                BatchWriter { chain: &mut after, fence: Term(3), committed: Position::ZERO, out: &mut bytes };
            writer.commit();
            assert_eq!(found(&bytes), None, "{wrong:?}");
        }
    }
}
