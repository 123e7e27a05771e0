//! One stream's blobs: names, listing, block heads.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::sync::Cache;
use vault_format::header::{Header, HeaderError};
use vault_format::ids::{Offset, Position, StreamId, Timestamp};
use vault_format::layout::{block_end, block_start};
use vault_format::limits::{BLOCK_BYTES, PAGE_BYTES};
use vault_format::names::{ContainerName, SegmentName, aside_prefix};

use crate::env::Env;
use crate::log::retry::until_definite;
use crate::metrics::log::StreamMetrics;
use crate::storage::{BlobName, Storage, StorageError};

/// A segment as it was listed or made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    /// The offset of the first message that it can hold; its name.
    pub base: Offset,
    /// Its full size.
    pub bytes: u64,
}

impl Segment {
    /// Whether it is as long as segments are made; else somebody has cut it off.
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes >= BLOCK_BYTES && self.bytes.is_multiple_of(BLOCK_BYTES)
    }

    /// The end of the block in which a position stands, as far as the segment goes.
    pub(crate) fn block_end(&self, position: Position) -> Position {
        block_end(position).min(Position(self.bytes))
    }
}

/// What stands at the head of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// An intact batch of this stream that names this place.
    Valid(Header),
    /// A batch of a later version of the format.
    TooNew,
    /// Nothing, or nothing intact.
    Absent,
}

/// The parts of a head that a search wants, as the cache keeps them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadMark {
    pub(crate) base_offset: Offset,
    pub(crate) last_timestamp: Timestamp,
}

/// Heads below the committed tail never change, so a bounded number of them is remembered for all streams together.
pub(crate) type HeadCache = Cache<(StreamId, Offset, u64), HeadMark>;

/// Reads and names the blobs of one stream.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) env: Env,
    pub(crate) container: ContainerName,
    pub(crate) id: StreamId,
    pub(crate) metrics: Arc<StreamMetrics>,
}

impl Store {
    pub(crate) fn blob(&self, base: Offset) -> BlobName {
        let name = SegmentName { stream: self.id, base }.to_string();
        BlobName { container: self.container.clone(), name }
    }

    /// The stream's segments by base offset, written to or not.
    pub(crate) async fn segments(&self) -> Result<Vec<Segment>, StorageError> {
        let prefix = format!("{}/", self.id);
        let blobs = until_definite(&self.env, || self.storage.list_blobs(&self.container, &prefix)).await?;
        let mut segments: Vec<Segment> = blobs
            .iter()
            .filter_map(|blob| {
                Some(Segment { base: SegmentName::parse(&blob.name)?.base, bytes: blob.bytes })
            })
            .collect();
        segments.sort_by_key(|segment| segment.base);
        Ok(segments)
    }

    /// Names of the copies that recovery set aside, oldest term first.
    pub(crate) async fn asides(&self) -> Result<Vec<BlobName>, StorageError> {
        let prefix = aside_prefix(&self.id);
        let mut names: Vec<String> =
            until_definite(&self.env, || self.storage.list_blobs(&self.container, &prefix))
                .await?
                .into_iter()
                .map(|blob| blob.name)
                .collect();
        // The term is what a name ends with.
        names.sort_by(|a, b| a.rsplit('-').next().cmp(&b.rsplit('-').next()));
        Ok(names.into_iter().map(|name| BlobName { container: self.container.clone(), name }).collect())
    }

    pub(crate) async fn read(
        &self,
        base: Offset,
        from: Position,
        to: Position,
    ) -> Result<Bytes, StorageError> {
        let blob = self.blob(base);
        Ok(until_definite(&self.env, || self.storage.read(&blob, from.0..to.0)).await?.bytes)
    }

    pub(crate) async fn head(&self, segment: &Segment, block: u64) -> Result<Head, StorageError> {
        let at = block_start(block);
        if segment.bytes < at.0 + PAGE_BYTES {
            return Ok(Head::Absent);
        }
        let page = self.read(segment.base, at, at + PAGE_BYTES).await?;
        Ok(match Header::decode(&page) {
            Ok(header) if header.stream == self.id && header.position == at => Head::Valid(header),
            Err(HeaderError::TooNew { .. }) => Head::TooNew,
            _ => Head::Absent,
        })
    }
}
