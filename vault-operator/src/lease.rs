//! The Lease: of all operators of an installation one works, also where there should be but one.
//!
//! ```text
//!  holder       renewal sent |----------- works, 10 s at most -----------|... grace ...|
//!  API server          written
//!  standby                  seen |------------ no change for 15 s ---------------------| takes it
//! ```
//!
//! Nothing that operators change outside of Kubernetes asks who holds the Lease. So the holder must have stopped by
//! itself before another one can begin, also where it hears nothing any more. It counts from the *sending* of its last
//! renewal that came through, on its own monotonic clock. A standby counts from the time at which it first *saw* what
//! stands in the Lease, on its own clock too: the times that are written there are for people, and wall clocks are never
//! compared. Whatever is written names the version that was read, and of several contenders one gets through.
//!
//! Where there is no Lease, it may have been deleted while it was held. So it is made as one that somebody unknown holds
//! for [`LEASE_ANEW`], and then taken as one that fell silent. Who finds that it holds the Lease no more ends, whatever the
//! reason; there is no way back into work but from the start.
//!
//! An operator's identity is its pod's name and something random. A container that is restarted has the name of before: by
//! that alone it would take the Lease for its own while what its predecessor sent may still be on the way, and so would
//! two processes to whom somebody gave the same name.

#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vault_server::env::Env;

use crate::connection::explained;
use crate::limits::{
    LEASE, LEASE_ANEW, LEASE_ANSWER, LEASE_GRACE, LEASE_LOOK_EVERY, LEASE_RENEW_EVERY, LEASE_RETRY,
};

/// The holder of a Lease that was made where there was none.
const SOMEBODY: &str = "somebody-before-it-was-made";

/// Why a request about the Lease was of no use.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Failure {
    /// Somebody else was faster.
    #[error("somebody else has changed it")]
    Conflict,
    /// There is no such Lease.
    #[error("it was deleted")]
    Missing,
    /// The operator's rights do not reach.
    #[error(
        "the API server forbids it: the operator needs the Role that lets it get, create and update its Lease, see \
         docs/operator.md: {0}"
    )]
    Forbidden(String),
    /// It may have been carried out or not.
    #[error("{0}")]
    NoAnswer(String),
}

/// Where the Lease is.
#[async_trait]
pub trait Leases: Send + Sync {
    /// What stands in it; `None` where there is none.
    async fn read(&self) -> Result<Option<Lease>, Failure>;
    /// Makes it, where there is none.
    async fn make(&self, lease: &Lease) -> Result<Lease, Failure>;
    /// Replaces it, where it still has the version that is named in `lease`.
    async fn replace(&self, lease: &Lease) -> Result<Lease, Failure>;
}

/// The Lease at the API server.
pub struct ApiLease {
    api: Api<Lease>,
    name: String,
}

impl ApiLease {
    /// A Lease of a namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned() }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 409 => Self::Conflict,
            kube::Error::Api(status) if status.code == 404 => Self::Missing,
            kube::Error::Api(status) if status.code == 403 => Self::Forbidden(status.message),
            error => Self::NoAnswer(explained(&error)),
        }
    }
}

#[async_trait]
impl Leases for ApiLease {
    async fn read(&self) -> Result<Option<Lease>, Failure> {
        Ok(self.api.get_opt(&self.name).await?)
    }

    async fn make(&self, lease: &Lease) -> Result<Lease, Failure> {
        let mut lease = lease.clone();
        lease.metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        Ok(self.api.create(&PostParams::default(), &lease).await?)
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, Failure> {
        Ok(self.api.replace(&self.name, &PostParams::default(), lease).await?)
    }
}

/// What a contender does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// There is none: makes one.
    Make,
    /// It is free, fell silent, or is this contender's own by an answer that it never got.
    Take,
    /// Looks again after this long.
    Wait(Duration),
}

/// What a contender has seen of the Lease.
#[derive(Default)]
struct Watch {
    /// The uid and what was said, and since when on this contender's clock.
    seen: Option<(Option<String>, LeaseSpec, Duration)>,
}

