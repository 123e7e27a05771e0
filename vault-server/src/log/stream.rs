//! One stream as the rest of the server uses it: opened when it is first wanted, appended to, read.
//!
//! ```text
//!             first use             recovered
//!   Closed ---------------> Opening ----------> Open (writer runs) ---> Closed   the reign is over
//!    |  ^                      |                  |
//!    |  | a reign begins       | data missing     | damage, data missing
//!    v  |                      v                  v
//!   Following                Faulted            Open, read-only
//!   (another server leads)
//! ```

mod append;
mod life;
pub(crate) mod measured;

pub use append::Append;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, watch};
use vault_format::ids::Term;
use vault_format::names::{ContainerName, StreamName};

use crate::env::Env;
use crate::limits::{FOLLOWED_MAY_BE_OLD, QUEUE_BYTES_PER_STREAM};
use crate::log::codec::CodecInForce;
use crate::log::context::Context;
use crate::log::error::{StreamFault, Unusable};
use crate::log::following::Follower;
use crate::log::fresh::Fresh;
use crate::log::rate::Rate;
use crate::log::reader::Reader;
use crate::log::reading::StreamReader;
use crate::log::reign::{Reign, ReignEnd};
use crate::log::retention::Policy;
use crate::log::retry::until_definite;
use crate::log::settings::{Settings, StreamMeta};
use crate::log::writer::{AppendRequest, Command};
use crate::metrics::log::StreamMetrics;
use crate::storage::{ReadAccess, StorageError};

/// What a stream is like at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Nobody has wanted it yet, or this server does not lead.
    Closed,
    /// Its last segment is being claimed and its tail looked for.
    Opening,
    /// It is read and appended to.
    Open,
    /// Storage does not take its writes at the moment; they are sent until it does.
    Stalled,
    /// See [`StreamFault::Corrupt`].
    Corrupt,
    /// See [`StreamFault::DataMissing`].
    DataMissing,
    /// See [`StreamFault::TwoAccounts`].
    TwoAccounts,
    /// See [`StreamFault::FormatTooNew`].
    FormatTooNew,
}

/// What is known of a stream without asking storage.
#[derive(Clone, Debug)]
pub struct StreamStatus {
    /// Its condition.
    pub condition: Condition,
    /// What is wrong, in a sentence.
    pub trouble: Option<String>,
    /// Bytes that wait to be stored.
    pub queued_bytes: usize,
}

#[derive(Clone, Debug)]
enum State {
    Closed,
    Opening { trouble: Option<Unusable> },
    Open(Arc<OpenStream>),
    Following(Arc<OpenStream>),
    Faulted(StreamFault),
    Deleted,
}

/// A stream whose tail is known.
#[derive(Debug)]
pub(crate) struct OpenStream {
    pub(crate) reader: Reader,
    /// To the writer; `None` where another server appends.
    requests: Option<mpsc::UnboundedSender<AppendRequest>>,
    /// The term under which this server appends.
    term: Option<Reign>,
    /// Keeps the tail up with another server's appends.
    follower: Option<Follower>,
    /// Whether storage has shown our term to be the highest.
    confirmed: Fresh<Result<bool, StorageError>>,
    fault: Mutex<Option<StreamFault>>,
}

impl OpenStream {
    pub(crate) fn fault(&self) -> Option<StreamFault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether another server appends.
    pub(crate) fn is_followed(&self) -> bool {
        self.follower.is_some()
    }
}

/// How new a read has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Freshness {
    /// A prefix of the log, a moment old at most.
    #[default]
    Recent,
    /// Everything that any server acknowledged before the read began.
    Strong,
}

