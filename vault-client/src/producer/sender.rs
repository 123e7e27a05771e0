//! The task of a producer: several deliveries at once, settled in order.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt};
use tokio::sync::watch;
use tokio::time::Instant;
use vault_format::ids::Timestamp;

use super::delivery::{Delivery, Failure, Progress};
use super::queue::Pending;
use super::{SendError, Shared};
use crate::client::{Appended, Client, Stamped};
use crate::error::SideEffects;

/// Who the producer is to the stream.
#[derive(Debug)]
pub(super) struct Identity {
    id: String,
    epoch: u64,
    next_sequence: u64,
    progress: watch::Sender<Progress>,
    /// Whether a request of this epoch has been stored.
    known: bool,
}

impl Identity {
    pub(super) fn new(id: String, now: Timestamp) -> Self {
        Self { id, epoch: now.0, next_sequence: 0, progress: watch::Sender::default(), known: false }
    }

    /// Begins to count anew, above all epochs before.
    fn begin_epoch(&mut self, now: Timestamp) {
        self.epoch = now.0.max(self.epoch + 1);
        self.next_sequence = 0;
        self.progress = watch::Sender::default();
        self.known = false;
    }
}

pub(super) struct Sender {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Client,
    pub(super) stream: String,
    /// `None`: requests are not numbered.
    pub(super) identity: Option<Identity>,
    pub(super) requests_in_flight: usize,
    pub(super) retry_time: Duration,
}

type Delivered = (Pending, Result<Appended, Failure>);
type InFlight = FuturesOrdered<BoxFuture<'static, Delivered>>;

impl Sender {
    /// Sends what comes until a request fails for good, or the producer is dropped.
    pub(super) async fn run(mut self) {
        let _ending = Ending(Arc::clone(&self.shared));
        let mut in_flight = InFlight::new();
        loop {
            let at_once = self.at_once();
            while in_flight.len() < at_once {
                let Some(mut pending) = self.shared.state().queue.take(Instant::now()) else { break };
                let delivery = self.delivery(&mut pending);
                in_flight.push_back(Box::pin(delivery.run(pending)));
            }
            let due = self.shared.state().queue.due().filter(|_| in_flight.len() < at_once);
            let due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((pending, outcome)) = in_flight.next(), if !in_flight.is_empty() => {
                    let ended = match outcome {
                        Ok(appended) => { self.acknowledge(pending, appended); false }
                        Err(failure) => self.failed(pending, failure, &mut in_flight).await,
                    };
                    if ended {
                        return;
                    }
                }
                () = self.shared.wake.notified() => {}
                () = due => {}
            }
        }
    }

    /// How many requests may be on their way. One that overtakes the first of an epoch would be that of a producer which
    /// nobody knows.
    fn at_once(&self) -> usize {
        match &self.identity {
            Some(identity) if !identity.known => 1,
            _ => self.requests_in_flight,
        }
    }

    fn delivery(&mut self, pending: &mut Pending) -> Delivery {
        let records = pending.records();
        let (mut sequence, mut progress) = (None, watch::Sender::default().subscribe());
        let mut stamped = None;
        if let Some(identity) = &mut self.identity {
            sequence = Some(identity.next_sequence);
            progress = identity.progress.subscribe();
            stamped = Some(Stamped {
                producer: &identity.id,
                epoch: identity.epoch,
                sequence: identity.next_sequence,
            });
            identity.next_sequence += 1;
        }
        let request = self.client.append_request(&self.stream, &records, None, stamped.as_ref());
        Delivery { client: self.client.clone(), request, sequence, retry_time: self.retry_time, progress }
    }

    fn acknowledge(&mut self, pending: Pending, appended: Appended) {
        if let Some(identity) = &mut self.identity {
            identity.known = true;
            identity.progress.send_modify(|progress| progress.settled += 1);
        }
        self.shared.settle(pending, Ok(appended));
    }

    /// Begins a new epoch where the stream has merely forgotten the producer, which happens after a day without requests.
    /// Else the producer has ended, which is answered.
    async fn failed(&mut self, pending: Pending, failure: Failure, in_flight: &mut InFlight) -> bool {
        if let Some(identity) = &self.identity {
            identity.progress.send_modify(|progress| progress.halted = true);
        }
        let mut behind = Vec::new();
        while let Some(delivered) = in_flight.next().await {
            behind.push(delivered);
        }
        let untouched = |failure: &Failure| failure.side_effects == SideEffects::None;
        let forgotten = failure.error.code() == Some("producer_unknown") && untouched(&failure);
        let all_untouched = behind.iter().all(|(_, outcome)| outcome.as_ref().is_err_and(untouched));
        // Request 0 makes a producer known: who does not take it forgets everything.
        if let Some(identity) = &mut self.identity
            && identity.known
            && forgotten
            && all_untouched
        {
            tracing::info!(
                producer = identity.id,
                "the stream has forgotten the producer: a new epoch begins"
            );
            identity.begin_epoch(self.client.now());
            let runs = std::iter::once(pending).chain(behind.into_iter().map(|(pending, _)| pending));
            self.shared.state().queue.put_back(runs.collect());
            return false;
        }
        let Failure { error, side_effects } = failure;
        let ended = SendError::Request { error: error.clone(), side_effects };
        self.shared.state().ended = Some(ended.clone());
        self.shared.settle(pending, Err(ended));
        for (pending, outcome) in behind {
            let outcome = outcome.map_err(|Failure { side_effects, .. }| SendError::AfterFailure {
                error: error.clone(),
                side_effects,
            });
            self.shared.settle(pending, outcome);
        }
        self.shared.give_up(&SendError::AfterFailure { error, side_effects: SideEffects::None });
        true
    }
}

/// Lets nobody wait for a task that is gone, whatever made it go.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.give_up(&SendError::Closed { side_effects: SideEffects::None });
        // Of what was on its way nobody tells any more.
        self.0.settled_runs.send_replace(u64::MAX);
    }
}

impl Shared {
    /// Tells everybody who waits for a run what became of it.
    fn settle(&self, pending: Pending, outcome: Result<Appended, SendError>) {
        let messages = u64::from(pending.run.len());
        {
            let report = &mut self.state().report;
            match &outcome {
                Ok(appended) => {
                    report.acknowledged += messages;
                    report.next_offset = Some(appended.next_offset);
                }
                Err(error) => {
                    match error.side_effects() {
                        SideEffects::None => report.not_stored += messages,
                        SideEffects::Possible => report.unknown += messages,
                    }
                    report.failure.get_or_insert_with(|| error.clone());
                }
            }
        }
        self.room.add_permits(pending.buffer_bytes);
        pending.promise.keep(outcome);
        self.settled_runs.send_modify(|settled| *settled = settled.saturating_add(1));
    }

    /// Nothing more is taken, and nothing that waits is sent.
    pub(super) fn give_up(&self, why: &SendError) {
        let waiting = {
            let mut state = self.state();
            state.ended.get_or_insert_with(|| why.clone());
            state.queue.drain()
        };
        self.room.close();
        for pending in waiting {
            self.settle(pending, Err(why.clone()));
        }
    }
}