impl Watch {
    /// Takes in what was read, with the time at which the answer was there.
    fn saw(&mut self, lease: Option<&Lease>, identity: &str, now: Duration) -> Next {
        let Some(lease) = lease else {
            self.seen = None;
            return Next::Make;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let uid = lease.metadata.uid.clone();
        let holder = holder(&spec);
        if holder.is_none_or(|holder| holder == identity) {
            return Next::Take;
        }
        let lasts = lasts(&spec);
        let since = match &self.seen {
            Some((known, said, since)) if *known == uid && *said == spec => *since,
            _ => now,
        };
        self.seen = Some((uid, spec, since));
        match lasts.checked_sub(now.saturating_sub(since)).filter(|left| !left.is_zero()) {
            Some(left) => Next::Wait(left.min(LEASE_LOOK_EVERY)),
            None => Next::Take,
        }
    }
}

/// Who holds a Lease; `None` where it is free.
fn holder(spec: &LeaseSpec) -> Option<&str> {
    spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// How long a Lease lasts after what stands in it was written. Its holder counts on that, of whatever version it is.
fn lasts(spec: &LeaseSpec) -> Duration {
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.filter(|seconds| *seconds > 0).map_or(LEASE, Duration::from_secs)
}

/// What stands in a Lease after `identity` has taken or renewed it, or with `None` has let it go.
fn written(before: &Lease, identity: Option<&str>, lasts: Duration, now: Timestamp) -> Lease {
    let mut lease = before.clone();
    let spec = lease.spec.get_or_insert_default();
    if identity.is_none() || holder(spec) != identity {
        spec.acquire_time = Some(MicroTime(now));
        let transitions = spec.lease_transitions.unwrap_or(0);
        spec.lease_transitions = Some(transitions.saturating_add(i32::from(identity.is_some())));
    }
    spec.holder_identity = identity.map(str::to_owned);
    spec.lease_duration_seconds = Some(i32::try_from(lasts.as_secs()).unwrap_or(i32::MAX));
    spec.renew_time = Some(MicroTime(now));
    lease
}

/// An operator that wants to work.
#[derive(Clone)]
pub struct Contender {
    leases: Arc<dyn Leases>,
    env: Env,
    identity: Arc<str>,
}

impl Contender {
    /// One with a name, a pod's mostly, which need not be the only one of that name.
    #[must_use]
    pub fn new(leases: Arc<dyn Leases>, env: Env, name: &str) -> Self {
        let mut dice = [0; 8];
        env.entropy.fill(&mut dice);
        let identity = format!("{name}_{:016x}", u64::from_be_bytes(dice)).into();
        Self { leases, env, identity }
    }

    /// How it is called in the Lease.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Waits until it may work; `None` where `stop` comes before. Tells what keeps it from being a good standby, `None`
    /// where nothing does.
    pub async fn take(&self, stop: &CancellationToken, mut tell: impl FnMut(Option<String>)) -> Option<Held> {
        let mut watch = Watch::default();
        while !stop.is_cancelled() {
            let wait = match self.step(&mut watch, &mut tell).await {
                Ok(Ok((lease, sent))) => return Some(self.keep_up(lease, sent)),
                Ok(Err(wait)) => wait,
                Err(failure) => {
                    tell(Some(format!("the Lease cannot be used: {failure}")));
                    LEASE_LOOK_EVERY
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.env.clock.sleep(wait) => {}
            }
        }
        None
    }

    /// Looks at the Lease and does what is to be done: answers it once it is held, with the time of the request that took
    /// it, or how long to wait.
    async fn step(
        &self,
        watch: &mut Watch,
        tell: &mut impl FnMut(Option<String>),
    ) -> Result<Result<(Lease, Duration), Duration>, Failure> {
        let found = self.asking(LEASE_ANSWER, self.leases.read()).await?;
        let next = watch.saw(found.as_ref(), &self.identity, self.env.clock.monotonic());
        match (next, found) {
            (Next::Take, Some(found)) => {
                let sent = self.env.clock.monotonic();
                let wanted = written(&found, Some(&self.identity), LEASE, self.now());
                match self.asking(LEASE_ANSWER, self.leases.replace(&wanted)).await {
                    Ok(lease) => Ok(Ok((lease, sent))),
                    Err(Failure::Conflict | Failure::Missing) => Ok(Err(Duration::ZERO)),
                    Err(failure) => Err(failure),
                }
            }
            (Next::Wait(wait), Some(found)) => {
                let spec = found.spec.unwrap_or_default();
                let unknown = holder(&spec) == Some(SOMEBODY);
                tell(unknown.then(|| {
                    format!(
                        "the Lease is new; it is waited for {} s whether somebody still works",
                        LEASE_ANEW.as_secs()
                    )
                }));
                Ok(Err(wait))
            }
            _ => {
                let wanted = written(&Lease::default(), Some(SOMEBODY), LEASE_ANEW, self.now());
                match self.asking(LEASE_ANSWER, self.leases.make(&wanted)).await {
                    Ok(_) | Err(Failure::Conflict) => Ok(Err(Duration::ZERO)),
                    // It is the namespace that is missing.
                    Err(Failure::Missing) => Err(Failure::NoAnswer("there is no such namespace".to_owned())),
                    Err(failure) => Err(failure),
                }
            }
        }
    }

    /// A request that may take so long.
    async fn asking<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let late = |_| {
            Err(Failure::NoAnswer(format!("the API server does not answer within {} ms", limit.as_millis())))
        };
        self.env.timeout(limit, request).await.unwrap_or_else(late)
    }

    /// The wall clock, for people.
    fn now(&self) -> Timestamp {
        let ms = i64::try_from(self.env.clock.now().0).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
    }

    fn keep_up(&self, lease: Lease, sent: Duration) -> Held {
        let tenure = Tenure {
            env: self.env.clone(),
            until: Arc::new(AtomicU64::new(nanoseconds(until(sent)))),
            over: CancellationToken::new(),
            work: TaskTracker::new(),
        };
        let (keeper, told, let_go) = (self.clone(), tenure.clone(), CancellationToken::new());
        let end = let_go.clone();
        let keeping = tokio::spawn(async move {
            // Also where this breaks down.
            let _over = told.over.clone().drop_guard();
            keeper.keep(lease, sent, &told, &end).await
        });
        Held { tenure, let_go, keeping }
    }

    /// Renews the Lease until `let_go`, and then gives it back.
    async fn keep(
        &self,
        mut lease: Lease,
        mut proven: Duration,
        tenure: &Tenure,
        let_go: &CancellationToken,
    ) -> Result<(), Lost> {
        let mut wait = LEASE_RENEW_EVERY;
        let mut trouble = None;
        loop {
            let left = until(proven).saturating_sub(self.env.clock.monotonic());
            tokio::select! {
                () = let_go.cancelled() => {
                    if !left.is_zero() {
                        self.give_back(&lease, left).await;
                    }
                    return Ok(());
                }
                () = self.env.clock.sleep(wait.min(left)) => {}
            }
            let sent = self.env.clock.monotonic();
            let left = until(proven).saturating_sub(sent);
            if left.is_zero() {
                let asleep = || Failure::NoAnswer("the operator was asleep itself".to_owned());
                return Err(Lost::Silent { failure: trouble.unwrap_or_else(asleep) });
            }
            match self.renew(&lease, until(proven)).await {
                Ok(renewed) => {
                    (lease, proven, wait, trouble) = (renewed, sent, LEASE_RENEW_EVERY, None);
                    tenure.until.store(nanoseconds(until(proven)), Ordering::SeqCst);
                }
                Err(Renewal::Lost(lost)) => return Err(lost),
                Err(Renewal::Again(found)) => {
                    (lease, wait, trouble) = (*found, Duration::ZERO, Some(Failure::Conflict));
                }
                Err(Renewal::Failed(failure)) => {
                    tracing::warn!(%failure, "the Lease could not be renewed; it is tried again");
                    (trouble, wait) = (Some(failure), LEASE_RETRY);
                }
            }
        }
    }

    /// One attempt to renew the Lease, which ends before `until` on the monotonic clock.
    async fn renew(&self, lease: &Lease, until: Duration) -> Result<Lease, Renewal> {
        let limit = || LEASE_ANSWER.min(until.saturating_sub(self.env.clock.monotonic()));
        let wanted = written(lease, Some(&self.identity), LEASE, self.now());
        match self.asking(limit(), self.leases.replace(&wanted)).await {
            Ok(renewed) => return Ok(renewed),
            Err(Failure::Missing) => return Err(Renewal::Lost(Lost::Deleted)),
            Err(Failure::Conflict) => {}
            Err(failure) => return Err(Renewal::Failed(failure)),
        }
        // By somebody who changed a label, by an own renewal whose answer was lost, or by whoever holds it now.
        match self.asking(limit(), self.leases.read()).await.map_err(Renewal::Failed)? {
            None => Err(Renewal::Lost(Lost::Deleted)),
            Some(found) => {
                let spec = found.spec.clone().unwrap_or_default();
                match holder(&spec) {
                    Some(holder) if holder == &*self.identity => Err(Renewal::Again(Box::new(found))),
                    other => Err(Renewal::Lost(Lost::Taken(other.unwrap_or("nobody").to_owned()))),
                }
            }
        }
    }

    /// Lets another one take the Lease at once, where there is time to.
    async fn give_back(&self, lease: &Lease, left: Duration) {
        let free = |lease: &Lease| written(lease, None, Duration::from_secs(1), self.now());
        let given = self.asking(LEASE_ANSWER.min(left), self.leases.replace(&free(lease))).await;
        match given {
            Ok(_) => tracing::info!("the Lease is given back"),
            Err(failure) => tracing::warn!(%failure, "the Lease is left to run out"),
        }
    }
}

/// Why a renewal gave no Lease.
enum Renewal {
    /// It is known to be another one's, or gone.
    Lost(Lost),
    /// It is still this one's, in another version.
    Again(Box<Lease>),
    /// Nothing is known.
    Failed(Failure),
}

/// Why an operator may not work any more.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Lost {
    /// Somebody else holds the Lease, or somebody has taken it away.
    #[error("the Lease is held by {0} now")]
    Taken(String),
    /// There is no Lease.
    #[error("the Lease was deleted")]
    Deleted,
    /// It is not known whether it is held.
    #[error("the Lease was not renewed for {seconds} s: {failure}", seconds = (LEASE - LEASE_GRACE).as_secs())]
    Silent {
        /// What came of the last attempt.
        failure: Failure,
    },
    /// The program is broken.
    #[error("nobody keeps the Lease any more: {0}")]
    Broken(String),
}

/// When work must end after a renewal that was sent at a time.
fn until(sent: Duration) -> Duration {
    sent.saturating_add(LEASE - LEASE_GRACE)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How long the work may go on. Clones are of one tenure.
#[derive(Clone)]
pub struct Tenure {
    env: Env,
    /// On the monotonic clock, in nanoseconds.
    until: Arc<AtomicU64>,
    /// Cancelled when it is over, whatever the clock says.
    over: CancellationToken,
    /// Everything that works.
    work: TaskTracker,
}

impl Tenure {
    /// Whether work may go on at this moment.
    #[must_use]
    pub fn lasts(&self) -> bool {
        !self.over.is_cancelled()
            && nanoseconds(self.env.clock.monotonic()) < self.until.load(Ordering::SeqCst)
    }

    /// Works as long as the tenure lasts; `None` where it is dropped in the middle. The clock is asked before each step
    /// of the work, which may have been put to sleep for long with all of the program.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let _counted = self.work.token();
        let (mut work, mut over) = (pin!(work), pin!(self.over.cancelled()));
        poll_fn(|context| {
            if over.as_mut().poll(context).is_ready() || !self.lasts() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(context).map(Some)
        })
        .await
    }
}

/// The Lease, while it is held. It is renewed meanwhile.
pub struct Held {
    tenure: Tenure,
    let_go: CancellationToken,
    keeping: JoinHandle<Result<(), Lost>>,
}

impl Held {
    /// How long the work may go on.
    #[must_use]
    pub fn tenure(&self) -> Tenure {
        self.tenure.clone()
    }

    /// Ends when the Lease is lost, and with that the tenure. Not to be waited for again.
    pub async fn lost(&mut self) -> Lost {
        match (&mut self.keeping).await {
            Ok(Err(lost)) => lost,
            Ok(Ok(())) => Lost::Broken("it was given back".to_owned()),
            Err(error) => Lost::Broken(error.to_string()),
        }
    }

    /// Gives up the work that is left, and waits until it has ended.
    pub async fn stop_work(&self) {
        self.tenure.over.cancel();
        self.tenure.work.close();
        self.tenure.work.wait().await;
    }

    /// Lets another one work. Nothing works any more by then.
    pub async fn give_back(mut self) -> Result<(), Lost> {
        assert!(self.tenure.work.is_empty(), "a Lease is given back when all work has ended");
        self.let_go.cancel();
        (&mut self.keeping).await.unwrap_or_else(|error| Err(Lost::Broken(error.to_string())))
    }
}
