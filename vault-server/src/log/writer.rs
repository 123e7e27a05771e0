//! The task that appends to one stream: the only one that writes to it under this term.
//!
//! [`Appender`] decides what is written; this task sends it, waits, and answers. A put whose outcome is unknown is
//! sent again, the same bytes to the same place, until storage says that it is stored or that this reign is over.

mod early;
mod refusals;
mod request;
mod retaining;

pub(crate) use request::AppendRequest;
pub(crate) use retaining::Retaining;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, OptionFuture};
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use vault_format::chain::Chain;
use vault_format::ids::{Offset, Timestamp};
use vault_format::producers::Producers;

use crate::limits::{COMMIT_AFTER_IDLE, MAX_PUTS_IN_FLIGHT};
use crate::log::appender::{Appender, Put};
use crate::log::codec::CodecInForce;
use crate::log::error::{AppendError, StreamFault, Unusable};
use crate::log::making::create_segment;
use crate::log::pacing::Pacing;
use crate::log::put_sender::{PutOutcome, PutSender, Stalled};
use crate::log::recent::{Recent, RecentPut};
use crate::log::recover::{RecoverError, Recovered};
use crate::log::reign::{Reign, ReignEnd};
use crate::log::retention::ends::Ends;
use crate::log::retry::Backoff;
use crate::log::steady::SteadyClock;
use crate::log::store::{Segment, Store};
use crate::log::tail::Tail;
use crate::log::writer::refusals::{Refusal, Repeat};
use crate::log::writer::request::put_span;
use crate::log::writer::retaining::seal_is_due;
use crate::storage::StorageError;
use crate::traces;

/// What the writer is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    Run,
    /// Store what was accepted, put it on record as committed, end.
    Finish,
    /// End at once.
    Halt,
}

/// How a writer came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WriterEnd {
    Finished,
    Halted,
    ReignOver(ReignEnd),
    Fault(StreamFault),
}

/// What the writer shows to the rest of the server.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) tail: watch::Sender<Tail>,
    /// All segments, oldest first.
    pub(crate) segments: Arc<RwLock<Vec<Segment>>>,
    pub(crate) ends: Arc<Ends>,
    pub(crate) recent: Arc<Recent>,
    /// The offset behind all that was sent to storage under this term.
    pub(crate) sent: Arc<AtomicU64>,
    pub(crate) stalled: Stalled,
}

impl Shown {
    /// Why storage does not take writes at the moment.
    pub(crate) fn stalled(&self) -> Option<StorageError> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Puts something on record in the metadata of the stream's container.
pub(crate) type RecordsOnce = Arc<dyn Fn() -> BoxFuture<'static, Result<(), StorageError>> + Send + Sync>;

/// What a writer is made of.
pub(crate) struct WriterParts {
    pub(crate) store: Store,
    pub(crate) reign: Reign,
    /// How large the next segment is made; a change of the stream's settings moves it.
    pub(crate) segment_bytes: Arc<AtomicU64>,
    /// How the next batch is compressed.
    pub(crate) codec: CodecInForce,
    /// Puts on record that the stream has a first segment.
    pub(crate) begin: RecordsOnce,
    /// Puts on record that retention deletes segments, unless that is on record.
    pub(crate) trim: RecordsOnce,
    pub(crate) shown: Shown,
    pub(crate) requests: mpsc::UnboundedReceiver<AppendRequest>,
    pub(crate) command: watch::Receiver<Command>,
    pub(crate) pacing: Pacing,
    /// The time that messages are stamped with.
    pub(crate) clock: Arc<Mutex<SteadyClock>>,
    pub(crate) retaining: Retaining,
}

impl WriterParts {
    fn now(&self) -> Timestamp {
        let clock = &self.store.env.clock;
        let mut steady = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        steady.now(clock.now(), clock.monotonic())
    }
}

enum Event {
    Put(u64, PutOutcome),
    Segment(Result<Segment, WriterEnd>),
    /// Whether storage has shown our term to be the highest.
    Term(Result<bool, StorageError>),
}

/// The segment that is appended to.
struct Open {
    segment: Segment,
    appender: Appender,
}

struct InFlight {
    put: Put<AppendRequest>,
    before: Chain,
    stored: bool,
}

pub(crate) struct Writer {
    parts: WriterParts,
    /// `None` until the first segment is made.
    open: Option<Open>,
    making_segment: bool,
    queue: VecDeque<AppendRequest>,
    in_flight: VecDeque<InFlight>,
    /// The number of the oldest put in flight; puts are counted from the beginning of this task.
    oldest_put: u64,
    refusals: Vec<Refusal>,
    repeats: Vec<Repeat>,
    /// Requests that came before their predecessors, how many puts were built when they were tried, and when the oldest has
    /// waited for long enough.
    early: Vec<AppendRequest>,
    early_tried: u64,
    early_over: Option<BoxFuture<'static, ()>>,
    /// Checks of our term are counted too; one at a time is on its way.
    checks_begun: u64,
    checking: bool,
    events: FuturesUnordered<BoxFuture<'static, Event>>,
    idle: Option<BoxFuture<'static, ()>>,
    /// Ends when the next put may be sent.
    pause: Option<BoxFuture<'static, ()>>,
}

impl Writer {
    pub(crate) fn new(parts: WriterParts, recovered: &Recovered) -> Self {
        assert!((1..=MAX_PUTS_IN_FLIGHT).contains(&parts.pacing.in_flight));
        assert!(recovered.fault.is_none(), "nothing is appended to a damaged stream");
        let open = recovered.segments.last().map(|segment| {
            let Recovered { chain, recorded, messages_end, producers, .. } = recovered;
            let (term, producers) = (parts.reign.term, producers.clone());
            let appender = Appender::new(term, segment.bytes, *chain, *recorded, *messages_end, producers);
            Open { segment: *segment, appender }
        });
        Self {
            parts,
            open,
            making_segment: false,
            queue: VecDeque::new(),
            in_flight: VecDeque::new(),
            oldest_put: 0,
            refusals: Vec::new(),
            repeats: Vec::new(),
            early: Vec::new(),
            early_tried: 0,
            early_over: None,
            checks_begun: 0,
            checking: false,
            events: FuturesUnordered::new(),
            idle: None,
            pause: None,
        }
    }

