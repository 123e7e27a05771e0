//! What stands in storage, how requests change it, and what of that is put down.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use vault_format::batch::Batch;
use vault_format::chain::Chain;
use vault_format::header::{Header, Kind};
use vault_format::ids::{Offset, Position, Term};
use vault_format::limits::PAGE_BYTES;
use vault_format::names::{LEADER_BLOB, Prefix, SegmentName};
use vault_server::storage::memory::MemoryStorage;
use vault_server::storage::{BlobName, ETag, LeaseId, Storage, StorageError};
use vault_tests::history::{Event, Placed, Stored};
use vault_tests::message::push_messages;

use super::Link;
use crate::chance::Dice;
use crate::load::Stream;
use crate::world::{Life, World};

/// The service.
#[derive(Debug)]
pub struct Service {
    pub(super) world: World,
    pub(super) memory: MemoryStorage,
}

impl Service {
    /// One that holds nothing.
    #[must_use]
    pub fn new(world: &World) -> Arc<Self> {
        let memory = MemoryStorage::new(world.clients().env());
        Arc::new(Self { world: world.clone(), memory })
    }

    /// The way of one life of a server to it.
    #[must_use]
    pub fn link(self: &Arc<Self>, life: &Life) -> Arc<dyn Storage> {
        Arc::new(Link::new(self, life))
    }

