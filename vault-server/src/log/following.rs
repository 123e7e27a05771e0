//! Reading a stream that another server appends to: from the last tail that is known, forward.
//!
//! A batch that stands valid behind all before it is in the log for good, whether it is acknowledged yet or not: a write
//! is not undone, and whoever takes the stream over finds it. So what a follower finds is a prefix of the log, and all
//! that was acknowledged before it looked is in it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use vault_format::chain::Chain;
use vault_format::header::Kind;
use vault_format::ids::{Offset, Position};
use vault_format::limits::PAGE_BYTES;

use crate::limits::{FOLLOW_READ_BYTES, FOLLOWED_LIST_MAY_BE_OLD, OVERTAKEN_TRIES};
use crate::log::beyond::committed_beyond;
use crate::log::error::{StreamFault, Unusable};
use crate::log::fresh::Fresh;
use crate::log::making::list;
use crate::log::reader::Reader;
use crate::log::recover::{Purpose, RecoverError, Recovered, corrupt, recover};
use crate::log::retention::overtaken::forget_deleted;
use crate::log::retry::until_definite;
use crate::log::settings::StreamMeta;
use crate::log::store::{Segment, Store};
use crate::log::tail::Tail;
use crate::storage::{ETag, StorageError};

/// Finds a stream's tail without changing anything.
pub(crate) async fn locate(store: &Store, begun: bool) -> Result<Recovered, Unusable> {
    let mut tries = 0..OVERTAKEN_TRIES;
    loop {
        match recover(store, Purpose::Follow, begun).await {
            Ok(recovered) => return Ok(recovered),
            Err(RecoverError::Reign(_)) => unreachable!("who only follows has no reign that could end"),
            // Retention may have deleted a segment that was listed a moment ago; the newer ones are there.
            Err(RecoverError::Unusable(Unusable::NotFound)) if !store.segments().await?.is_empty() => {
                if tries.next().is_none() {
                    return Err(Unusable::TimedOut);
                }
            }
            Err(RecoverError::Unusable(unusable)) => return Err(unusable),
        }
    }
}

/// Keeps the tail of one stream up with what another server appends.
#[derive(Debug)]
pub(crate) struct Follower {
    looks: Fresh<Result<(), Unusable>>,
    /// Looks which of the oldest segments are gone.
    lists: Fresh<()>,
    /// Whether the last segment is sealed and the next one has not been seen.
    sealed: AtomicBool,
    /// The state of which segment showed last that the tail is where it is, and that no newer segment follows.
    known: Mutex<Option<(Offset, ETag)>>,
    /// When the last look began that succeeded, in ms on the monotonic clock.
    seen_ms: AtomicU64,
}

/// What stands at a place.
enum Step {
    Moved,
    Sealed,
    /// Nothing, or nothing yet.
    Tail,
    /// Nothing, in a segment whose state is another one than was known: it may have been made anew, by a request that came
    /// late, after it was deleted.
    Changed(ETag),
    /// No valid batch, although something is written there or behind: what it means takes a closer look.
    Doubtful,
}

impl Follower {
    /// Goes on from what was found by looks that began at `seen` or later.
    pub(crate) fn new(recovered: &Recovered, seen: Duration) -> Self {
        let sealed = AtomicBool::new(recovered.sealed);
        let follower = Self {
            looks: Fresh::default(),
            lists: Fresh::default(),
            sealed,
            known: Mutex::default(),
            seen_ms: AtomicU64::default(),
        };
        follower.saw(seen);
        follower
    }

