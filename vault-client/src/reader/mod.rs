//! The reader: messages in order, from anywhere, through failovers, without gap or repeat.
//!
//! ```text
//!   servers ---- stored batches ----> Source -> checks -> messages -> long values put together -> Stream
//!   storage ---- sealed segments -->
//! ```
//!
//! | module | subject |
//! |---|---|
//! | `batches` | stored batches from the servers, asked for again wherever an answer ends or breaks off |
//! | `direct` | the same from Blob storage |
//! | `decoder` | batches out of bytes, verified. Pure |
//! | `error` | why reading ended |

mod batches;
mod decoder;
mod direct;
mod error;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::{BoxStream, StreamExt};
use vault_format::ids::{Offset, Timestamp};

pub use self::batches::{Batches, Start};
use self::batches::{Options, Place, Source};
pub use self::decoder::{MalformedBatch, Messages, RawBatch};
pub use self::error::{Damage, ReadError};
use crate::client::Client;
use crate::limits::{DEFAULT_VALUE_BYTES, MESSAGES_AT_ONCE};
use crate::message::Received;
use crate::parts::{Joined, Joiner, belongs};

/// How a reader is made; see [`Client::reader`].
#[derive(Clone, Debug)]
pub struct ReaderBuilder {
    options: Options,
    value_bytes: usize,
    parts: bool,
}

impl ReaderBuilder {
    pub(crate) fn new(client: Client, stream: &str) -> Self {
        let retry_time = Some(client.retry_time());
        Self {
            options: Options {
                client,
                stream: stream.to_owned(),
                from: Start::Earliest,
                to: None,
                follow: false,
                clamp: false,
                direct: false,
                retry_time,
            },
            value_bytes: DEFAULT_VALUE_BYTES,
            parts: false,
        }
    }

    /// Where to begin: at an offset, a time, the first message or behind the last.
    #[must_use]
    pub fn from(mut self, from: impl Into<Start>) -> Self {
        self.options.from = from.into();
        self
    }

    /// Where to end: before this offset, if the stream reaches it.
    #[must_use]
    pub fn to(mut self, to: Offset) -> Self {
        self.options.to = Some(to);
        self
    }

    /// Goes on at the end of the stream, and waits for what comes.
    #[must_use]
    pub fn follow(mut self) -> Self {
        self.options.follow = true;
        self
    }

    /// Goes on with the first message that is kept where the wanted ones are deleted. Without it reading ends there with an
    /// error, since messages were missed.
    #[must_use]
    pub fn skip_deleted(mut self) -> Self {
        self.options.clamp = true;
        self
    }

    /// Reads sealed segments from Blob storage, with the leave that the servers give, and through the servers what is not
    /// sealed yet. Where the storage cannot be read so, everything comes through the servers.
    #[must_use]
    pub fn direct(mut self) -> Self {
        self.options.direct = true;
        self
    }

    /// For how long servers that do not answer are tried again, since the last message came: as long as for the client's
    /// other requests, unless told otherwise. `None`: for ever.
    #[must_use]
    pub fn retry_time(mut self, time: Option<Duration>) -> Self {
        self.options.retry_time = time;
        self
    }

    /// The longest value in several parts that is put together: 64 MiB unless told otherwise. So much memory may be taken.
    #[must_use]
    pub fn value_bytes(mut self, bytes: usize) -> Self {
        self.value_bytes = bytes;
        self
    }

    /// Leaves the parts of long values as they are stored, each a message with its own offset ([`crate::parts`]): for who
    /// carries messages elsewhere, one by one.
    #[must_use]
    pub fn parts(mut self) -> Self {
        self.parts = true;
        self
    }

    /// Starts to read messages, once the reader is polled.
    #[must_use]
    pub fn start(self) -> Reader {
        let joiner = (!self.parts).then(|| Joiner::new(self.value_bytes));
        Reader::new(self.options, self.value_bytes, joiner)
    }

    /// Starts to read stored batches in the place of messages.
    #[must_use]
    pub fn batches(self) -> Batches {
        Batches::new(self.options)
    }
}

/// The messages of a stream: a [`Stream`] of them. Ends where it was told to, or at what was the end when reading began;
/// one that follows never ends. Nothing follows an error.
pub struct Reader {
    /// Nobody locks it: that is what lets a `&Reader` be shared between threads.
    chunks: Mutex<BoxStream<'static, Result<Vec<Received>, ReadError>>>,
    ready: std::vec::IntoIter<Received>,
    place: Arc<Mutex<Place>>,
    next_offset: Option<Offset>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("next_offset", &self.next_offset).finish_non_exhaustive()
    }
}

impl Reader {
    fn new(options: Options, value_bytes: usize, joiner: Option<Joiner>) -> Self {
        let source = Source::new(options.clone());
        let place = source.shown();
        let work = Work {
            since: match options.from {
                Start::Time(time) => Some(time),
                Start::Earliest | Start::Latest | Start::Offset(_) => None,
            },
            from: match options.from {
                Start::Offset(offset) => offset,
                Start::Earliest | Start::Latest | Start::Time(_) => Offset::ZERO,
            },
            source,
            options,
            messages: None,
            offset: Offset::ZERO,
            joiner,
            value_bytes,
            failed: None,
        };
        let chunks = futures::stream::unfold(Some(work), async |work| {
            let mut work = work?;
            match work.next().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(work))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        let chunks = Mutex::new(chunks.fuse().boxed());
        Self { chunks, ready: Vec::new().into_iter(), place, next_offset: None }
    }

    /// Where to go on behind the last message that came out: what a consumer keeps to begin there again. `None` before it is
    /// known where reading begins.
    #[must_use]
    pub fn next_offset(&self) -> Option<Offset> {
        self.next_offset.or_else(|| self.place().start)
    }

    /// Where the stream ended when the servers were last asked.
    #[must_use]
    pub fn end_offset(&self) -> Option<Offset> {
        self.place().end
    }

    /// Whether all that the servers have has come out, and they were asked to wait for more.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.ready.as_slice().is_empty() && self.place().waits
    }

