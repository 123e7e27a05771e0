//! The stored batches of a stream, from the servers: asked for again wherever an answer ends or breaks off.

use std::fmt::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::{BoxStream, StreamExt};
use http::HeaderMap;
use tokio::time::Instant;
use vault_format::batch::BatchError;
use vault_format::header::Kind;
use vault_format::ids::{Offset, StreamId, Timestamp};

use super::decoder::{Decoder, Layout, RawBatch};
use super::direct::Direct;
use super::error::{Damage, ReadError, refused};
use super::unlocked;
use crate::client::Client;
use crate::error::{Error, SideEffects};
use crate::limits::{READ_BYTES, SHORTEST_WAIT, TAIL_WAIT};
use crate::retry::Retries;
use crate::transport::{Answer, nonsense};

/// Where reading begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Start {
    /// At the first message that is kept.
    #[default]
    Earliest,
    /// Behind the last one.
    Latest,
    /// At this offset.
    Offset(Offset),
    /// At the first message that was appended at this time or later.
    Time(Timestamp),
}

impl From<Offset> for Start {
    fn from(offset: Offset) -> Self {
        Self::Offset(offset)
    }
}

/// What is read, and how.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) client: Client,
    pub(crate) stream: String,
    pub(crate) from: Start,
    pub(crate) to: Option<Offset>,
    pub(crate) follow: bool,
    pub(crate) clamp: bool,
    pub(crate) direct: bool,
    pub(crate) retry_time: Option<Duration>,
}

/// Where a reader is and what it knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Place {
    /// Where reading begins, once that is known.
    pub(crate) start: Option<Offset>,
    /// The next offset that is wanted. `None` until the first answer says where reading begins.
    pub(crate) next: Option<Offset>,
    /// Where the stream ended when it was last asked for.
    pub(crate) end: Option<Offset>,
    /// A server has been asked to wait for what comes behind that.
    pub(crate) waits: bool,
}

