//! What is written once for all who follow a stream at its tail.
//!
//! ```text
//!                          what is kept                     tip      tail
//!  log  ----------------|------|---------|----|-----------|--- - - - -|
//!                         piece    piece  piece    piece   ^ not written yet
//!       ^ reads the log by itself   ^ takes pieces         ^ waits
//!         up to the tip
//! ```
//!
//! One task for each stream that is followed, and each format, writes new messages into shared pieces. It waits between
//! two pieces, the longer the more there are who follow, so that what a piece costs for each of them is paid seldom
//! where they are many. It lives as long as somebody follows.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vault_format::ids::Offset;
use vault_format::names::StreamName;

use crate::env::Env;
use crate::http::app::App;
use crate::http::read::follow::is_expected;
use crate::http::read::messages::{Room, Separator};
use crate::http::read::replay::Replay;
use crate::limits::{
    FEED_AGAIN, FEED_BURST_BYTES, FEED_BYTES, FEED_BYTES_PER_STREAM, FEED_PACE_LONGEST,
    FEED_PACE_PER_FOLLOWER, FEED_PIECE_BYTES, TIMER_TICK,
};
use crate::log::error::{ReadError, Unusable};
use crate::log::reading::StreamReader;

/// The streams that are followed.
#[derive(Debug)]
pub(crate) struct Feeds {
    /// Bytes that pieces may take.
    memory: Arc<Semaphore>,
    running: Mutex<HashMap<FeedKey, Weak<Feed>>>,
}

/// A stream, and how its messages are written; `None` for those who only want to know that there are some.
type FeedKey = (StreamName, Option<Separator>);

impl Default for Feeds {
    fn default() -> Self {
        Self { memory: Arc::new(Semaphore::new(FEED_BYTES)), running: Mutex::default() }
    }
}

/// The task that writes for those who follow. It ends with the value.
#[derive(Debug)]
struct Feed {
    reader: StreamReader,
    ring: watch::Receiver<Ring>,
    task: JoinHandle<()>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One who follows.
#[derive(Debug)]
pub(crate) struct Tap {
    ring: watch::Receiver<Ring>,
    _feed: Arc<Feed>,
}

/// What there is for one who has reached an offset.
#[derive(Debug)]
pub(crate) enum Found {
    /// Messages that begin there, and the offset behind them.
    Piece(Bytes, Offset),
    /// Nothing in pieces. The log has it, at least up to this offset, where pieces begin.
    Behind(Offset),
    /// Nothing yet.
    Tip,
    /// Nothing any more: the server is ending (`None`), or the stream cannot be followed.
    Over(Option<ReadError>),
}

impl Feeds {
    /// Follows a stream, as `reader` has it open, from its tail on.
    pub(crate) fn tap(&self, app: &App, reader: &StreamReader, written: Option<Separator>) -> Tap {
        let key = (reader.stream().name().clone(), written);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let known = running.get(&key).and_then(Weak::upgrade);
        let feed = known.filter(|feed| feed.reader.is_same_as(reader)).unwrap_or_else(|| {
            running.retain(|_, feed| feed.strong_count() > 0);
            let feed = Arc::new(self.start(app, reader, written));
            running.insert(key, Arc::downgrade(&feed));
            feed
        });
        Tap { ring: feed.ring.clone(), _feed: feed }
    }

    fn start(&self, app: &App, reader: &StreamReader, written: Option<Separator>) -> Feed {
        let tip = reader.tail().next_offset();
        let (sender, ring) = watch::channel(Ring { pieces: VecDeque::new(), taken: 0, tip, over: None });
        let task = Task {
            reader: reader.clone(),
            written,
            ring: sender,
            memory: Arc::clone(&self.memory),
            env: app.env.clone(),
        };
        let task = tokio::spawn(task.run(app.stopping.clone()));
        Feed { reader: reader.clone(), ring, task }
    }
}

impl Tap {
    /// What there is for one who has reached `place`.
    pub(crate) fn at(&self, place: Offset) -> Found {
        let ring = self.ring.borrow();
        if place < ring.tip {
            let piece = ring.pieces.binary_search_by_key(&place, |piece| piece.start).ok();
            return match piece.and_then(|index| ring.pieces.get(index)) {
                Some(piece) => Found::Piece(piece.bytes.clone(), piece.end),
                None => Found::Behind(ring.tip),
            };
        }
        match &ring.over {
            Some(over) => Found::Over(over.clone()),
            // The task has been ended without a word: the runtime is going down.
            None if self.ring.has_changed().is_err() => Found::Over(None),
            None => Found::Tip,
        }
    }