/// A stream of the vault.
#[derive(Debug)]
pub struct Stream {
    name: StreamName,
    container: ContainerName,
    context: Arc<Context>,
    meta: RwLock<StreamMeta>,
    /// How many times `meta` was read or written here: a listing that began before the last time is older.
    meta_read: AtomicU64,
    segment_bytes: Arc<AtomicU64>,
    codec: CodecInForce,
    /// How long it keeps its messages, and how much it may hold.
    policy: watch::Sender<Policy>,
    /// What may be appended here now: each leader counts for itself.
    rate: Mutex<Rate>,
    queue: Arc<Semaphore>,
    state: watch::Sender<State>,
    command: watch::Sender<Command>,
    /// Held by the one who changes what the container says until `meta` shows it.
    changing: tokio::sync::Mutex<()>,
    /// Held by the one who looks for the tail as a follower.
    locating: tokio::sync::Mutex<()>,
    /// Somebody wanted it deleted, whatever came of it.
    deletion_tried: AtomicBool,
    /// A listing under this reign did not show the container.
    container_gone: AtomicBool,
    /// Its owner wants it to go, and storage did not let it: it stays closed until it does, or another term begins.
    is_to_go: AtomicBool,
    /// Counted here, whether the stream is open or not.
    metrics: Arc<StreamMetrics>,
}

