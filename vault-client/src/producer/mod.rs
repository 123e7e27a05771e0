//! The producer: messages are buffered, batched, sent in order, and sent again until they are stored once.
//!
//! ```text
//!   send -> [ run that still grows ] -> [ ready ] [ ready ] -> in flight, at most 5 -> acknowledged
//!           at most 512 KiB, or 5 ms     in order              numbered 7, 8, 9 ...
//! ```
//!
//! | module | subject |
//! |---|---|
//! | `builder` | how a producer is made |
//! | `queue` | what waits to be sent, cut into runs. Pure |
//! | `delivery` | one run, sent until it is stored or cannot be |
//! | `sender` | the task: several deliveries at once, settled in order |
//! | `error` | why a message was not acknowledged |
//!
//! A producer ends with its first request that fails for good: what came behind it is not sent, since that would break
//! the order. Another producer may be made then.

mod builder;
mod delivery;
mod error;
mod queue;
mod sender;
#[cfg(test)]
mod tests;

use std::future::IntoFuture;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use vault_format::ids::{Offset, Timestamp};
use vault_format::limits::{MAX_OFFSET, MAX_RUN_BYTES};

pub use self::builder::ProducerBuilder;
pub use self::error::SendError;
use self::queue::{Outcome, Pending, Queue};
use crate::error::SideEffects;
use crate::limits::MESSAGE_OVERHEAD_BYTES;
use crate::message::Message;
use crate::parts::{LAST_PART, PART, PART_BITS, PART_HEADER, Part, pieces};
use crate::run::Run;

/// What a producer and its task share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Bytes that may still be buffered. Closed when the producer ends.
    room: Semaphore,
    /// Tells the task to look.
    wake: Notify,
    /// How many runs are acknowledged or have failed.
    settled_runs: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    /// How many runs have been begun or added.
    pushed_runs: u64,
    /// Why nothing more is taken.
    ended: Option<SendError>,
    closing: bool,
    report: Report,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn why_ended(&self) -> SendError {
        let closed = SendError::Closed { side_effects: SideEffects::None };
        let ended = self.state().ended.clone();
        // What fails because of it was never sent.
        match ended.unwrap_or(closed) {
            SendError::Request { error, .. } | SendError::AfterFailure { error, .. } => {
                SendError::AfterFailure { error, side_effects: SideEffects::None }
            }
            other => other,
        }
    }
}

/// How many messages a producer has seen through. Parts of long values count each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// They are stored.
    pub acknowledged: u64,
    /// They are not stored, nor will be.
    pub not_stored: u64,
    /// They may be stored or not: read the stream to find out.
    pub unknown: u64,
    /// The offset behind the last acknowledged message.
    pub next_offset: Option<Offset>,
    /// The failure that ended the producer.
    pub failure: Option<SendError>,
}

/// Sends messages to one stream, in order. Dropping it gives up what is not acknowledged yet; [`Producer::close`] does not.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    message_bytes: usize,
    value_bytes: usize,
    task: JoinHandle<()>,
}

/// What becomes of a message. May be awaited, or dropped by who does not want to know.
#[derive(Clone, Debug)]
pub struct Receipt {
    outcome: Arc<Outcome>,
    index: u32,
}

/// Where a message was stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Acknowledged {
    /// Its offset.
    pub offset: Offset,
    /// When it was appended, in ms since 1970, UTC.
    pub timestamp: Timestamp,
}

impl Receipt {
    /// Waits until the message is stored, or will not be.
    pub async fn wait(&self) -> Result<Acknowledged, SendError> {
        let appended = self.outcome.wait().await.clone()?;
        let offset = Offset(appended.first_offset.0 + u64::from(self.index));
        Ok(Acknowledged { offset, timestamp: appended.timestamp })
    }
}

impl IntoFuture for Receipt {
    type Output = Result<Acknowledged, SendError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.wait().await })
    }
}

impl Producer {
    /// Takes a message in. Waits while the buffer is full; what comes back tells when the message is stored. Messages of
    /// one caller are stored in the order of the calls.
    ///
    /// A value longer than 3 MiB waits for its first part to be stored. Dropping the call before it is done may leave such
    /// a value behind unfinished, which no reader shows.
    pub async fn send(&self, message: impl Into<Message>) -> Result<Receipt, SendError> {
        let message = message.into();
        if message.attributes & PART_BITS != 0 {
            return Err(vault_format::record::InvalidRecord::Reserved.into());
        }
        if message.value.len() > self.message_bytes {
            return self.send_long(&message).await;
        }
        let encoded_bytes = most_encoded_bytes(&message, message.value.len());
        let buffer_bytes = encoded_bytes + MESSAGE_OVERHEAD_BYTES;
        // What no request could hold is refused below and not waited for.
        if encoded_bytes <= MAX_RUN_BYTES {
            self.make_room(buffer_bytes).await?;
        }
        let pushed = message.with_format(&message.value, message.attributes, None, |message| {
            message.check(self.message_bytes)?;
            let mut state = self.shared.state();
            if state.ended.is_some() || state.closing {
                drop(state);
                return Err(self.shared.why_ended());
            }
            let (outcome, index, look) =
                state.queue.push(message, encoded_bytes, buffer_bytes, Instant::now())?;
            if index == 0 {
                state.pushed_runs += 1;
            }
            Ok((Receipt { outcome, index }, look))
        });
        match pushed {
            Ok((receipt, look)) => {
                if look {
                    self.shared.wake.notify_one();
                }
                Ok(receipt)
            }
            Err(error) => {
                if encoded_bytes <= MAX_RUN_BYTES {
                    self.shared.room.add_permits(buffer_bytes);
                }
                Err(error)
            }
        }
    }