    fn place(&self) -> Place {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream for Reader {
    type Item = Result<Received, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(message) = self.ready.next() {
                self.next_offset = Some(Offset(message.offset().0 + 1));
                return Poll::Ready(Some(Ok(message)));
            }
            match unlocked(&mut self.chunks).poll_next_unpin(context) {
                Poll::Ready(Some(Ok(chunk))) => self.ready = chunk.into_iter(),
                Poll::Ready(Some(Err(error))) => {
                    if let ReadError::ValueTooLong { offset, .. } = &error {
                        self.next_offset = Some(Offset(offset.0 + 1));
                    }
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// What is in a mutex, for who alone has it.
fn unlocked<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().unwrap_or_else(PoisonError::into_inner)
}

/// What a reader does when it is polled.
struct Work {
    options: Options,
    source: Source,
    /// The batch in hand, and its offset.
    messages: Option<Messages>,
    offset: Offset,
    /// Messages before this offset are not wanted: they share a batch with one that is, or were taken before.
    from: Offset,
    /// Nor are those before this time, until the first that is not.
    since: Option<Timestamp>,
    /// `None`: parts stay parts.
    joiner: Option<Joiner>,
    value_bytes: usize,
    /// An error that messages in front of it have to leave first.
    failed: Option<ReadError>,
}

impl Work {
    /// The next messages, at least one. `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<Received>>, ReadError> {
        let mut chunk = Vec::new();
        loop {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            let Some(messages) = &mut self.messages else {
                let Some(batch) = self.source.next().await? else { return Ok(None) };
                self.offset = batch.header.base_offset;
                let messages = batch.messages().map_err(|error| malformed(self.offset, error))?;
                self.messages = Some(messages);
                continue;
            };
            let Some(message) = messages.next() else {
                self.messages = None;
                if chunk.is_empty() {
                    continue;
                }
                return Ok(Some(chunk));
            };
            let taken = match message {
                Ok(message) => self.take(message, &mut chunk).await,
                Err(error) => Err(malformed(self.offset, error)),
            };
            if let Err(error) = taken {
                self.failed = Some(error);
                if !chunk.is_empty() {
                    return Ok(Some(chunk));
                }
            } else if chunk.len() >= MESSAGES_AT_ONCE {
                return Ok(Some(chunk));
            }
        }
    }

    async fn take(&mut self, message: Received, chunk: &mut Vec<Received>) -> Result<(), ReadError> {
        let offset = message.offset();
        if self.options.to.is_some_and(|to| offset >= to) {
            return Ok(());
        }
        // Also of what is not wanted parts may be needed.
        let joined = match &mut self.joiner {
            Some(joiner) => joiner.take(message),
            None => Joined::Message(message),
        };
        if offset < self.from {
            return Ok(());
        }
        self.from = Offset(offset.0 + 1);
        let whole = match joined {
            Joined::Pending => return Ok(()),
            Joined::Message(message) => message,
            Joined::TooLong { bytes } => {
                return Err(ReadError::ValueTooLong { offset, bytes, limit: self.value_bytes });
            }
            Joined::Incomplete { first, last } => {
                match read_again(self.options.clone(), first, last, self.value_bytes).await? {
                    Some(message) => message,
                    // Its beginning is deleted, and so the value is.
                    None => return Ok(()),
                }
            }
        };
        if self.since.is_some_and(|since| whole.timestamp() < since) {
            return Ok(());
        }
        self.since = None;
        chunk.push(whole);
        Ok(())
    }
}

/// Reads the parts in front of the last one again.
async fn read_again(
    options: Options,
    first: Offset,
    last: Received,
    value_bytes: usize,
) -> Result<Option<Received>, ReadError> {
    let (from, to) = (Start::Offset(first), Some(last.offset()));
    let options = Options { from, to, follow: false, clamp: false, direct: false, ..options };
    let mut source = Source::new(options);
    let mut joiner = Joiner::new(value_bytes);
    loop {
        let batch = match source.next().await {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(ReadError::BelowFirst { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let offset = batch.header.base_offset;
        for message in batch.messages().map_err(|error| malformed(offset, error))? {
            let message = message.map_err(|error| malformed(offset, error))?;
            let same_stream = message.stream() == last.stream();
            if message.offset() < last.offset() && same_stream && belongs(&message, first) {
                joiner.take(message);
            }
        }
    }
    match joiner.take(last) {
        Joined::Message(message) => Ok(Some(message)),
        _ => Ok(None),
    }
}

fn malformed(offset: Offset, error: impl Into<MalformedBatch>) -> ReadError {
    ReadError::Damaged { offset, reason: Damage::Malformed(error.into()) }
}
