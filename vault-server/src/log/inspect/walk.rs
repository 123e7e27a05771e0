//! Every batch of a stream in order, block by block, with everything checked that can be.

use bytes::Bytes;
use vault_format::audit::{Audit, Counts, Flaw};
use vault_format::chain::{Broken, Chain};
use vault_format::header::Kind;
use vault_format::ids::{Offset, Position};
use vault_format::layout::block_of;

use super::{Damage, Gap, InspectError, StoredBatch, StoredStream};
use crate::limits::WINDOW_BLOCKS;
use crate::log::beyond::{Settled, settle_tail};
use crate::log::error::{StreamFault, Unusable};
use crate::log::making::{is_blank, list};
use crate::log::meta;
use crate::log::recover::Purpose;
use crate::log::scan::{ScanEnd, Scanned, last_head};
use crate::log::store::{Head, Segment};
use crate::storage::StorageError;

/// What comes next in a stream.
#[derive(Clone, Debug)]
pub enum Step {
    /// A batch, of any kind.
    Batch(StoredBatch),
    /// No batch can be read here, although there should be one. It stays so until [`Walk::go_on_behind`].
    Damaged(Damage),
    /// Nothing, or nothing yet: what is appended afterwards comes when it is asked for again.
    End,
}

/// Goes through a stream. It holds one block in memory.
#[derive(Clone, Debug)]
pub struct Walk {
    pub(super) stream: StoredStream,
    from: Option<Offset>,
    pub(super) segments: Vec<Segment>,
    /// The segment in which the next batch stands, or whose seal was passed last.
    pub(super) current: Option<Segment>,
    /// Whether that one's seal was passed, so that the next one is to be found.
    pub(super) sealed: bool,
    pub(super) audit: Audit,
    /// Bytes from a position on to the end of its block, or as far as the segment goes.
    pub(super) loaded: Option<(Position, Bytes)>,
    pub(super) damage: Option<Met>,
    /// Whether nothing intact follows the damage that was passed last.
    pub(super) over: bool,
    first_offset: Option<Offset>,
    segments_seen: u64,
}

/// Damage, and what is lost where the walk stands behind it already.
#[derive(Clone, Debug)]
pub(super) struct Met {
    pub(super) damage: Damage,
    pub(super) passed: Option<(Offset, Offset)>,
}

impl Walk {
    pub(super) fn new(stream: StoredStream, from: Option<Offset>) -> Self {
        Self {
            stream,
            from,
            segments: Vec::new(),
            current: None,
            sealed: false,
            audit: Audit::new(),
            loaded: None,
            damage: None,
            over: false,
            first_offset: None,
            segments_seen: 0,
        }
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &StoredStream {
        &self.stream
    }

    /// What was found intact so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        self.audit.counts()
    }

    /// How many segments were entered.
    #[must_use]
    pub fn segments_seen(&self) -> u64 {
        self.segments_seen
    }

    /// The first offset that is kept, once something was looked at.
    #[must_use]
    pub fn first_offset(&self) -> Option<Offset> {
        self.first_offset
    }