    async fn make_room(&self, bytes: usize) -> Result<(), SendError> {
        let permits = u32::try_from(bytes).expect("a request is a few MiB long");
        match self.shared.room.acquire_many(permits).await {
            Ok(permit) => {
                permit.forget();
                Ok(())
            }
            Err(_) => Err(self.shared.why_ended()),
        }
    }

    /// A value that is longer than one message: as many parts as fit go into one request, and if others follow, they name
    /// the offset of the first.
    async fn send_long(&self, message: &Message) -> Result<Receipt, SendError> {
        let bytes = message.value.len();
        if bytes > self.value_bytes {
            return Err(SendError::ValueTooLong { bytes, limit: self.value_bytes });
        }
        // The last part has the message's own headers, and the others are not longer.
        let part_bytes = most_encoded_bytes(message, self.message_bytes) + MESSAGE_OVERHEAD_BYTES;
        let parts_at_once = (MAX_RUN_BYTES / part_bytes).max(1);
        let all: Vec<_> = pieces(&message.value, self.message_bytes).collect();
        let count = u32::try_from(all.len()).expect("fewer parts than bytes, and those are limited");
        let bare = Message { headers: Vec::new(), ..message.clone() };
        // All that can be wrong with it is seen before anything is sent.
        let longest = Part { index: count - 1, count, bytes: bytes as u64, first: Some(Offset(MAX_OFFSET)) };
        message.with_format(&[], message.attributes, Some((PART_HEADER, &longest.to_string())), |last| {
            last.check(self.message_bytes)
        })?;
        let (mut index, mut first) = (0, None);
        let mut receipt = None;
        for group in all.chunks(parts_at_once) {
            let mut run = Run::new();
            for piece in group {
                let last = index + 1 == count;
                let header = Part { index, count, bytes: bytes as u64, first }.to_string();
                let attributes = message.attributes | PART | if last { LAST_PART } else { 0 };
                let part = if last { message } else { &bare };
                part.with_format(piece, attributes, Some((PART_HEADER, &header)), |part| {
                    run.push_format(part)
                })?;
                index += 1;
            }
            let sent = self.send_run(run).await?;
            if first.is_none() && index < count {
                first = Some(Receipt { index: 0, ..sent.clone() }.wait().await?.offset);
            }
            receipt = Some(sent);
        }
        Ok(receipt.expect("a long value has parts"))
    }

    /// Sends a run in a request of its own; the receipt is of its last message.
    async fn send_run(&self, run: Run) -> Result<Receipt, SendError> {
        let buffer_bytes = run.bytes() + run.len() as usize * MESSAGE_OVERHEAD_BYTES;
        self.make_room(buffer_bytes).await?;
        let index = run.len() - 1;
        let pending = Pending::new(run, buffer_bytes);
        let outcome = pending.promise.outcome();
        {
            let mut state = self.shared.state();
            if state.ended.is_some() || state.closing {
                drop(state);
                self.shared.room.add_permits(buffer_bytes);
                return Err(self.shared.why_ended());
            }
            state.queue.push_run(pending);
            state.pushed_runs += 1;
        }
        self.shared.wake.notify_one();
        Ok(Receipt { outcome, index })
    }

    /// Sends what waits, and waits until all that was taken in before is stored. Fails with what ended the producer.
    pub async fn flush(&self) -> Result<(), SendError> {
        let until = {
            let mut state = self.shared.state();
            state.queue.close_open();
            state.pushed_runs
        };
        self.shared.wake.notify_one();
        let mut settled = self.shared.settled_runs.subscribe();
        // The sender lives as long as the producer.
        let _ = settled.wait_for(|settled| *settled >= until).await;
        self.shared.state().ended.clone().map_or(Ok(()), Err)
    }

    /// Takes nothing more in, sends what waits, and tells what was acknowledged and what was not.
    pub async fn close(self) -> Report {
        self.shared.state().closing = true;
        let _ = self.flush().await;
        self.shared.room.close();
        self.report()
    }

    /// How many messages were acknowledged and how many were not, up to now.
    #[must_use]
    pub fn report(&self) -> Report {
        self.shared.state().report.clone()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.give_up(&SendError::Closed { side_effects: SideEffects::None });
    }
}

/// How long a message is at most once it is encoded, with a value of so many bytes and the header of a part.
fn most_encoded_bytes(message: &Message, value_bytes: usize) -> usize {
    const LENGTHS: usize = 40;
    const PER_HEADER: usize = 6;
    const PART_HEADER_BYTES: usize = 80;
    let headers: usize =
        message.headers.iter().map(|(name, value)| name.len() + value.len() + PER_HEADER).sum();
    LENGTHS + PART_HEADER_BYTES + message.key.len() + headers + value_bytes
}