/// The stored batches of a stream, in order: snapshots, fillers, commits and seals among them. The first may begin in front
/// of where reading begins. The stream ends at `to`, or at what was the end when reading began; with `follow` never.
///
/// Nothing follows an error.
// Nobody locks it: that is what lets a `&Batches` be shared between threads.
pub struct Batches(Mutex<BoxStream<'static, Result<RawBatch, ReadError>>>);

impl Batches {
    pub(crate) fn new(options: Options) -> Self {
        let source = Source::new(options);
        let stream = futures::stream::unfold(Some(source), async |source| {
            let mut source = source?;
            match source.next().await {
                Ok(Some(batch)) => Some((Ok(batch), Some(source))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Self(Mutex::new(stream.fuse().boxed()))
    }
}

impl Stream for Batches {
    type Item = Result<RawBatch, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        unlocked(&mut self.0).poll_next_unpin(context)
    }
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").finish_non_exhaustive()
    }
}

/// An answer that is being taken apart.
struct Open {
    answer: Answer,
    decoder: Decoder,
    /// Where the answer says to go on.
    next: Offset,
    /// How soon it came, where the server was asked to wait.
    waited: Option<Duration>,
    brought_batches: bool,
}

/// Asks, takes apart, and asks again.
pub(crate) struct Source {
    options: Options,
    place: Place,
    /// The same, for who looks on.
    shown: Arc<Mutex<Place>>,
    /// Reading ends before this offset.
    until: Option<Offset>,
    end_is_known: bool,
    /// A server has answered at that end that nothing is hidden behind it.
    end_is_sure: bool,
    stream: Option<StreamId>,
    open: Option<Open>,
    retries: Retries,
    /// Where what came was not intact.
    damaged_at: Option<Offset>,
    direct: Option<Direct>,
}

impl Source {
    pub(crate) fn new(options: Options) -> Self {
        let next = match options.from {
            Start::Offset(offset) => Some(offset),
            Start::Earliest | Start::Latest | Start::Time(_) => None,
        };
        Self {
            place: Place { start: next, next, end: None, waits: false },
            shown: Arc::default(),
            until: options.to,
            end_is_known: false,
            end_is_sure: false,
            stream: None,
            open: None,
            retries: Retries::new(options.retry_time),
            damaged_at: None,
            direct: options.direct.then(|| Direct::new(options.client.clone(), &options.stream)),
            options,
        }
    }

    /// Where it is, for who looks on.
    pub(crate) fn shown(&self) -> Arc<Mutex<Place>> {
        Arc::clone(&self.shown)
    }

    fn show(&self) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = self.place;
    }

    /// The next batch; `None` where reading ends.
    pub(crate) async fn next(&mut self) -> Result<Option<RawBatch>, ReadError> {
        loop {
            if self.until.is_some_and(|until| self.place.next >= Some(until)) {
                let wanted = self.options.to.is_some_and(|to| self.place.next >= Some(to));
                if wanted || self.end_is_sure {
                    return Ok(None);
                }
                // Where damage is known, a stream seems to end in front of it. Who asks for what comes there is told.
                (self.open, self.direct) = (None, None);
            }
            let stepped = self.step().await;
            self.place.start = self.place.start.or(self.place.next);
            self.place.waits = false;
            self.show();
            match stepped {
                Ok(Some(batch)) => {
                    self.retries.reset();
                    return Ok(Some(batch));
                }
                Ok(None) => {}
                Err(ReadError::Request(error)) => {
                    self.open = None;
                    if let Err(error) = self.retries.pause(error).await {
                        return Err(refused(error, self.place.next));
                    }
                }
                // Something on the way may have spoilt it: it is asked for once more.
                Err(ReadError::Damaged { offset, .. }) if self.damaged_at != Some(offset) => {
                    (self.damaged_at, self.open) = (Some(offset), None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One piece further. `None`: nothing came of it yet.
    async fn step(&mut self) -> Result<Option<RawBatch>, ReadError> {
        if self.direct.is_some()
            && let Some(next) = self.place.next
        {
            self.open = None;
            return self.step_directly(next).await;
        }
        let Some(open) = &mut self.open else {
            self.ask().await?;
            return Ok(None);
        };
        let offset = self.place.next.unwrap_or_default();
        let batch =
            open.decoder.next().map_err(|error| ReadError::Damaged { offset, reason: error.into() })?;
        if let Some(batch) = batch {
            return self.check(batch);
        }
        match open.answer.piece().await {
            Ok(Some(piece)) => open.decoder.feed(piece),
            Ok(None) => {
                if let Some(open) = self.open.take() {
                    self.finish(open).await?;
                }
            }
            Err(error) => {
                self.options.client.turn_away_from(open.answer.index);
                return Err(error.into());
            }
        }
        Ok(None)
    }

    /// Goes on behind an answer that has come to its end.
    async fn finish(&mut self, open: Open) -> Result<(), ReadError> {
        let offset = self.place.next.unwrap_or_default();
        if open.decoder.is_in_the_middle() {
            return Err(ReadError::Damaged { offset, reason: BatchError::Truncated.into() });
        }
        // An answer may hold nothing, and still say how far it has looked.
        let came_further = open.brought_batches || self.place.next < Some(open.next);
        self.place.next = self.place.next.max(Some(open.next));
        if !came_further && self.place.next < self.place.end {
            let (endpoint, side_effects) = (open.answer.endpoint, SideEffects::None);
            let reason =
                format!("the answer holds nothing from offset {offset} on, where the stream goes on");
            return Err(Error::Unreachable { endpoint, reason, side_effects }.into());
        }
        self.retries.reset();
        // A server that ends does not wait any more.
        if !came_further && open.waited.is_some_and(|waited| waited < SHORTEST_WAIT) {
            tokio::time::sleep(SHORTEST_WAIT).await;
        }
        Ok(())
    }

    async fn step_directly(&mut self, next: Offset) -> Result<Option<RawBatch>, ReadError> {
        let direct = self.direct.as_mut().expect("it was there a moment ago");
        match direct.next(next).await {
            Ok(Some(batch)) => self.check(batch),
            Ok(None) => {
                // What is not sealed yet comes through the servers.
                self.direct = None;
                Ok(None)
            }
            Err(ReadError::BelowFirst { first_offset, .. }) if self.options.clamp && first_offset > next => {
                self.place.next = Some(first_offset);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Holds a batch against what came before it. `None`: all of it was there already.
    fn check(&mut self, batch: RawBatch) -> Result<Option<RawBatch>, ReadError> {
        let header = &batch.header;
        let known = *self.stream.get_or_insert(header.stream);
        if known != header.stream {
            return Err(ReadError::Replaced { known, found: header.stream });
        }
        let next = *self.place.next.get_or_insert(header.base_offset);
        self.place.start = self.place.start.or(self.place.next);
        if header.base_offset > next {
            let reason = Damage::Gap(header.base_offset);
            return Err(ReadError::Damaged { offset: next, reason });
        }
        if header.kind == Kind::Messages {
            if header.next_offset() <= next {
                return Ok(None);
            }
            self.place.next = Some(header.next_offset());
        }
        if let Some(open) = &mut self.open {
            open.brought_batches = true;
        }
        Ok(Some(batch))
    }

    async fn ask(&mut self) -> Result<(), ReadError> {
        let caught_up = self.place.next.is_some() && self.place.next == self.place.end;
        let wait = if self.options.follow && caught_up { TAIL_WAIT } else { Duration::ZERO };
        let mut path = self.options.client.path(&self.options.stream, "/messages")?;
        // Writing to a string does not fail.
        let _ = match (self.place.next, self.options.from) {
            (Some(offset), _) => write!(path, "?from={offset}"),
            (None, Start::Time(time)) => write!(path, "?since={time}"),
            (None, Start::Latest) => write!(path, "?from=latest"),
            (None, Start::Earliest | Start::Offset(_)) => write!(path, "?from=earliest"),
        };
        // Whoever reads from storage only wants to know where to begin.
        let max_bytes = if self.direct.is_some() { 1 } else { READ_BYTES };
        let _ = write!(path, "&limit={}&max_bytes={max_bytes}", u64::MAX);
        if let Some(to) = self.options.to {
            let _ = write!(path, "&to={to}");
        }
        if self.options.clamp {
            path.push_str("&clamp=true");
        }
        if !wait.is_zero() {
            let _ = write!(path, "&wait={}", wait.as_secs());
        }
        let request = self.options.client.batches_request(&path);
        self.place.waits = !wait.is_zero();
        self.show();
        let asked = Instant::now();
        let answer = self.options.client.attempt(&request, wait).await?;
        let waited = (!wait.is_zero()).then(|| asked.elapsed());
        let Some(next) = offset(&answer.headers, "message-vault-next-offset") else {
            return Err(nonsense(answer.endpoint, "it does not say where to go on").into());
        };
        let end = offset(&answer.headers, "message-vault-end-offset");
        self.place.end = end.or(self.place.end);
        if !self.options.follow && !self.end_is_known {
            // What is appended from now on is not waited for. Without an end in the answer, `to` comes before it.
            self.until = self.until.into_iter().chain(end).min();
            self.end_is_known = true;
        }
        self.end_is_sure = self.place.next.is_some() && self.until.is_some() && self.place.next >= self.until;
        if self.options.clamp {
            // Retention may have deleted what was wanted: what is kept comes.
            let first = offset(&answer.headers, "message-vault-first-offset");
            self.place.next = self.place.next.map(|next| next.max(first.unwrap_or(next)));
        }
        let decoder = Decoder::new(Layout::Sent);
        self.open = Some(Open { answer, decoder, next, waited, brought_batches: false });
        Ok(())
    }
}

fn offset(headers: &HeaderMap, name: &str) -> Option<Offset> {
    headers.get(name)?.to_str().ok()?.parse().ok().map(Offset)
}