    /// Appends until it is told to end, or must.
    pub(crate) async fn run(mut self) -> WriterEnd {
        let end = loop {
            self.retain();
            self.send_puts();
            if let Some(end) = self.turn().await {
                break end;
            }
        };
        self.answer_all(&end);
        end
    }

    /// Waits for one thing to happen and deals with it.
    async fn turn(&mut self) -> Option<WriterEnd> {
        let command = *self.parts.command.borrow_and_update();
        let finishing = command == Command::Finish;
        match command {
            Command::Run => {}
            Command::Finish => self.parts.requests.close(),
            Command::Halt => return Some(WriterEnd::Halted),
        }
        self.await_idleness(finishing);
        let drained = finishing && self.is_drained();
        tokio::select! {
            biased;
            changed = self.parts.command.changed() => changed.err().map(|_| WriterEnd::Halted),
            Some(()) = OptionFuture::from(self.parts.retaining.timer.as_mut()) => {
                self.parts.retaining.tick();
                None
            }
            Some(chore) = OptionFuture::from(self.parts.retaining.chore.as_mut()) => {
                self.on_chore(chore);
                None
            }
            Ok(()) = self.parts.retaining.settings.changed() => None,
            Some(event) = self.events.next() => self.on_event(event),
            Some(request) = self.parts.requests.recv() => {
                self.queue.push_back(request);
                None
            }
            Some(()) = OptionFuture::from(self.idle.as_mut()) => {
                self.send_commit();
                None
            }
            Some(()) = OptionFuture::from(self.pause.as_mut()) => {
                self.pause = None;
                None
            }
            Some(()) = OptionFuture::from(self.early_over.as_mut()) => {
                self.early_over = None;
                None
            }
            () = std::future::ready(()), if drained => Some(WriterEnd::Finished),
        }
    }

    fn is_drained(&self) -> bool {
        self.parts.requests.is_empty()
            && self.queue.is_empty()
            && self.events.is_empty()
            && self.idle.is_none()
    }

    /// Starts or stops the wait after which a commit batch is written. At the orderly end nobody waits.
    fn await_idleness(&mut self, finishing: bool) {
        let quiet = self.queue.is_empty() && self.in_flight.is_empty();
        if !quiet || !self.open.as_ref().is_some_and(|open| open.appender.wants_commit()) {
            self.idle = None;
        } else if finishing {
            self.idle = Some(Box::pin(std::future::ready(())));
        } else if self.idle.is_none() {
            self.idle = Some(self.parts.store.env.clock.sleep(COMMIT_AFTER_IDLE));
        }
    }

    /// Builds and sends what the queue and the limit on puts in flight allow.
    fn send_puts(&mut self) {
        self.take_requests();
        loop {
            self.try_early();
            self.queue.retain(|request| !request.reply.is_closed());
            let before = self.next_put();
            self.build_puts();
            // What was put may be what those that came early wait for.
            if self.early.is_empty() || self.next_put() == before {
                break;
            }
        }
        self.await_early();
        match &self.open {
            None if !self.queue.is_empty() => self.make_segment(Offset::ZERO),
            Some(open) if open.appender.sealed() && self.in_flight.is_empty() => {
                self.make_segment(open.appender.settled().next_offset);
            }
            _ => {}
        }
    }