    /// What is carried out here is carried out in one step.
    pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("the memory backend never waits")
    }

    /// Writes all of it, or these pages.
    pub(super) fn put(&self, put: &PutPages, pages: Option<&[usize]>) -> Result<(), StorageError> {
        let PutPages { blob, position, bytes, fence, lease } = put;
        let lease = lease.as_ref();
        let Some(pages) = pages else {
            Self::now(self.memory.put_pages(blob, *position, bytes.clone(), *fence, lease))?;
            self.landed(put, 0, bytes);
            return Ok(());
        };
        let page = usize::try_from(PAGE_BYTES).expect("a page is small");
        for index in pages {
            let part = bytes.slice(index * page..(index + 1) * page);
            let at = *position + *index as u64 * PAGE_BYTES;
            Self::now(self.memory.put_pages(blob, at, part.clone(), *fence, lease))?;
            self.landed(put, *index, &part);
        }
        Ok(())
    }

    /// A part of what was to be put has landed, from this page on. Its term stands in the batch: the fence that it was
    /// sent with may be another where nobody fences.
    fn landed(&self, put: &PutPages, first: usize, part: &[u8]) {
        if SegmentName::parse(&put.blob.name).is_some() {
            let page = usize::try_from(PAGE_BYTES).expect("a page is small");
            self.world.record(Event::Write {
                blob: put.blob.to_string(),
                position: put.position.0 + first as u64 * PAGE_BYTES,
                fence: Header::decode(&put.bytes).map_or(put.fence, |header| header.fence).0,
                pages: part.chunks(page).map(crc32c::crc32c).collect(),
            });
        }
    }

    /// Clears pages.
    pub(super) fn clear(&self, blob: &BlobName, range: Range<u64>, fence: Term) -> Result<(), StorageError> {
        Self::now(self.memory.clear_pages(blob, range.clone(), fence))?;
        if SegmentName::parse(&blob.name).is_some() {
            let (blob, fence) = (blob.to_string(), fence.0);
            self.world.record(Event::Clear { blob, from: range.start, to: range.end, fence });
        }
        Ok(())
    }

    /// The messages of a segment, for the history, before it is deleted.
    pub fn keep_messages(&self, blob: &BlobName) {
        let Some(name) = SegmentName::parse(&blob.name) else { return };
        let messages = self.messages(blob, name.base);
        if !messages.is_empty() {
            self.world.record(Event::Stored(Stored { stream: stream_of(blob), messages }));
        }
    }

    /// Puts down that a segment is about to be deleted, in this state of it alone or in any, if it holds messages.
    pub(super) fn deleting(&self, blob: &BlobName, if_match: Option<&ETag>) {
        let Some(name) = SegmentName::parse(&blob.name) else { return };
        if let Some(last) = self.messages(blob, name.base).last() {
            let (to, at_ms) = (last.offset + 1, self.world.now_ms());
            let state = Self::now(self.memory.properties(blob)).ok().map(|found| found.etag);
            // No state comes again.
            let in_vain = if_match.is_some() && if_match != state.as_ref();
            self.world.record(Event::Deleting { stream: stream_of(blob), to, at_ms, in_vain });
        }
    }

    /// The messages of all segments.
    pub fn keep_all_messages(&self) {
        for container in Self::now(self.memory.list_containers(crate::run::PREFIX)).unwrap_or_default() {
            for blob in Self::now(self.memory.list_blobs(&container.name, "")).unwrap_or_default() {
                self.keep_messages(&BlobName { container: container.name.clone(), name: blob.name });
            }
        }
    }

    /// Turns a bit over in what a stream's segments hold. Says where.
    pub fn turn_a_bit(&self, stream: &Stream, dice: &mut Dice) -> Option<String> {
        let prefix = Prefix::new(crate::run::PREFIX).expect("it is one");
        let container = prefix.container(&prefix.stream(&stream.name).ok()?);
        let mut pages = Vec::new();
        for entry in Self::now(self.memory.list_blobs(&container, "")).ok()? {
            let blob = BlobName { container: container.clone(), name: entry.name };
            if SegmentName::parse(&blob.name).is_some() {
                for range in Self::now(self.memory.page_ranges(&blob, 0..entry.bytes)).ok()? {
                    let starts = range.step_by(usize::try_from(PAGE_BYTES).expect("a page is small"));
                    pages.extend(starts.map(|start| (blob.clone(), start)));
                }
            }
        }
        let index = usize::try_from(dice.below(pages.len().max(1) as u64)).expect("it fits in memory");
        let (blob, start) = pages.get(index)?;
        let mut page = Self::now(self.memory.read(blob, *start..start + PAGE_BYTES)).ok()?.bytes.to_vec();
        let (at, bit) = (dice.below(PAGE_BYTES), dice.below(8));
        page[usize::try_from(at).expect("a page is small")] ^= 1 << bit;
        let fence = Self::now(self.memory.properties(blob)).ok()?.sequence_number;
        Self::now(self.memory.put_pages(blob, Position(*start), page.into(), fence, None)).ok()?;
        Some(format!("{blob} at {}", start + at))
    }

    /// Ends the leader's lease, whoever holds it.
    pub fn break_leaders_lease(&self) {
        let prefix = Prefix::new(crate::run::PREFIX).expect("it is one");
        let blob = BlobName { container: prefix.system_container(), name: LEADER_BLOB.to_owned() };
        if let Ok(properties) = Self::now(self.memory.properties(&blob)) {
            let broken = Self::now(self.memory.break_lease(&blob, &properties.etag));
            self.world.trace(format_args!("lease broken: {broken:?}"));
        }
    }

    fn messages(&self, blob: &BlobName, base: Offset) -> Vec<Placed> {
        let Ok(properties) = Self::now(self.memory.properties(blob)) else { return Vec::new() };
        let Ok(read) = Self::now(self.memory.read(blob, 0..properties.bytes)) else { return Vec::new() };
        let Ok(first) = Header::decode(&read.bytes) else { return Vec::new() };
        let mut chain = Chain::at_segment_start(first.stream, base);
        let mut found = Vec::new();
        while let Some(rest) = read.bytes.get(usize::try_from(chain.position.0).unwrap_or(usize::MAX)..) {
            let Ok(batch): Result<Batch<'_>, _> = chain.accept(rest) else { break };
            push_messages(&batch, &mut found);
            if batch.header.kind == Kind::Seal {
                break;
            }
        }
        found
            .into_iter()
            .map(|stored| Placed {
                offset: stored.offset,
                timestamp: stored.timestamp,
                id: crate::load::id_of(&stored.message.value),
            })
            .collect()
    }
}

/// The stream that a blob belongs to.
fn stream_of(blob: &BlobName) -> String {
    blob.container.as_str().trim_start_matches(crate::run::PREFIX).to_owned()
}

/// A write, which alone can be carried out in part.
#[derive(Clone)]
pub(super) struct PutPages {
    pub(super) blob: BlobName,
    pub(super) position: Position,
    pub(super) bytes: Bytes,
    pub(super) fence: Term,
    pub(super) lease: Option<LeaseId>,
}
