//! What all streams of a vault share.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::task::TaskTracker;
use vault_format::ids::{StreamId, Term};
use vault_format::names::Prefix;

use crate::env::Env;
use crate::limits::{
    BLOCK_CACHE_BYTES, CLOCK_JUMP, HEADS_CACHED, QUEUE_BYTES, READ_MEMORY_BYTES, RECENT_BYTES,
    STAMPING_CLOCK_JUMP,
};
use crate::log::asked::AskedListings;
use crate::log::blocks::Blocks;
use crate::log::let_go::{Arrival, LetGo, Mark};
use crate::log::pacing::Pacing;
use crate::log::recent::RecentBudget;
use crate::log::reign::{Reign, ReignEnd};
use crate::log::steady::SteadyClock;
use crate::log::store::HeadCache;
use crate::metrics::Metrics;
use crate::storage::Storage;

/// What the one who starts a vault may choose.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a request waits for storage before it is told that it did.
    pub patience: Duration,
    /// How the puts of a stream follow each other.
    pub pacing: Pacing,
    /// The storage accounts in which streams may live, the one for streams that name none first; empty where the storage
    /// has no accounts.
    pub accounts: Vec<String>,
}

impl Options {
    /// What fits a storage that takes whatever it is sent, without accounts.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { patience, pacing: Pacing::UNBOUNDED, accounts: Vec::new() }
    }
}

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) env: Env,
    pub(crate) prefix: Prefix,
    pub(crate) options: Options,
    /// Bytes that wait to be stored, of all streams.
    pub(crate) queue: Arc<Semaphore>,
    pub(crate) recent: Arc<RecentBudget>,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) heads: Arc<HeadCache>,
    /// The time that retention goes by.
    pub(crate) steady: Arc<Mutex<SteadyClock>>,
    /// The time that messages are stamped with.
    pub(crate) stamping: Arc<Mutex<SteadyClock>>,
    /// The term under which this server leads, while it does.
    pub(crate) reign: watch::Sender<Option<Reign>>,
    /// Tells the election that a reign is over; more than one notice is as good as one.
    pub(crate) reign_ends: mpsc::Sender<ReignEnd>,
    /// Counts the changes of the set of streams that this vault has seen, in all terms together.
    pub(crate) changes: watch::Sender<u64>,
    /// How many deletions are under way.
    pub(crate) deletions: AtomicUsize,
    /// The streams that were let go of under this term.
    let_go: Mutex<LetGo>,
    /// How many of the changes the leader's page shows; `None` where nobody keeps that page.
    pub(crate) announced: watch::Sender<Option<u64>>,
    /// Wakes the one who looks for the leader: a request was handed on to it in vain.
    pub(crate) doubts: Notify,
    /// Who wants the containers to be listed now.
    pub(crate) listings: AskedListings,
    /// Every stream's task, awaited at the end.
    pub(crate) tasks: TaskTracker,
    pub(crate) metrics: Arc<Metrics>,
}

impl Context {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        env: Env,
        prefix: Prefix,
        options: Options,
    ) -> (Arc<Self>, mpsc::Receiver<ReignEnd>) {
        let (reign_ends, reign_over) = mpsc::channel(1);
        let steady = |tolerance| {
            Arc::new(Mutex::new(SteadyClock::new(tolerance, env.clock.now(), env.clock.monotonic())))
        };
        let (steady, stamping) = (steady(CLOCK_JUMP), steady(STAMPING_CLOCK_JUMP));
        let context = Self {
            storage,
            env,
            prefix,
            options,
            queue: Arc::new(Semaphore::new(QUEUE_BYTES)),
            recent: RecentBudget::new(RECENT_BYTES),
            blocks: Arc::new(Blocks::new(BLOCK_CACHE_BYTES, READ_MEMORY_BYTES)),
            heads: Arc::new(HeadCache::new(HEADS_CACHED)),
            steady,
            stamping,
            reign: watch::Sender::new(None),
            reign_ends,
            changes: watch::Sender::new(0),
            deletions: AtomicUsize::new(0),
            let_go: Mutex::default(),
            announced: watch::Sender::new(None),
            doubts: Notify::new(),
            listings: AskedListings::default(),
            tasks: TaskTracker::new(),
            metrics: Arc::default(),
        };
        (Arc::new(context), reign_over)
    }

    /// Counts a change of the set of streams, so that followers list it anew; answers the count.
    pub(crate) fn count_change(&self) -> u64 {
        let mut counted = 0;
        self.changes.send_modify(|changes| {
            *changes += 1;
            counted = *changes;
        });
        counted
    }

    /// For a look at storage that begins now.
    pub(crate) fn mark(&self) -> Mark {
        self.lock_let_go().mark()
    }

    /// Keeps in mind that a stream was let go of, where this server leads.
    pub(crate) fn let_go(&self, stream: StreamId) {
        let Some(term) = self.term() else { return };
        if self.lock_let_go().note(term, stream) {
            self.reign_is_over(term, ReignEnd::Unsure);
        }
    }

    /// Whether a stream that a look has found is there. Where it is one that was let go of and is back, it is opened under
    /// the next term only: what its halted writer had sent may still arrive.
    pub(crate) fn take_in(&self, stream: StreamId, mark: Mark) -> bool {
        let Some(term) = self.term() else { return true };
        let arrival = self.lock_let_go().arrival(term, stream, mark);
        if arrival == Arrival::Back {
            self.reign_is_over(term, ReignEnd::Unsure);
        }
        arrival != Arrival::Gone
    }

    /// The term under which this server leads.
    pub(crate) fn term(&self) -> Option<Term> {
        self.reign.borrow().as_ref().map(|reign| reign.term)
    }

    fn lock_let_go(&self) -> MutexGuard<'_, LetGo> {
        self.let_go.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is opened under this term any more from now on; the election finds the next one.
    pub(crate) fn reign_is_over(&self, term: Term, end: ReignEnd) {
        let retired = self.reign.send_if_modified(|reign| {
            let ours = reign.as_ref().is_some_and(|reign| reign.term == term);
            if ours {
                *reign = None;
            }
            ours
        });
        // Who finds out late that an earlier term is over says nothing about the one that is in force by now. And a full
        // channel holds a notice already.
        if retired {
            let _ = self.reign_ends.try_send(end);
        }
    }
}