impl Stream {
    pub(crate) fn new(context: Arc<Context>, name: StreamName, meta: StreamMeta) -> Arc<Self> {
        let rate = Rate::new(meta.settings.append_bytes_per_second, context.env.clock.monotonic());
        Arc::new(Self {
            metrics: StreamMetrics::new(&context.metrics),
            container: context.prefix.container(&name),
            name,
            context,
            rate: Mutex::new(rate),
            segment_bytes: Arc::new(AtomicU64::new(meta.settings.segment_bytes)),
            codec: CodecInForce::new(meta.settings.codec),
            policy: watch::Sender::new(Policy::of(&meta.settings)),
            meta: RwLock::new(meta),
            meta_read: AtomicU64::new(0),
            queue: Arc::new(Semaphore::new(QUEUE_BYTES_PER_STREAM)),
            state: watch::Sender::new(State::Closed),
            command: watch::Sender::new(Command::Run),
            changing: tokio::sync::Mutex::default(),
            locating: tokio::sync::Mutex::default(),
            deletion_tried: AtomicBool::new(false),
            container_gone: AtomicBool::new(false),
            is_to_go: AtomicBool::new(false),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// Id, settings and age, as its container says.
    #[must_use]
    pub fn meta(&self) -> StreamMeta {
        self.meta.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_meta(&self, meta: StreamMeta) {
        let mut known = self.meta.write().unwrap_or_else(PoisonError::into_inner);
        self.meta_read.fetch_add(1, Ordering::Release);
        self.bring_into_force(&meta);
        *known = meta;
    }

    /// The same with what was read since that [`Stream::meta_read`]. `false`: somebody has read or written it meanwhile, so
    /// that it may be older than what is known.
    pub(crate) fn set_meta_unless_newer(&self, meta: StreamMeta, meta_read: u64) -> bool {
        let mut known = self.meta.write().unwrap_or_else(PoisonError::into_inner);
        if self.meta_read() != meta_read {
            return false;
        }
        self.meta_read.fetch_add(1, Ordering::Release);
        self.bring_into_force(&meta);
        *known = meta;
        true
    }

    fn bring_into_force(&self, meta: &StreamMeta) {
        self.segment_bytes.store(meta.settings.segment_bytes, Ordering::Relaxed);
        self.codec.set(meta.settings.codec);
        let policy = Policy::of(&meta.settings);
        self.policy.send_if_modified(|known| std::mem::replace(known, policy) != policy);
        self.rate().set(meta.settings.append_bytes_per_second, self.context.env.clock.monotonic());
    }

    /// How many times what the container says was read or written here.
    pub(crate) fn meta_read(&self) -> u64 {
        self.meta_read.load(Ordering::Acquire)
    }

    /// Takes over what an owner may change, as a listing shows it that began at that [`Stream::meta_read`]: whether
    /// anything is other than before. What a stream without owner is like this server knows better.
    pub(crate) fn take_from_owner(&self, listed: &StreamMeta, meta_read: u64) -> bool {
        let mut known = self.meta.write().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock: what was read or written since the listing began is newer.
        if self.meta_read() != meta_read {
            return false;
        }
        let mut meta = StreamMeta { owner: listed.owner.clone(), deleting: listed.deleting, ..known.clone() };
        // The last wishes of one who has let the stream go count as well.
        if known.owner.is_some() || listed.owner.is_some() {
            let account = known.settings.account.clone();
            meta.settings = Settings { account, ..listed.settings.clone() };
        }
        let changed = *known != meta;
        if changed {
            self.bring_into_force(&meta);
            *known = meta;
        }
        changed
    }

    /// Takes note of who owns the stream by now: whether that is somebody else than before.
    pub(crate) fn set_owner(&self, owner: Option<String>) -> bool {
        let mut meta = self.meta.write().unwrap_or_else(PoisonError::into_inner);
        self.meta_read.fetch_add(1, Ordering::Release);
        let changed = meta.owner != owner;
        meta.owner = owner;
        changed
    }

    /// Its condition, without waiting for anything.
    #[must_use]
    pub fn status(&self) -> StreamStatus {
        let queued_bytes = QUEUE_BYTES_PER_STREAM - self.queue.available_permits();
        let (condition, trouble) = match &*self.state.borrow() {
            State::Closed | State::Deleted => (Condition::Closed, None),
            State::Opening { trouble } => (Condition::Opening, trouble.as_ref().map(ToString::to_string)),
            State::Faulted(fault) => condition_of(fault),
            State::Open(open) => match (open.fault(), open.reader.shown.stalled()) {
                (Some(fault), _) => condition_of(&fault),
                (None, Some(stalled)) => (Condition::Stalled, Some(stalled.to_string())),
                (None, None) => (Condition::Open, None),
            },
            State::Following(open) => {
                open.fault().map_or((Condition::Open, None), |fault| condition_of(&fault))
            }
        };
        StreamStatus { condition, trouble, queued_bytes }
    }

    /// A handle to read with. It stays valid while this server leads, or goes on not to.
    pub async fn reader(self: &Arc<Self>, freshness: Freshness) -> Result<StreamReader, Unusable> {
        let patience = self.context.options.patience;
        let finding = async {
            let mut looked_anew = false;
            loop {
                let open = if self.context.reign.borrow().is_some() {
                    self.opened(patience).await?
                } else {
                    self.followed().await?
                };
                match self.freshen(&open, freshness).await {
                    // Deleted, and perhaps made anew: what stands there now tells.
                    Err(Unusable::NotFound) if open.is_followed() && !looked_anew => looked_anew = true,
                    freshened => return freshened.map(|()| StreamReader::new(Arc::clone(self), open)),
                }
            }
        };
        self.context.env.timeout(patience, finding).await.unwrap_or(Err(Unusable::TimedOut))
    }

    /// How to read the stream's container without this server, as far as storage allows it.
    pub async fn read_access(&self) -> Result<ReadAccess, Unusable> {
        let asking = until_definite(&self.context.env, || self.context.storage.grant_reads(&self.container));
        let granted = self.context.env.timeout(self.context.options.patience, asking).await;
        Ok(granted.map_err(|_| Unusable::TimedOut)??)
    }

    /// Makes sure that what is known of the tail is as new as it has to be.
    pub(crate) async fn freshen(&self, open: &OpenStream, freshness: Freshness) -> Result<(), Unusable> {
        let env = &self.context.env;
        if let Some(follower) = &open.follower {
            if let Some(fault) = open.fault() {
                // What comes before the damage is all that there is to read here. The leader may not have come upon it yet.
                return if freshness == Freshness::Strong { Err(fault.into()) } else { Ok(()) };
            }
            let may_be_old =
                if freshness == Freshness::Strong { Duration::ZERO } else { FOLLOWED_MAY_BE_OLD };
            return match follower.advance(&open.reader, may_be_old).await {
                Err(Unusable::Fault(fault)) => {
                    self.record_in(open, fault);
                    Ok(())
                }
                Err(Unusable::NotFound) => {
                    // Deleted, and perhaps made anew: the next one who reads finds out.
                    self.close_followed(open);
                    Err(Unusable::NotFound)
                }
                Ok(()) => {
                    if self.policy.borrow().retains() {
                        follower.notice_deletions(&open.reader).await;
                    }
                    Ok(())
                }
                advanced => advanced,
            };
        }
        let (Freshness::Strong, Some(reign)) = (freshness, &open.term) else { return Ok(()) };
        // Which segment is last is asked when the look begins, after all who share its outcome: a successor claims none that
        // is sealed.
        let look = async || {
            // Of a damaged stream the last one that is left may be one that recovery had no reason to claim: it shows the
            // term of whoever wrote it, which says nothing of ours.
            let last = open.reader.segments().last().copied().filter(|_| open.fault().is_none());
            let last = last.map(|segment| open.reader.store.blob(segment.base));
            reign.in_force(&self.context.storage, env, last.as_ref()).await
        };
        match open.confirmed.get(env, Duration::ZERO, look).await {
            Ok(false) => self.end_outrun(reign),
            Ok(true) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the term, of which storage shows that it is over.
    fn end_outrun(&self, reign: &Reign) -> Result<(), Unusable> {
        self.context.reign_is_over(reign.term, ReignEnd::Outrun(None));
        Err(Unusable::NoLeader)
    }

    /// The stream as a follower reads it.
    async fn followed(&self) -> Result<Arc<OpenStream>, Unusable> {
        let known = |state: &State| match state {
            State::Open(open) | State::Following(open) => Some(Ok(Arc::clone(open))),
            State::Deleted => Some(Err(Unusable::NotFound)),
            State::Faulted(fault) => Some(Err(fault.clone().into())),
            State::Closed | State::Opening { .. } => None,
        };
        if let Some(known) = known(&self.state.borrow()) {
            return known;
        }
        // One at a time looks for the tail; the others find it found.
        let _looking = self.locating.lock().await;
        if let Some(known) = known(&self.state.borrow()) {
            return known;
        }
        let open = Arc::new(self.follow().await?);
        self.state.send_if_modified(|state| {
            let closed = matches!(state, State::Closed);
            if closed {
                *state = State::Following(Arc::clone(&open));
            }
            closed
        });
        Ok(open)
    }

    pub(crate) fn why_not_leading(&self, open: &OpenStream) -> Unusable {
        match (&*self.state.borrow(), open.fault()) {
            (State::Deleted, _) => Unusable::NotFound,
            (_, Some(fault)) => Unusable::Fault(fault),
            _ => Unusable::NoLeader,
        }
    }

    /// Waits until the stream is open, and opens it if nobody has begun to.
    async fn opened(self: &Arc<Self>, patience: Duration) -> Result<Arc<OpenStream>, Unusable> {
        if let State::Open(open) = &*self.state.borrow() {
            return Ok(Arc::clone(open));
        }
        self.open();
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Opening { .. }));
        let timed_out = self.context.env.timeout(patience, settled).await.is_err();
        match &*self.state.borrow() {
            State::Open(open) => Ok(Arc::clone(open)),
            State::Faulted(fault) => Err(fault.clone().into()),
            State::Deleted => Err(Unusable::NotFound),
            State::Opening { trouble } if timed_out => Err(trouble.clone().unwrap_or(Unusable::TimedOut)),
            State::Opening { .. } | State::Following(_) | State::Closed => Err(Unusable::NoLeader),
        }
    }

    /// Begins to open the stream if it is closed and this server leads.
    pub(crate) fn open(self: &Arc<Self>) {
        // Whoever ends the term waits for this one too: begun late, it would meddle with the next term's.
        let _counted = self.context.tasks.token();
        let mut leading = None;
        self.state.send_if_modified(|state| {
            // Looked at under the state's lock: a stream is closed only after the term that is over was retired.
            if matches!(state, State::Closed | State::Following(_)) {
                leading.clone_from(&self.context.reign.borrow());
            }
            if leading.is_some() {
                *state = State::Opening { trouble: None };
            }
            leading.is_some()
        });
        let Some(reign) = leading else { return };
        let stream = Arc::clone(self);
        self.context.tasks.spawn(async move {
            if AssertUnwindSafe(stream.live(reign)).catch_unwind().await.is_err() {
                // A broken invariant must not leave a server behind that half works: another process starts from
                // what is stored, which is all that counts.
                tracing::error!("an invariant of the log is broken; the process ends");
                std::process::abort();
            }
        });
    }

    /// Opens the stream and waits until that has succeeded, failed or been given up.
    pub(crate) async fn until_opened(self: &Arc<Self>) {
        self.open();
        // The sender lives as long as the stream.
        let _ = self.state.subscribe().wait_for(|state| !matches!(state, State::Opening { .. })).await;
    }

    /// Stores what was accepted, or ends at once; the task ends soon after.
    pub(crate) fn end(&self, command: Command) {
        self.command.send_replace(command);
    }

    /// Allows the stream to be opened under a new reign.
    pub(crate) fn begin_reign(&self) {
        self.command.send_replace(Command::Run);
        // Seen in a term that is over: one that is there again needs no other term than this.
        self.container_gone.store(false, Ordering::Release);
        self.end_reign();
    }

    /// Forgets the reign that is over. What its halted writer had sent no longer matters: whoever leads next claims the
    /// stream, or deletes it.
    pub(crate) fn end_reign(&self) {
        if self.is_to_go.swap(false, Ordering::AcqRel) {
            self.state.send_replace(State::Closed);
        }
        self.close();
    }

    /// Forgets what was known of the stream under a reign that is over, so that the next one opens it anew.
    pub(crate) fn close(&self) {
        self.state.send_if_modified(|state| {
            let forget = !matches!(state, State::Deleted | State::Closed);
            if forget {
                *state = State::Closed;
            }
            forget
        });
    }

    /// Forgets what was known of the stream as a follower, unless it has been opened anew since: by then it may be led.
    pub(crate) fn close_followed(&self, open: &OpenStream) {
        self.state.send_if_modified(|state| {
            let followed = matches!(state, State::Following(now) if std::ptr::eq(&**now, open));
            if followed {
                *state = State::Closed;
            }
            followed
        });
    }

    /// Fails where the term under which the stream was opened is over, whether this server has heard of that or not.
    pub(crate) async fn check_reign(&self, open: &OpenStream) -> Result<(), Unusable> {
        let Some(reign) = &open.term else { return Ok(()) };
        match reign.in_force(&self.context.storage, self.env(), None).await {
            Ok(true) => Ok(()),
            Ok(false) => self.end_outrun(reign),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends everything that goes on in a stream that is being deleted.
    pub(crate) fn set_deleted(&self) {
        self.deletion_tried.store(true, Ordering::Release);
        self.state.send_replace(State::Deleted);
        self.end(Command::Halt);
        self.context.blocks.forget(self.meta().id);
    }

    /// The deletion has failed, or its outcome is unknown. What the halted writer had sent may still arrive, so that the
    /// stream is opened again only under the next term.
    pub(crate) fn set_not_deleted(&self, term: Term) {
        self.is_to_go.store(false, Ordering::Release);
        self.context.reign_is_over(term, ReignEnd::Unsure);
        self.state.send_replace(State::Closed);
    }

    /// The deletion that the owner wants has failed, or its outcome is unknown. The stream stays closed: it is deleted later
    /// under this term, so that the other streams need no new one.
    pub(crate) fn set_to_go(&self) {
        self.is_to_go.store(true, Ordering::Release);
    }

    /// Whether the owner's deletion has begun and failed so far.
    pub(crate) fn is_to_go(&self) -> bool {
        self.is_to_go.load(Ordering::Acquire)
    }

    /// Whether the stream's owner wants it to go, as far as is known here.
    pub(crate) fn is_unwanted(&self) -> bool {
        let meta = self.meta.read().unwrap_or_else(PoisonError::into_inner);
        meta.deleting && meta.owner.is_some()
    }

    /// The container is gone although nobody deleted the stream through us.
    pub(crate) fn set_missing(&self) {
        self.container_gone.store(true, Ordering::Release);
        let missing = format!("the container {} is gone", self.container);
        self.record(StreamFault::DataMissing(missing));
    }

    /// The container that was gone is there again, with this stream in it: somebody has restored it. Whether it was gone.
    /// What the halted writer had sent may still arrive, so that the stream is opened again only under the next term.
    pub(crate) fn take_back(&self, term: Term) -> bool {
        let was_gone = self.container_gone.swap(false, Ordering::AcqRel);
        if was_gone {
            self.context.reign_is_over(term, ReignEnd::Unsure);
            self.state.send_replace(State::Closed);
        }
        was_gone
    }

    /// Holds the stream back while containers in two accounts have its name, and not any longer. What the halted writer
    /// had sent may still arrive, so that the stream is opened again only under the next term.
    pub(crate) fn set_twice(&self, accounts: Option<String>) {
        let held_back = matches!(self.fault(), Some(StreamFault::TwoAccounts(_)));
        match accounts {
            Some(accounts) if !held_back => self.record(StreamFault::TwoAccounts(accounts)),
            None if held_back => {
                let reign = self.context.reign.borrow().clone();
                if let Some(reign) = reign {
                    self.context.reign_is_over(reign.term, ReignEnd::Unsure);
                }
                self.close();
                self.command.send_replace(Command::Run);
            }
            _ => {}
        }
    }

    fn fault(&self) -> Option<StreamFault> {
        match &*self.state.borrow() {
            State::Faulted(fault) => Some(fault.clone()),
            State::Open(open) | State::Following(open) => open.fault(),
            State::Closed | State::Opening { .. } | State::Deleted => None,
        }
    }

    /// Ends when the stream is no longer open like this, or its tail does not move any more.
    pub(crate) async fn until_closed(&self, open: &OpenStream) {
        // It may have been opened anew before anybody looked.
        let is_over = |state: &State| match state {
            State::Open(now) | State::Following(now) => !std::ptr::eq(&**now, open) || open.fault().is_some(),
            State::Closed | State::Opening { .. } | State::Faulted(_) | State::Deleted => true,
        };
        // The sender lives as long as the stream.
        let _ = self.state.subscribe().wait_for(is_over).await;
    }

    /// How long a request waits for storage.
    pub(crate) fn patience(&self) -> Duration {
        self.context.options.patience
    }

    pub(crate) fn env(&self) -> &Env {
        &self.context.env
    }

    pub(crate) fn is_deleted(&self) -> bool {
        matches!(&*self.state.borrow(), State::Deleted)
    }

    /// Whether it would be no wonder if the container were gone.
    pub(crate) fn may_be_deleted(&self) -> bool {
        self.deletion_tried.load(Ordering::Acquire) || self.is_unwanted()
    }

    /// Whether the stream is known to be without its data.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.fault(), Some(StreamFault::DataMissing(_)))
    }

    /// Holds back what was opened like this. It says nothing of what has been opened anew since.
    pub(crate) fn record_in(&self, open: &OpenStream, fault: StreamFault) {
        tracing::error!(stream = %self.name, code = fault.code(), %fault, "the stream is held back");
        let mut is_led = false;
        self.state.send_if_modified(|state| {
            *open.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
            is_led = matches!(state, State::Open(now) if std::ptr::eq(&**now, open));
            is_led || matches!(state, State::Following(now) if std::ptr::eq(&**now, open))
        });
        // Who follows has no writer. A command to halt would keep the stream from being opened in the term that begins.
        if is_led {
            self.end(Command::Halt);
        }
    }

    /// Holds the stream back from now on.
    pub(crate) fn record(&self, fault: StreamFault) {
        tracing::error!(stream = %self.name, code = fault.code(), %fault, "the stream is held back");
        self.state.send_modify(|state| match state {
            State::Open(open) | State::Following(open) => {
                *open.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
            }
            State::Deleted => {}
            State::Closed | State::Opening { .. } | State::Faulted(_) => *state = State::Faulted(fault),
        });
        self.end(Command::Halt);
    }
}

fn condition_of(fault: &StreamFault) -> (Condition, Option<String>) {
    let condition = match fault {
        StreamFault::Corrupt { .. } => Condition::Corrupt,
        StreamFault::DataMissing(_) => Condition::DataMissing,
        StreamFault::TwoAccounts(_) => Condition::TwoAccounts,
        StreamFault::FormatTooNew { .. } => Condition::FormatTooNew,
    };
    (condition, Some(fault.to_string()))
}
