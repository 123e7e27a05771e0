//! Retention, as the writer carries it out: sealing early, and deleting the oldest segment.
//!
//! ```text
//!   every now and then, after a roll-over, after a deletion
//!      |
//!      +--> is the open segment due to be sealed?  --> the next put is a seal
//!      +--> is everything known?  --no--> look it up, look again
//!      +--> may the oldest go?  --> does its successor hold a batch?  --no--> write a snapshot, then a commit there
//!                                      | yes
//!                                      +--> off the list of segments, then deleted, until storage confirms it
//! ```
//!
//! A leader that ends between the last two leaves a segment that the next one lists, shows and deletes again. What is
//! going on here holds up neither appends nor the writer's end: it is dropped with the writer.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::watch;
use vault_format::chain::Chain;
use vault_format::header::{Header, Kind};
use vault_format::ids::{Offset, Position, Timestamp};
use vault_format::limits::PAGE_BYTES;

use super::{AppendRequest, Command, Open, RecordsOnce, Shown, Writer};
use crate::limits::{FIRST_MESSAGE_HOPS, RETENTION_DELETE_AGAIN};
use crate::log::appender::Put;
use crate::log::error::Unusable;
use crate::log::reign::Reign;
use crate::log::retention::{Oldest, Policy, Reason};
use crate::log::retry::Backoff;
use crate::log::steady::SteadyClock;
use crate::log::store::{Head, Segment, Store};
use crate::storage::StorageError;

/// When a message was appended: the first of a segment, or the last, by the segment's base offset.
type MessageTime = (Offset, Timestamp);

/// Where the writer is with retention.
pub(crate) struct Retaining {
    /// What the stream's settings say; a change wakes the writer.
    pub(super) settings: watch::Receiver<Policy>,
    clock: Arc<Mutex<SteadyClock>>,
    /// The policy as it was when it was last looked at.
    policy: Policy,
    /// Whether segments are sealed early and deleted: not while the writer comes to its end.
    is_active: bool,
    /// Whether something has happened since.
    look: bool,
    /// Ends when it is time to look.
    pub(super) timer: Option<BoxFuture<'static, ()>>,
    /// A look at storage or a deletion; one at a time.
    pub(super) chore: Option<BoxFuture<'static, Chore>>,
    /// Whether the open segment's first message is old enough.
    seal_is_due: bool,
    /// Whether the oldest segment goes as soon as its successor holds a batch.
    awaits_foothold: bool,
    /// Of the open segment.
    first_message: Option<MessageTime>,
    /// Of the oldest segment.
    last_message: Option<MessageTime>,
}

/// What was done beside appending.
pub(super) enum Chore {
    /// Looked up what decisions want to know.
    Surveyed(Result<Survey, Unusable>),
    /// Deleted the oldest segment.
    Deleted,
}

#[derive(Default)]
pub(super) struct Survey {
    first_message: Option<MessageTime>,
    last_message: Option<MessageTime>,
    /// Whether everything was found that was wanted.
    is_complete: bool,
}

impl Retaining {
    pub(crate) fn new(settings: watch::Receiver<Policy>, clock: Arc<Mutex<SteadyClock>>) -> Self {
        let policy = *settings.borrow();
        Self {
            settings,
            clock,
            policy,
            is_active: false,
            look: false,
            timer: None,
            chore: None,
            seal_is_due: false,
            awaits_foothold: false,
            first_message: None,
            last_message: None,
        }
    }

    /// Time has passed: looks now, and again later.
    pub(super) fn tick(&mut self) {
        self.timer = None;
        self.look = true;
    }

    /// Takes note of the first message of the segment at `base`, if that is in this put.
    pub(super) fn note_put(&mut self, base: Offset, before: &Chain, put: &Put<AppendRequest>) {
        if before.next_offset == base
            && let Some((_, appended)) = put.requests.first()
        {
            self.first_message = Some((base, appended.timestamp));
        }
    }

    /// Takes note of puts that were settled.
    pub(super) fn settled(&mut self) {
        self.look |= std::mem::take(&mut self.awaits_foothold);
    }

    /// Takes note of a new open segment.
    pub(super) fn entered(&mut self) {
        self.seal_is_due = false;
        self.look = true;
    }

    fn first_message(&self, base: Offset) -> Option<Timestamp> {
        self.first_message.filter(|(of, _)| *of == base).map(|(_, time)| time)
    }

    fn last_message(&self, base: Offset) -> Option<Timestamp> {
        self.last_message.filter(|(of, _)| *of == base).map(|(_, time)| time)
    }
}

/// Whether the next put is to end the open segment.
pub(super) fn seal_is_due(open: &Open, retaining: &Retaining) -> bool {
    let built = open.appender.built();
    // A sealed segment holds a message.
    retaining.is_active
        && built.next_offset > open.segment.base
        && (retaining.seal_is_due || retaining.policy.seals_by_bytes(built.position.0))
}