    /// How long ago the last look began that showed where the log ends.
    pub(crate) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.seen_ms.load(Ordering::Relaxed)))
    }

    fn saw(&self, began: Duration) {
        let began_ms = u64::try_from(began.as_millis()).expect("a server runs for less than 2^64 ms");
        self.seen_ms.store(began_ms, Ordering::Relaxed);
    }

    /// Moves the tail forward as far as the log goes by now; a look that began at most `may_be_old` ago will do. Fails
    /// with a fault where the log is found to be damaged.
    pub(crate) async fn advance(&self, reader: &Reader, may_be_old: Duration) -> Result<(), Unusable> {
        let look = async || match self.look(reader).await {
            Err(Unusable::NotFound) => self.look_for_newer(reader).await,
            looked => looked,
        };
        self.looks.get(&reader.store.env, may_be_old, look).await
    }

    /// Takes note of what retention has deleted, a moment late at most. Where storage does not answer, what was deleted
    /// is shown a little longer.
    pub(crate) async fn notice_deletions(&self, reader: &Reader) {
        let list = async || match forget_deleted(reader).await {
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, container = %reader.store.container, "cannot list segments");
            }
        };
        self.lists.get(&reader.store.env, FOLLOWED_LIST_MAY_BE_OLD, list).await;
    }

    /// The segment with the tail is gone. Where retention has overtaken this server there are newer ones.
    async fn look_for_newer(&self, reader: &Reader) -> Result<(), Unusable> {
        let (listed, tail) = (list(&reader.store).await?.segments, reader.tail());
        let is_newer = listed.first().is_some_and(|first| first.base > tail.segment);
        if is_newer { self.look_closely(reader).await } else { Err(Unusable::NotFound) }
    }

    async fn look(&self, reader: &Reader) -> Result<(), Unusable> {
        let began = reader.store.env.clock.monotonic();
        let looked = self.look_now(reader).await;
        if looked.is_ok() {
            self.saw(began);
        }
        looked
    }

    async fn look_now(&self, reader: &Reader) -> Result<(), Unusable> {
        let mut read_bytes = FOLLOW_READ_BYTES;
        loop {
            let Some(segment) = self.segment(reader).await? else { return Ok(()) };
            match self.step(reader, &segment, read_bytes).await? {
                // There is more than was thought: the rest goes faster.
                Step::Moved => read_bytes = (read_bytes * 4).min(vault_format::limits::BLOCK_BYTES),
                Step::Sealed => {
                    reader.shown.ends.note(segment.base, reader.tail().chain.position);
                    self.sealed.store(true, Ordering::Release);
                }
                Step::Tail => return Ok(()),
                Step::Changed(etag) => {
                    // A segment that others follow was sealed: what was read of it is deleted.
                    let newest = list(&reader.store).await?.segments.last().map(|newest| newest.base);
                    if newest.is_some_and(|newest| newest > segment.base) {
                        return self.look_closely(reader).await;
                    }
                    self.knows(segment.base, etag);
                    return Ok(());
                }
                Step::Doubtful => return self.look_closely(reader).await,
            }
        }
    }

    /// The segment to go on in. `None` where it is not there yet.
    async fn segment(&self, reader: &Reader) -> Result<Option<Segment>, Unusable> {
        let tail = reader.tail();
        let known = reader.segments().last().copied();
        let (base, chain) = match known {
            None => (tail.segment, tail.chain),
            Some(_) if self.sealed.load(Ordering::Acquire) => {
                (tail.chain.next_offset, tail.chain.in_next_segment())
            }
            Some(segment) => return Ok(Some(segment)),
        };
        let (store, blob) = (&reader.store, reader.store.blob(base));
        match until_definite(&store.env, || store.storage.properties(&blob)).await {
            Ok(properties) => {
                let segment = Segment { base, bytes: properties.bytes };
                reader.shown.segments.write().unwrap_or_else(PoisonError::into_inner).push(segment);
                reader.shown.tail.send_replace(Tail { segment: base, chain });
                self.sealed.store(false, Ordering::Release);
                Ok(Some(segment))
            }
            Err(StorageError::NotFound) => self.check_none_follows(reader, known).await.map(|()| None),
            Err(error) => Err(error.into()),
        }
    }

    /// The next segment does not exist. Then no later one does either, and the one before it still does.
    async fn check_none_follows(&self, reader: &Reader, known: Option<Segment>) -> Result<(), Unusable> {
        let store = &reader.store;
        let Some(known) = known else {
            // A stream without a segment may have been deleted and made anew without leaving a trace.
            let metadata = until_definite(&store.env, || store.storage.container_metadata(&store.container));
            return match StreamMeta::from_metadata(&metadata.await?) {
                // The first segment may be gone again by now.
                Ok(meta) if meta.id == store.id && meta.begun => self.look_closely(reader).await,
                Ok(meta) if meta.id == store.id => Ok(()),
                _ => Err(Unusable::NotFound),
            };
        };
        let next = reader.tail().chain.next_offset;
        let mut listed = list(store).await?.segments;
        let leads_on = |listed: &[Segment]| {
            listed.iter().find(|segment| segment.base > known.base).is_none_or(|later| later.base == next)
        };
        if !leads_on(&listed) {
            // Retention may have been at work while the list was made.
            listed = list(store).await?.segments;
        }
        if !listed.iter().any(|segment| segment.base == known.base) {
            return Err(Unusable::NotFound);
        }
        match listed.iter().find(|segment| segment.base > known.base) {
            None => Ok(()),
            Some(later) if later.base == next => Ok(()),
            Some(later) => {
                let detail = format!("segment {:020} follows, but no seal leads to it", later.base);
                Err(Unusable::Fault(corrupt(&known, reader.tail().chain.position, detail)))
            }
        }
    }

    /// Reads on from the tail, once.
    async fn step(&self, reader: &Reader, segment: &Segment, read_bytes: u64) -> Result<Step, Unusable> {
        let store = &reader.store;
        let mut chain: Chain = reader.tail().chain;
        let start = chain.position;
        let end = segment.block_end(start).min(Position(start.0 + read_bytes));
        if start >= end {
            return Ok(Step::Doubtful);
        }
        let blob = store.blob(segment.base);
        let read = until_definite(&store.env, || store.storage.read(&blob, start.0..end.0)).await?;
        let mut sealed = false;
        let mut rest: &[u8] = &read.bytes;
        while !sealed && let Ok(batch) = chain.accept(rest) {
            sealed = batch.header.kind == Kind::Seal;
            let at = usize::try_from(chain.position.0 - start.0).expect("a block fits in memory");
            // Only the beginning of a filler is written.
            rest = read.bytes.get(at..).unwrap_or_default();
        }
        if chain.position > start {
            self.knows(segment.base, read.etag);
            reader.shown.tail.send_replace(Tail { segment: segment.base, chain });
            return Ok(if sealed { Step::Sealed } else { Step::Moved });
        }
        let page = rest.len().min(usize::try_from(PAGE_BYTES).expect("a page fits in memory"));
        if rest[..page].iter().any(|byte| *byte != 0) {
            return Ok(Step::Doubtful);
        }
        // Writes on their way may land in any order. Only one that says that this place was committed is evidence.
        Ok(match committed_beyond(rest, start, &store.id, start, read.sequence_number) {
            Some(_) => Step::Doubtful,
            None if self.is_known(segment.base, &read.etag) => Step::Tail,
            None => Step::Changed(read.etag),
        })
    }

    fn knows(&self, segment: Offset, state: ETag) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((segment, state));
    }

    fn is_known(&self, segment: Offset, state: &ETag) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().is_some_and(|(base, etag)| *base == segment && etag == state)
    }

    /// Goes the whole way of a recovery, without changing anything, and takes over what it finds.
    async fn look_closely(&self, reader: &Reader) -> Result<(), Unusable> {
        let found = locate(&reader.store, true).await?;
        let tail = reader.tail();
        let segment = found.segments.last().map_or(tail.segment, |segment| segment.base);
        // What was shown once is not taken back.
        if (segment, found.chain.position) >= (tail.segment, tail.chain.position) {
            *reader.shown.segments.write().unwrap_or_else(PoisonError::into_inner) = found.segments;
            reader.shown.tail.send_replace(Tail { segment, chain: found.chain });
            self.sealed.store(found.sealed, Ordering::Release);
        }
        found.fault.map_or(Ok(()), |fault: StreamFault| Err(fault.into()))
    }
}