    /// The offset of the next message.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.audit.next_offset().unwrap_or_default()
    }

    /// What comes next. After an error the same may be asked again.
    pub async fn next(&mut self) -> Result<Step, InspectError> {
        loop {
            if let Some(met) = &self.damage {
                return Ok(Step::Damaged(met.damage.clone()));
            }
            if self.over {
                return Ok(Step::End);
            }
            let segment = match self.current {
                Some(segment) if !self.sealed => segment,
                _ => match self.enter().await? {
                    Some(segment) => segment,
                    None if self.damage.is_some() => continue,
                    None => return Ok(Step::End),
                },
            };
            match self.look(&segment).await {
                Ok(Looked::Found(step)) => return Ok(step),
                Ok(Looked::Again) => {}
                Err(InspectError::Storage(StorageError::NotFound)) => self.segment_is_gone(&segment).await?,
                // Where a file is not what its name says, storage itself refuses to read it.
                Err(InspectError::Storage(StorageError::Refused(why))) => self.meet(&segment, why),
                Err(error) => return Err(error),
            }
        }
    }

    /// The place behind what was found.
    pub(super) fn chain(&self) -> Chain {
        let start = Chain::at_segment_start(self.stream.store.id, Offset::ZERO);
        self.audit.chain().copied().unwrap_or(start)
    }

    pub(super) fn meet(&mut self, segment: &Segment, detail: String) {
        let Chain { position, next_offset: offset, .. } = self.chain();
        let damage = Damage { segment: segment.base, position, offset, detail };
        self.damage = Some(Met { damage, passed: None });
    }

    /// Finds the segment that comes next. `None`: there is none yet, or damage was met.
    async fn enter(&mut self) -> Result<Option<Segment>, InspectError> {
        self.segments = list(&self.stream.store).await?.segments;
        let Some(before) = self.current else { return self.begin().await };
        let chain = self.chain();
        if let Some(next) = self.segments.iter().find(|next| next.base == chain.next_offset).copied() {
            self.move_to(next);
            return Ok(Some(next));
        }
        if self.newer_in_use(&before).await?.is_some() {
            if self.overtaken_by(chain.next_offset).await? {
                let first_offset = self.segments.first().map_or(Offset::ZERO, |first| first.base);
                return Err(InspectError::Overtaken { wanted: chain.next_offset, first_offset });
            }
            let detail = format!("segment {:020} is gone although later ones are there", chain.next_offset);
            self.meet(&Segment { base: chain.next_offset, ..before }, detail);
        }
        Ok(None)
    }

    pub(super) fn move_to(&mut self, segment: Segment) {
        (self.current, self.sealed, self.loaded) = (Some(segment), false, None);
        self.segments_seen += 1;
    }

    /// Finds the first segment to be looked at, and the place in it.
    async fn begin(&mut self) -> Result<Option<Segment>, InspectError> {
        let (id, begun) = (self.stream.store.id, self.stream.meta.begun);
        let Some(first) = self.segments.first().copied() else {
            self.audit.go_on_at(Chain::at_segment_start(id, Offset::ZERO));
            if begun {
                let none = Segment { base: Offset::ZERO, bytes: 0 };
                self.meet(&none, "the stream has begun, but it has no segment".to_owned());
            }
            return Ok(None);
        };
        self.first_offset = Some(first.base);
        let from = self.from.unwrap_or(first.base);
        if from < first.base {
            return Err(InspectError::Overtaken { wanted: from, first_offset: first.base });
        }
        let at = self.segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        let segment = self.segments[at];
        let start = Chain::at_segment_start(id, segment.base);
        let start = if self.from.is_some() { self.block_before(&segment, from, start).await? } else { start };
        self.audit.go_on_at(start);
        self.move_to(segment);
        if first.base > Offset::ZERO && self.from.is_none() && !self.is_trimmed().await? {
            let detail = "the segments before it are gone, and retention did not delete them".to_owned();
            let damage =
                Damage { segment: first.base, position: Position::ZERO, offset: Offset::ZERO, detail };
            self.damage = Some(Met { damage, passed: Some((Offset::ZERO, first.base)) });
            return Ok(None);
        }
        Ok(Some(segment))
    }

    /// The head of the last block that is known to be committed and begins at `from` or before.
    async fn block_before(
        &self,
        segment: &Segment,
        from: Offset,
        start: Chain,
    ) -> Result<Chain, InspectError> {
        let store = &self.stream.store;
        let committed = last_head(store, segment).await?.unwrap_or(0).saturating_sub(WINDOW_BLOCKS);
        let (mut low, mut high, mut found) = (1, committed + 1, start);
        while low < high {
            let middle = low + (high - low) / 2;
            match store.head(segment, middle).await? {
                Head::Valid(header) if header.base_offset <= from => {
                    (low, found) = (middle + 1, Chain::before(&header));
                }
                _ => high = middle,
            }
        }
        Ok(found)
    }

    /// Whether retention deletes from this stream, as its container says by now.
    async fn is_trimmed(&self) -> Result<bool, InspectError> {
        Ok(self.stream.meta.trimmed || meta::is_trimmed(&self.stream.store).await?)
    }

    /// Whether everything in front of what is still there, `wanted` too, was deleted by retention.
    async fn overtaken_by(&self, wanted: Offset) -> Result<bool, InspectError> {
        let first = self.segments.first().is_some_and(|first| first.base > wanted);
        Ok(first && self.is_trimmed().await?)
    }

    async fn segment_is_gone(&mut self, segment: &Segment) -> Result<(), InspectError> {
        self.segments = list(&self.stream.store).await?.segments;
        let wanted = self.chain().next_offset;
        if self.overtaken_by(wanted).await? {
            let first_offset = self.segments.first().map_or(Offset::ZERO, |first| first.base);
            return Err(InspectError::Overtaken { wanted, first_offset });
        }
        self.meet(segment, "the segment is gone".to_owned());
        Ok(())
    }

    /// The newest segment behind this one that holds a page: a log never goes on without a seal that leads there.
    async fn newer_in_use(&self, segment: &Segment) -> Result<Option<Offset>, InspectError> {
        let store = &self.stream.store;
        for newer in self.segments.iter().rev().take_while(|newer| newer.base > segment.base) {
            if !is_blank(store, newer).await? {
                return Ok(Some(newer.base));
            }
        }
        Ok(None)
    }

    /// Looks for the batch at the place.
    async fn look(&mut self, segment: &Segment) -> Result<Looked, InspectError> {
        let chain = self.chain();
        if chain.position.0 >= segment.bytes {
            let detail = if segment.is_whole() {
                "the segment ends without a seal".to_owned()
            } else {
                format!("the segment was cut off, {} bytes are left", segment.bytes)
            };
            self.meet(segment, detail);
            return Ok(Looked::Again);
        }
        let kept = self.loaded.take().filter(|(start, _)| block_of(*start) == block_of(chain.position));
        let fresh = kept.is_none();
        let (start, bytes) = match kept {
            Some(kept) => kept,
            None => {
                let end = segment.block_end(chain.position);
                (chain.position, self.stream.store.read(segment.base, chain.position, end).await?)
            }
        };
        let at = usize::try_from(chain.position.0 - start.0).expect("a block fits in memory");
        match self.audit.check(bytes.get(at..).unwrap_or_default()) {
            Ok(batch) => {
                let header = batch.header;
                let written = usize::try_from(header.written_bytes()).expect("a batch fits in memory");
                let batch = bytes.slice(at..(at + written).min(bytes.len()));
                self.sealed = header.kind == Kind::Seal;
                self.loaded = Some((start, bytes));
                Ok(Looked::Found(Step::Batch(StoredBatch { header, bytes: batch })))
            }
            // What was read a while ago may have been read while it was written; and a read may have gone wrong.
            Err(flaw) if !flaw.continues() && !fresh => Ok(Looked::Again),
            Err(Flaw::Broken(broken)) if broken.is_too_new() => {
                Err(InspectError::TooNew { segment: segment.base, position: chain.position })
            }
            Err(Flaw::Broken(broken)) => self.tail_or_damage(segment, &chain, broken).await,
            Err(flaw) => {
                let damage = Damage {
                    segment: segment.base,
                    position: chain.position,
                    offset: chain.next_offset,
                    detail: flaw.to_string(),
                };
                let passed = Some((chain.next_offset, self.next_offset()));
                self.damage = Some(Met { damage, passed });
                self.loaded = Some((start, bytes));
                Ok(Looked::Again)
            }
        }
    }

    /// What it means that no batch stands at the place.
    async fn tail_or_damage(
        &mut self,
        segment: &Segment,
        chain: &Chain,
        broken: Broken,
    ) -> Result<Looked, InspectError> {
        if !segment.is_whole() {
            self.meet(segment, format!("the segment was cut off, {} bytes are left", segment.bytes));
            return Ok(Looked::Again);
        }
        self.segments = list(&self.stream.store).await?.segments;
        if !self.segments.iter().any(|listed| listed.base == segment.base) {
            self.segment_is_gone(segment).await?;
            return Ok(Looked::Again);
        }
        if let Some(newer) = self.newer_in_use(segment).await? {
            // It may have been sealed since it was read.
            let end = segment.block_end(chain.position);
            let again = self.stream.store.read(segment.base, chain.position, end).await?;
            if self.audit.clone().check(&again).is_err_and(|flaw| !flaw.continues()) {
                self.meet(segment, format!("{broken}, although segment {newer:020} follows"));
            } else {
                self.loaded = Some((chain.position, again));
            }
            return Ok(Looked::Again);
        }
        let scanned = Scanned {
            chain: *chain,
            end: ScanEnd::Tail(broken),
            recorded: Position::ZERO,
            messages_end: Position::ZERO,
            producers: Ok(None),
        };
        let settled = settle_tail(&self.stream.store, Purpose::Follow, segment, &scanned).await;
        match settled.map_err(super::unclaimed)? {
            Settled::Clean => Ok(Looked::Found(Step::End)),
            Settled::Longer => Ok(Looked::Again),
            Settled::Damaged(StreamFault::Corrupt { detail, .. }) => {
                self.meet(segment, detail);
                Ok(Looked::Again)
            }
            Settled::Damaged(fault) => Err(Unusable::from(fault).into()),
        }
    }

    /// Passes the damage that was met: the walk goes on with the next intact batch behind it that continues the stream, as
    /// far as that can be told. Without damage nothing happens, and nothing is lost.
    ///
    /// Only what stands where it says that it stands, and is intact, is believed. Who may append could put bytes into a
    /// message that look like a batch in its right place; where the batch that holds them is itself damaged in its
    /// header, they would be taken for one.
    pub async fn go_on_behind(&mut self) -> Result<Option<Gap>, InspectError> {
        let Some(Met { damage, passed }) = self.damage.clone() else { return Ok(None) };
        let gap = match passed {
            Some((from, to)) => Gap { damage, from, to: Some(to) },
            None => {
                let from = self.chain().next_offset;
                let to = self.find_behind().await?;
                self.over = to.is_none();
                Gap { damage, from, to }
            }
        };
        self.damage = None;
        Ok(Some(gap))
    }
}

/// What looking at a place led to.
enum Looked {
    Found(Step),
    /// Something has changed: look again.
    Again,
}