    fn build_puts(&mut self) {
        let mut misfits = Vec::new();
        while self.may_put() {
            let Some(open) = self.open.as_mut().filter(|open| !open.appender.sealed()) else { break };
            let before = *open.appender.built();
            let now = self.parts.now();
            open.appender.codec = self.parts.codec.get();
            let built = if seal_is_due(open, &self.parts.retaining) {
                Some(open.appender.build_seal())
            } else {
                open.appender.build(&mut self.queue, now, |misfit| misfits.push(misfit))
            };
            let Some(put) = built else { break };
            self.send(before, put);
        }
        misfits.into_iter().for_each(|misfit| self.turn_away(misfit));
    }

    /// Whether what waits may be put now.
    fn may_put(&self) -> bool {
        let Pacing { in_flight, beside_bytes, .. } = self.parts.pacing;
        if self.pause.is_some() || self.in_flight.len() >= in_flight {
            return false;
        }
        let mut waiting = 0;
        let mut reaches = |request: &AppendRequest| {
            waiting += request.records.len();
            waiting >= beside_bytes
        };
        beside_bytes == 0 || self.in_flight.is_empty() || self.queue.iter().any(&mut reaches)
    }

    fn send_commit(&mut self) {
        self.idle = None;
        self.parts.shown.recent.clear();
        if let Some(open) = &mut self.open {
            let before = *open.appender.built();
            let put = open.appender.build_commit();
            self.send(before, put);
        }
    }

    fn send(&mut self, before: Chain, mut put: Put<AppendRequest>) {
        for (request, _) in &mut put.requests {
            // The put holds a copy.
            request.records = Bytes::new();
        }
        let base = self.open.as_ref().expect("a put is built for the open segment").segment.base;
        self.parts.retaining.note_put(base, &before, &put);
        let Store { storage, env, .. } = &self.parts.store;
        let sender = PutSender {
            storage: Arc::clone(storage),
            env: env.clone(),
            blob: self.parts.store.blob(base),
            reign: self.parts.reign.clone(),
            stalled: Arc::clone(&self.parts.shown.stalled),
            metrics: Arc::clone(&self.parts.store.metrics),
        };
        if !self.parts.pacing.interval.is_zero() {
            self.pause = Some(env.clock.sleep(self.parts.pacing.interval));
        }
        self.parts.shown.sent.store(put.after.next_offset.0, Ordering::Release);
        let number = self.next_put();
        let (position, bytes) = (put.position, put.bytes.clone());
        let span = put_span(&put, &sender.blob);
        let sending = traces::within(span, sender.send(position, bytes));
        #[cfg(feature = "canaries")]
        let sending: BoxFuture<'static, PutOutcome> =
            if vault_format::canary::Canary::AcknowledgeEarly.is_on() {
                tokio::spawn(sending);
                Box::pin(std::future::ready(PutOutcome::Stored))
            } else {
                Box::pin(sending)
            };
        self.events.push(Box::pin(async move { Event::Put(number, sending.await) }));
        self.in_flight.push_back(InFlight { put, before, stored: false });
    }

    /// The number of the put that is built next.
    fn next_put(&self) -> u64 {
        self.oldest_put + self.in_flight.len() as u64
    }

    /// Makes the segment that begins at `base`, and before the first answer puts on record that the stream has begun.
    fn make_segment(&mut self, base: Offset) {
        if std::mem::replace(&mut self.making_segment, true) {
            return;
        }
        let (store, reign) = (self.parts.store.clone(), self.parts.reign.clone());
        let bytes = self.parts.segment_bytes.load(Ordering::Relaxed);
        let begin = self.open.is_none().then(|| (self.parts.begin)());
        self.events.push(Box::pin(async move {
            let mut backoff = Backoff::default();
            let segment = loop {
                match create_segment(&store, &reign, base, bytes).await {
                    Ok(segment) => break segment,
                    Err(RecoverError::Reign(end)) => return Event::Segment(Err(WriterEnd::ReignOver(end))),
                    Err(RecoverError::Unusable(Unusable::Fault(fault))) => {
                        return Event::Segment(Err(WriterEnd::Fault(fault)));
                    }
                    Err(RecoverError::Unusable(Unusable::NotFound)) => return Event::Segment(Err(gone())),
                    Err(RecoverError::Unusable(error)) => {
                        tracing::warn!(%error, container = %store.container, "cannot make a segment, trying again");
                        backoff.wait(&store.env).await;
                    }
                }
            };
            match OptionFuture::from(begin).await {
                None | Some(Ok(())) => Event::Segment(Ok(segment)),
                Some(Err(StorageError::NotFound)) => Event::Segment(Err(gone())),
                Some(Err(_)) => Event::Segment(Err(WriterEnd::ReignOver(ReignEnd::Unsure))),
            }
        }));
    }

