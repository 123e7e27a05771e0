//! Fails, delays, holds and tears the requests to another backend, for tests.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use vault_server::env::Env;
//! # use vault_server::storage::faulty::{Fault, Faulty, Hold};
//! # use vault_server::storage::memory::MemoryStorage;
//! # use vault_server::storage::operation::Operation;
//! # async fn example(memory: Arc<MemoryStorage>) {
//! let faulty = Faulty::new(memory, Env::real(), 7);
//! // The second write from now on is stored, but nobody hears of it.
//! faulty.on(Operation::PutPages).nth(2).then(Fault::AppliedButLost);
//! // The next write to the leader blob is stuck in the network until it is let go.
//! let hold = Hold::new();
//! faulty.on(Operation::PutPages).blob("leader").then(Fault::Hold(hold.clone()));
//! hold.arrived(1).await;
//! hold.release().await;
//! # }
//! ```
//!
//! What happens is determined by the rules, the seed and the order of the requests. To go on after a crash, wrap the
//! same backend anew.

mod plan;
mod requests;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::oneshot;

pub use self::plan::{Chances, Fault, Hold, Pages};
use self::plan::{Dice, Plan, Rule};
use super::operation::Operation;
use super::{Storage, StorageError};
use crate::env::Env;

/// Another backend whose requests go wrong as planned.
#[derive(Debug)]
pub struct Faulty<S: ?Sized> {
    inner: Arc<S>,
    env: Env,
    plan: Mutex<Plan>,
}

/// A rule in the making; nothing happens before [`RuleBuilder::then`].
#[derive(Debug)]
#[must_use = "a rule without `then` does nothing"]
pub struct RuleBuilder<'a> {
    plan: &'a Mutex<Plan>,
    operation: Option<Operation>,
    blob: Option<String>,
    skip: u64,
    times: u64,
}

impl RuleBuilder<'_> {
    /// Only requests whose `container/blob`, or container, or listed prefix, holds this text.
    pub fn blob(mut self, part: &str) -> Self {
        self.blob = Some(part.to_owned());
        self
    }

    /// The `n`th matching request from now on, counted from 1; without it, the next.
    pub fn nth(mut self, n: u64) -> Self {
        assert!(n > 0, "the first request is number 1");
        self.skip = n - 1;
        self
    }

    /// So many requests one after another; without it, one.
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// That one and all after it.
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// What happens to them. Of several rules that apply to a request the oldest decides.
    pub fn then(self, fault: Fault) {
        let Self { plan, operation, blob, skip, times } = self;
        lock(plan).rules.push(Rule { operation, blob, skip, times, fault });
    }
}

fn lock(plan: &Mutex<Plan>) -> MutexGuard<'_, Plan> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lost() -> StorageError {
    StorageError::Unavailable("the answer was lost".to_owned())
}

fn crashed() -> StorageError {
    StorageError::Unavailable("the connection is gone".to_owned())
}

impl<S: ?Sized> Faulty<S> {
    /// Nothing goes wrong before a rule or chances say so. `seed` determines everything that is left to chance.
    #[must_use]
    pub fn new(inner: Arc<S>, env: Env, seed: u64) -> Self {
        let plan =
            Plan { rules: Vec::new(), chances: Chances::default(), dice: Dice::new(seed), crashed: false };
        Self { inner, env, plan: Mutex::new(plan) }
    }

    /// Begins a rule about one kind of request.
    pub fn on(&self, operation: Operation) -> RuleBuilder<'_> {
        RuleBuilder { operation: Some(operation), ..self.on_any() }
    }

    /// Begins a rule about all requests.
    pub fn on_any(&self) -> RuleBuilder<'_> {
        RuleBuilder { plan: &self.plan, operation: None, blob: None, skip: 0, times: 1 }
    }

    /// Lets requests go wrong by chance where no rule decides.
    pub fn by_chance(&self, chances: Chances) {
        lock(&self.plan).chances = chances;
    }

    /// Drops all rules and chances. Holds keep what is stuck in them; a crash stays.
    pub fn heal(&self) {
        let mut plan = lock(&self.plan);
        plan.rules.clear();
        plan.chances = Chances::default();
    }

    /// All requests from now on fail.
    pub fn crash(&self) {
        lock(&self.plan).crashed = true;
    }

    /// Whether it has crashed.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        lock(&self.plan).crashed
    }

    /// Draws which of `count` pages are stored.
    fn draw(&self, pages: &Pages, count: usize) -> Vec<usize> {
        match pages {
            Pages::None => Vec::new(),
            Pages::First(first) => (0..count.min(*first)).collect(),
            Pages::These(these) => these.iter().copied().filter(|page| *page < count).collect(),
            Pages::Random => {
                let mut plan = lock(&self.plan);
                (0..count).filter(|_| plan.dice.roll() & 1 == 1).collect()
            }
        }
    }
}

impl<S: Storage + ?Sized + 'static> Faulty<S> {
    /// Carries a request out as planned. `torn` carries it out in part, where that means something.
    async fn carry_out<T: Send + 'static>(
        &self,
        operation: Operation,
        target: String,
        request: BoxFuture<'static, Result<T, StorageError>>,
        torn: impl FnOnce(&Pages) -> BoxFuture<'static, ()> + Send,
    ) -> Result<T, StorageError> {
        let fault = lock(&self.plan).next(operation, &target);
        match fault {
            None => request.await,
            Some(Fault::Fail(error)) => Err(error),
            Some(Fault::AppliedButLost) => {
                let _unheard = request.await;
                Err(lost())
            }
            Some(Fault::Delay(duration)) => {
                self.env.clock.sleep(duration).await;
                request.await
            }
            Some(Fault::LateAnswer(duration)) => {
                let answer = request.await;
                self.env.clock.sleep(duration).await;
                answer
            }
            Some(Fault::Hold(hold)) => {
                let (answer, answered) = oneshot::channel();
                let stuck = Box::pin(async move {
                    // The sender may have stopped waiting; the request goes on all the same.
                    let _ = answer.send(request.await);
                });
                if let Some(passed) = hold.take(stuck) {
                    passed.await;
                }
                answered.await.unwrap_or_else(|_| Err(lost()))
            }
            Some(Fault::LostAndHeld(hold)) => {
                let stuck = Box::pin(async move {
                    let _unheard = request.await;
                });
                if let Some(passed) = hold.take(stuck) {
                    passed.await;
                }
                Err(lost())
            }
            Some(Fault::HoldTorn(hold, pages)) => {
                let (answer, answered) = oneshot::channel();
                let part = torn(&pages);
                let stuck = Box::pin(async move {
                    part.await;
                    let _ = answer.send(());
                });
                if let Some(passed) = hold.take(stuck) {
                    passed.await;
                }
                let _ = answered.await;
                Err(crashed())
            }
            Some(Fault::TearAndCrash(pages)) => {
                // Crashed first, so that no request sent while the pages are stored gets through.
                self.crash();
                torn(&pages).await;
                Err(crashed())
            }
            Some(Fault::Full(pages)) => {
                torn(&pages).await;
                Err(StorageError::Full("as planned".to_owned()))
            }
            Some(Fault::Crash) => {
                self.crash();
                Err(crashed())
            }
            Some(Fault::AppliedAndCrash) => {
                // Crashed first here too: nothing that is sent meanwhile gets through.
                self.crash();
                let _unheard = request.await;
                Err(crashed())
            }
        }
    }
}