    /// Waits until there may be something for one who has reached `place`.
    pub(crate) async fn until_beyond(&mut self, place: Offset) {
        // An error means that the task has ended, which `at` tells.
        let _ = self.ring.wait_for(|ring| ring.tip > place || ring.over.is_some()).await;
    }
}

/// The newest messages in pieces that follow each other up to the tip.
#[derive(Debug)]
struct Ring {
    pieces: VecDeque<Piece>,
    /// Bytes that they take.
    taken: usize,
    /// Up to where messages have been written.
    tip: Offset,
    /// Why there will be no more.
    over: Option<Option<ReadError>>,
}

#[derive(Debug)]
struct Piece {
    start: Offset,
    end: Offset,
    bytes: Bytes,
    taken: usize,
}

/// Bytes that count for as long as anybody holds them.
struct Counted {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Ring {
    /// Adds the messages from the tip to `end`. Where there is no memory for them, nothing is kept, and who follows
    /// reads the log.
    fn push(&mut self, end: Offset, bytes: Vec<u8>, memory: &Arc<Semaphore>) {
        let start = std::mem::replace(&mut self.tip, end);
        if bytes.is_empty() {
            return;
        }
        let taken = bytes.capacity();
        while !self.pieces.is_empty() && self.taken + taken > FEED_BYTES_PER_STREAM {
            self.forget_oldest();
        }
        let count = u32::try_from(taken).expect("a piece is a little longer than a message at most");
        loop {
            match Arc::clone(memory).try_acquire_many_owned(count) {
                Ok(permit) => {
                    self.taken += taken;
                    let bytes = Bytes::from_owner(Counted { bytes, _permit: permit });
                    return self.pieces.push_back(Piece { start, end, bytes, taken });
                }
                Err(_) if self.pieces.is_empty() => return,
                Err(_) => self.forget_oldest(),
            }
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(piece) = self.pieces.pop_front() {
            self.taken -= piece.taken;
        }
    }
}

struct Task {
    reader: StreamReader,
    written: Option<Separator>,
    ring: watch::Sender<Ring>,
    memory: Arc<Semaphore>,
    env: Env,
}

impl Task {
    async fn run(self, stopping: CancellationToken) {
        let over = tokio::select! {
            biased;
            () = stopping.cancelled() => None,
            failed = self.follow() => Some(failed),
        };
        if let Some(error) = over.as_ref().filter(|error| !is_expected(error)) {
            tracing::warn!(%error, stream = %self.reader.stream().name(), "what is followed breaks off");
        }
        self.ring.send_modify(|ring| ring.over = Some(over));
    }

    /// Until the stream cannot be followed any more: why.
    async fn follow(&self) -> ReadError {
        loop {
            let failed = match self.written {
                Some(separator) => self.write(separator).await,
                None => self.tell().await,
            };
            match failed {
                Ok(never) => match never {},
                // Whoever waits at the tip has missed nothing, and the next one to ask would fail like this one.
                Err(
                    ReadError::Unusable(Unusable::Storage(_) | Unusable::TimedOut) | ReadError::Overloaded,
                ) => {
                    self.env.clock.sleep(FEED_AGAIN).await;
                }
                Err(error) => return error,
            }
        }
    }

    async fn tell(&self) -> Result<std::convert::Infallible, ReadError> {
        loop {
            let tip = self.ring.borrow().tip;
            self.reader.until_beyond(tip).await?;
            let tail = self.reader.tail().next_offset();
            self.ring.send_modify(|ring| ring.tip = tail);
            self.pace().await;
        }
    }

    async fn write(&self, separator: Separator) -> Result<std::convert::Infallible, ReadError> {
        let tip = self.ring.borrow().tip;
        let mut replay = Replay::new(&self.reader, tip, Offset(u64::MAX), separator).await?;
        loop {
            self.reader.until_beyond(replay.place()).await?;
            while self.write_burst(&mut replay).await? {
                tokio::task::yield_now().await;
            }
            self.pace().await;
        }
    }

    /// Publishes what there is by now, but not too much at once. Whether there is more.
    async fn write_burst(&self, replay: &mut Replay) -> Result<bool, ReadError> {
        let (mut pieces, mut bytes, mut more) = (Vec::new(), 0, true);
        while more && bytes < FEED_BURST_BYTES {
            let mut out = Vec::new();
            let mut room = Room { bytes: FEED_PIECE_BYTES, messages: u64::MAX };
            while more && out.len() < room.bytes {
                more = match replay.step(None, &mut room, &mut out).await {
                    Ok(more) => more,
                    // What has been written is published; who writes next meets the same error.
                    Err(_) if !out.is_empty() || !pieces.is_empty() => false,
                    Err(error) => return Err(error),
                };
            }
            bytes += out.len();
            pieces.push((replay.place(), out));
        }
        self.ring.send_if_modified(|ring| {
            let tip = ring.tip;
            for (end, out) in pieces {
                ring.push(end, out, &self.memory);
            }
            ring.tip > tip
        });
        Ok(more)
    }

    async fn pace(&self) {
        // The feed itself holds one.
        let followers = u32::try_from(self.ring.receiver_count().saturating_sub(1)).unwrap_or(u32::MAX);
        let pace = FEED_PACE_PER_FOLLOWER.saturating_mul(followers).min(FEED_PACE_LONGEST);
        match pace.checked_sub(TIMER_TICK) {
            Some(pace) => self.env.clock.sleep(pace).await,
            // Where few follow, what a piece costs is little, and a timer would be late.
            None => tokio::task::yield_now().await,
        }
    }
}

#[cfg(test)]
mod tests;