    fn on_event(&mut self, event: Event) -> Option<WriterEnd> {
        match event {
            Event::Put(number, PutOutcome::Stored) => {
                let index = usize::try_from(number - self.oldest_put).expect("few puts are in flight");
                self.in_flight[index].stored = true;
                self.settle();
            }
            Event::Put(_, PutOutcome::Outrun) => return Some(WriterEnd::ReignOver(ReignEnd::Outrun(None))),
            Event::Put(_, PutOutcome::Gone) => return Some(gone()),
            Event::Segment(Ok(segment)) => self.enter(segment),
            Event::Segment(Err(end)) => return Some(end),
            Event::Term(Ok(false)) => return Some(WriterEnd::ReignOver(ReignEnd::Outrun(None))),
            Event::Term(shown) => {
                self.checking = false;
                self.refuse(shown.err().as_ref());
            }
        }
        None
    }

    /// Answers the puts that are stored and have none before them that is not.
    fn settle(&mut self) {
        let Some(Open { segment, appender }) = &mut self.open else { return };
        while self.in_flight.front().is_some_and(|oldest| oldest.stored) {
            let Some(InFlight { put, before, .. }) = self.in_flight.pop_front() else { break };
            self.oldest_put += 1;
            appender.settle(&put);
            let messages = put.after.next_offset.0 - before.next_offset.0;
            self.parts.store.metrics.settled(put.requests.len(), messages, put.bytes.len());
            let shown = &self.parts.shown;
            if put.seals {
                shown.ends.note(segment.base, put.after.position);
            }
            let recent = RecentPut {
                segment: segment.base,
                bytes: put.bytes,
                before,
                after: put.after,
                seals: put.seals,
            };
            shown.recent.push(recent);
            shown.tail.send_replace(Tail { segment: segment.base, chain: put.after });
            for (request, appended) in put.requests {
                request.answer(Ok(appended));
            }
        }
        self.parts.retaining.settled();
        self.refuse(None);
        self.repeat();
    }

    fn enter(&mut self, segment: Segment) {
        self.making_segment = false;
        self.parts.retaining.entered();
        match &mut self.open {
            Some(open) => {
                open.appender.enter_next_segment(segment.bytes);
                open.segment = segment;
            }
            None => {
                let (term, start) =
                    (self.parts.reign.term, Chain::at_segment_start(self.parts.store.id, segment.base));
                let (at, nobody) = (start.position, Producers::default());
                let appender = Appender::new(term, segment.bytes, start, at, at, nobody);
                self.open = Some(Open { segment, appender });
            }
        }
        let Some(open) = &self.open else { return };
        let shown = &self.parts.shown;
        shown.segments.write().unwrap_or_else(PoisonError::into_inner).push(segment);
        shown.tail.send_replace(Tail { segment: segment.base, chain: *open.appender.settled() });
    }

    /// Moves everything that has come into the queue: what is built next should hold all of it.
    fn take_requests(&mut self) {
        while let Ok(request) = self.parts.requests.try_recv() {
            self.queue.push_back(request);
        }
    }

    /// At the end: what was sent may be stored, what was not is not.
    fn answer_all(&mut self, end: &WriterEnd) {
        self.parts.requests.close();
        self.take_requests();
        let reason = match end {
            WriterEnd::Fault(fault) => Unusable::Fault(fault.clone()),
            WriterEnd::Finished | WriterEnd::Halted | WriterEnd::ReignOver(_) => Unusable::NoLeader,
        };
        let sent = self.in_flight.drain(..).flat_map(|in_flight| in_flight.put.requests);
        let sent = sent.map(|(request, _)| request);
        let again = self.repeats.drain(..).map(|repeat| repeat.request);
        sent.chain(again).for_each(|request| request.answer(Err(AppendError::Unknown(reason.clone()))));
        let refused = self.refusals.drain(..).map(|refusal| refusal.request);
        let unsent = self.queue.drain(..).chain(self.early.drain(..)).chain(refused);
        unsent.for_each(|request| request.answer(Err(reason.clone().into())));
    }
}

fn gone() -> WriterEnd {
    let missing = "the container or the segment that was written to is gone".to_owned();
    WriterEnd::Fault(StreamFault::DataMissing(missing))
}