impl Writer {
    /// Looks what retention asks for, where there is reason to.
    pub(super) fn retain(&mut self) {
        let policy = *self.parts.retaining.settings.borrow_and_update();
        if std::mem::replace(&mut self.parts.retaining.policy, policy) != policy {
            self.parts.retaining.tick();
        }
        self.parts.retaining.is_active = policy.retains() && *self.parts.command.borrow() == Command::Run;
        if !self.parts.retaining.is_active {
            (self.parts.retaining.timer, self.parts.retaining.seal_is_due) = (None, false);
            return;
        }
        let env = &self.parts.store.env;
        if self.parts.retaining.timer.is_none() {
            self.parts.retaining.timer = Some(env.clock.sleep(env.jitter(policy.look_every())));
        }
        let Some(open) = &self.open else { return };
        if !std::mem::take(&mut self.parts.retaining.look) {
            return;
        }
        let now = {
            let mut clock = self.parts.retaining.clock.lock().unwrap_or_else(PoisonError::into_inner);
            clock.now(env.clock.now(), env.clock.monotonic())
        };
        let first_message = self.parts.retaining.first_message(open.segment.base);
        self.parts.retaining.seal_is_due = first_message.is_some_and(|first| policy.seals_by_age(first, now));
        if self.parts.retaining.chore.is_none() {
            self.begin_chore(policy, now);
        }
    }

    /// Looks up what is not known, or deletes what may go.
    fn begin_chore(&mut self, policy: Policy, now: Timestamp) {
        let Some(open) = &self.open else { return };
        let shown = &self.parts.shown;
        let segments = shown.segments.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((&oldest, others)) = segments.split_first() else { return };
        let settled = *open.appender.settled();
        if others.first().is_some_and(|successor| successor.base == open.segment.base)
            && settled.position == Position::ZERO
        {
            self.parts.retaining.last_message = Some((oldest.base, settled.last_timestamp));
        }
        let sealed: Vec<_> =
            others.iter().filter(|segment| segment.base != open.segment.base).copied().collect();
        let retaining = &self.parts.retaining;
        let (ages, base) = (policy.age.is_some(), open.segment.base);
        let has_messages = settled.next_offset > base;
        let wanted = Wanted {
            first_message: (ages && has_messages && retaining.first_message(base).is_none())
                .then_some((open.segment, settled.position)),
            last_message: others
                .first()
                .filter(|_| ages && retaining.last_message(oldest.base).is_none())
                .map(|successor| (oldest.base, *successor)),
            ends: if policy.bytes.is_some() && !shown.ends.knows(&sealed) {
                sealed.clone()
            } else {
                Vec::new()
            },
        };
        if !wanted.is_nothing() {
            let (store, shown) = (self.parts.store.clone(), shown.clone());
            self.parts.retaining.chore =
                Some(Box::pin(async move { Chore::Surveyed(wanted.look_up(&store, &shown).await) }));
            return;
        }
        let Some(successor) = others.first() else { return };
        let others_bytes = shown.ends.sum(&sealed, |_| 0) + settled.position.0;
        let last_message = retaining.last_message(oldest.base);
        let Some(why) = policy.may_go(&Oldest { last_message, others_bytes }, now) else { return };
        if successor.base == base && !open.appender.has_foothold() {
            self.gain_foothold();
            return;
        }
        let deletion = Deletion {
            store: self.parts.store.clone(),
            reign: self.parts.reign.clone(),
            shown: shown.clone(),
            settings: self.parts.retaining.settings.clone(),
            policy,
            trim: Arc::clone(&self.parts.trim),
        };
        self.parts.retaining.chore = Some(Box::pin(async move {
            deletion.delete(oldest, why).await;
            Chore::Deleted
        }));
    }

    /// Makes sure that the open segment holds a batch, and one that says so, before the one in front of it goes: state
    /// such as the last timestamp stands in the snapshot at its head.
    fn gain_foothold(&mut self) {
        self.parts.retaining.awaits_foothold = true;
        let Some(open) = &mut self.open else { return };
        let quiet = self.queue.is_empty() && self.in_flight.is_empty();
        // Messages bring it along, and a commit soon follows them.
        if !quiet || open.appender.sealed() || open.appender.owes_commit() || self.pause.is_some() {
            return;
        }
        let before = *open.appender.built();
        let put = open.appender.build_foothold();
        self.send(before, put);
    }

    pub(super) fn on_chore(&mut self, chore: Chore) {
        self.parts.retaining.chore = None;
        match chore {
            Chore::Surveyed(Ok(survey)) => {
                let Survey { first_message, last_message, is_complete } = survey;
                self.parts.retaining.first_message = first_message.or(self.parts.retaining.first_message);
                self.parts.retaining.last_message = last_message.or(self.parts.retaining.last_message);
                self.parts.retaining.look |= is_complete;
            }
            // It is looked up again when the time comes.
            Chore::Surveyed(Err(error)) => {
                let container = &self.parts.store.container;
                tracing::warn!(%error, %container, "cannot look up what retention wants to know");
            }
            Chore::Deleted => self.parts.retaining.look = true,
        }
    }
}

