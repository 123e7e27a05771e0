//! What is to go wrong, and when: rules that tests write, or chances drawn from a seed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;

use super::super::StorageError;
use super::super::operation::Operation;

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It fails like this and is not carried out.
    Fail(StorageError),
    /// It is carried out, but its answer is lost: `Unavailable`.
    AppliedButLost,
    /// It is carried out this much later.
    Delay(Duration),
    /// It is carried out at once, and answered this much later.
    LateAnswer(Duration),
    /// It is stuck until the hold is released, and then carried out, whether or not its sender still waits.
    Hold(Hold),
    /// As [`Fault::Hold`], but its sender is answered `Unavailable` at once.
    LostAndHeld(Hold),
    /// It is stuck until the hold is released, and is then carried out in part, as [`Fault::TearAndCrash`] says. So
    /// several can be torn by one crash.
    HoldTorn(Hold, Pages),
    /// Of a write of pages only these are stored, then the wrapper crashes. Another request is not carried out.
    TearAndCrash(Pages),
    /// Of a write of pages only these are stored, and the answer is `Full`. Another request is not carried out.
    Full(Pages),
    /// It is not carried out, and the wrapper crashes: this request and all later ones fail.
    Crash,
    /// It is carried out, and the wrapper crashes: its sender hears nothing of it, and all later requests fail.
    AppliedAndCrash,
}

/// Which pages of a write are stored.
#[derive(Clone, Debug)]
pub enum Pages {
    /// None.
    None,
    /// The first so many.
    First(usize),
    /// Those with these numbers, counted from 0 within the write.
    These(Vec<usize>),
    /// Each with an even chance, drawn from the seed.
    Random,
}

/// Keeps requests stuck until it is released. Clones are the same hold.
#[derive(Clone)]
pub struct Hold(Arc<HoldInner>);

struct HoldInner {
    stuck: Mutex<Stuck>,
    arrived: watch::Sender<usize>,
}

#[derive(Default)]
struct Stuck {
    requests: Vec<BoxFuture<'static, ()>>,
    released: bool,
}

impl Default for Hold {
    fn default() -> Self {
        Self(Arc::new(HoldInner { stuck: Mutex::default(), arrived: watch::channel(0).0 }))
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hold({} stuck)", self.stuck())
    }
}

impl Hold {
    /// A hold with nothing stuck in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many requests are stuck now.
    #[must_use]
    pub fn stuck(&self) -> usize {
        self.lock().requests.len()
    }

    /// Waits until `count` requests have got stuck since the hold was made.
    pub async fn arrived(&self, count: usize) {
        let mut arrived = self.0.arrived.subscribe();
        // The sender lives as long as this hold.
        let _ = arrived.wait_for(|so_far| *so_far >= count).await;
    }

    /// Carries out what is stuck, in the order of arrival, and lets everything pass from now on.
    pub async fn release(&self) {
        let requests = {
            let mut stuck = self.lock();
            stuck.released = true;
            std::mem::take(&mut stuck.requests)
        };
        for request in requests {
            request.await;
        }
    }

    /// Loses what is stuck: it is never carried out.
    pub fn discard(&self) {
        let lost = std::mem::take(&mut self.lock().requests);
        drop(lost);
    }

    /// Takes a request in, or gives it back where the hold was released.
    pub(super) fn take(&self, request: BoxFuture<'static, ()>) -> Option<BoxFuture<'static, ()>> {
        {
            let mut stuck = self.lock();
            if stuck.released {
                return Some(request);
            }
            stuck.requests.push(request);
        }
        self.0.arrived.send_modify(|so_far| *so_far += 1);
        None
    }

    fn lock(&self) -> MutexGuard<'_, Stuck> {
        self.0.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often, in a thousand requests, something goes wrong by chance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chances {
    /// Not carried out, `Unavailable`.
    pub fail: u64,
    /// Carried out, `Unavailable`.
    pub applied_but_lost: u64,
    /// Carried out later.
    pub delay: u64,
    /// The longest delay.
    pub longest_delay: Duration,
}

/// A sequence of numbers that its seed determines: splitmix64, which needs no more state than one number.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A rule: from the `skip`th matching request on, the next `times` ones meet the fault.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) operation: Option<Operation>,
    pub(super) blob: Option<String>,
    pub(super) skip: u64,
    pub(super) times: u64,
    pub(super) fault: Fault,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rules: Vec<Rule>,
    pub(super) chances: Chances,
    pub(super) dice: Dice,
    pub(super) crashed: bool,
}

impl Plan {
    /// What happens to the next request. The first rule that applies decides; rules come before chances.
    pub(super) fn next(&mut self, operation: Operation, target: &str) -> Option<Fault> {
        if self.crashed {
            return Some(Fault::Crash);
        }
        let mut decided = None;
        for rule in &mut self.rules {
            let matches = rule.operation.is_none_or(|named| named == operation)
                && rule.blob.as_ref().is_none_or(|part| target.contains(part));
            // A rule counts the requests that it matches even where another one decides.
            if !matches {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 && decided.is_none() {
                rule.times -= 1;
                decided = Some(rule.fault.clone());
            }
        }
        self.rules.retain(|rule| rule.times > 0);
        decided.or_else(|| self.by_chance())
    }

    fn by_chance(&mut self) -> Option<Fault> {
        let Chances { fail, applied_but_lost, delay, longest_delay } = self.chances;
        if fail + applied_but_lost + delay == 0 {
            return None;
        }
        // Always two rolls a request, so that one more fault does not shift what happens to the requests after it.
        let (drawn, longest) = (self.dice.roll() % 1000, longest_delay.as_millis().max(1));
        let waited = u128::from(self.dice.roll()) % longest;
        if drawn < fail {
            Some(Fault::Fail(StorageError::Unavailable("failed by chance".to_owned())))
        } else if drawn < fail + applied_but_lost {
            Some(Fault::AppliedButLost)
        } else if drawn < fail + applied_but_lost + delay {
            Some(Fault::Delay(Duration::from_millis(u64::try_from(waited).unwrap_or(u64::MAX))))
        } else {
            None
        }
    }
}