/// What is to be looked up.
struct Wanted {
    /// The open segment, and up to where it holds batches.
    first_message: Option<(Segment, Position)>,
    /// The oldest segment's base, and its successor.
    last_message: Option<(Offset, Segment)>,
    ends: Vec<Segment>,
}

impl Wanted {
    fn is_nothing(&self) -> bool {
        self.first_message.is_none() && self.last_message.is_none() && self.ends.is_empty()
    }

    async fn look_up(self, store: &Store, shown: &Shown) -> Result<Survey, Unusable> {
        let mut survey = Survey::default();
        if let Some((segment, end)) = self.first_message {
            survey.first_message = Some((segment.base, first_message(store, &segment, end).await?));
        }
        if let Some((oldest, successor)) = self.last_message {
            // A segment begins with a snapshot, which bears the time of the last message before it. Where that cannot be
            // read, nobody knows that the messages are old.
            let time = match store.head(&successor, 0).await? {
                Head::Valid(snapshot) => snapshot.first_timestamp,
                Head::TooNew | Head::Absent => Timestamp::MAX,
            };
            survey.last_message = Some((oldest, time));
        }
        shown.ends.find(store, &self.ends).await?;
        survey.is_complete = shown.ends.knows(&self.ends);
        Ok(survey)
    }
}

/// When the first message of a segment was appended that holds batches up to `end`; 0 where that cannot be read, so that
/// the segment is sealed and the next one tells.
async fn first_message(store: &Store, segment: &Segment, end: Position) -> Result<Timestamp, Unusable> {
    let mut position = Position::ZERO;
    for _ in 0..FIRST_MESSAGE_HOPS {
        if position >= end {
            break;
        }
        let page = store.read(segment.base, position, position + PAGE_BYTES).await?;
        match Header::decode(&page) {
            Ok(header) if header.kind == Kind::Messages => return Ok(header.first_timestamp),
            Ok(header) if header.position == position => position = header.end(),
            _ => break,
        }
    }
    Ok(Timestamp::ZERO)
}

/// What deleting takes.
struct Deletion {
    store: Store,
    reign: Reign,
    shown: Shown,
    settings: watch::Receiver<Policy>,
    /// What the settings said when it was decided.
    policy: Policy,
    trim: RecordsOnce,
}

impl Deletion {
    /// Deletes the oldest segment, however often it takes, unless retention is changed meanwhile.
    async fn delete(&self, segment: Segment, why: Reason) {
        let Store { env, container, .. } = &self.store;
        // Only for the log.
        let _ = self.shown.ends.find(&self.store, &[segment]).await;
        let bytes = self.shown.ends.get(segment.base).map_or(segment.bytes, |end| end.0);
        let mut backoff = Backoff::default();
        let mut troubled = false;
        loop {
            match self.try_once(&segment).await {
                Ok(true) => break,
                // Gone, however that came about; unless the whole container is, which is another matter.
                Err(StorageError::NotFound) if self.store.segments().await.is_ok() => break,
                Ok(false) => return self.show(segment),
                Err(error) => {
                    if !matches!(error, StorageError::Unavailable(_)) {
                        // It is there to be read as long as it cannot be deleted.
                        self.show(segment);
                    }
                    if !std::mem::replace(&mut troubled, true) {
                        let base = segment.base;
                        tracing::warn!(%container, segment = %base, %error, "cannot delete a segment, trying again");
                    }
                    match error {
                        StorageError::Unavailable(_) => backoff.wait(env).await,
                        _ => env.clock.sleep(RETENTION_DELETE_AGAIN).await,
                    }
                }
            }
        }
        self.hide(&segment);
        self.shown.ends.forget(segment.base);
        self.store.metrics.segment_deleted(bytes);
        let base = segment.base;
        tracing::info!(%container, segment = %base, bytes, %why, "a segment was deleted");
    }

    /// Whether it was deleted; `false` where that is not asked for any more.
    async fn try_once(&self, segment: &Segment) -> Result<bool, StorageError> {
        let Store { storage, env, .. } = &self.store;
        // From now on it is no damage where the first segments are gone.
        (self.trim)().await?;
        let blob = self.store.blob(segment.base);
        let etag = storage.properties(&blob).await?.etag;
        // Who was deposed deletes nothing: the settings may be others by now.
        if !self.reign.in_force(storage, env, None).await? {
            return Err(StorageError::PreconditionFailed);
        }
        if *self.settings.borrow() != self.policy {
            return Ok(false);
        }
        // Nobody is shown any more what may be gone in a moment.
        self.hide(segment);
        storage.delete_blob(&blob, Some(&etag)).await.map(|()| true)
    }

    fn show(&self, segment: Segment) {
        let mut shown = self.shown.segments.write().unwrap_or_else(PoisonError::into_inner);
        if shown.first().is_some_and(|first| first.base > segment.base) {
            shown.insert(0, segment);
        }
    }

    fn hide(&self, segment: &Segment) {
        let mut shown = self.shown.segments.write().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|it| it.base != segment.base);
        assert!(!shown.is_empty(), "the oldest segment has a successor");
    }
}
