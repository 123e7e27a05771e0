//! Several streams read as one, in the order of their messages' ids: by time, then by offset.
//!
//! ```text
//!   orders    41 ------ 44 ---------- 52 ...        -> 41 42 43 44 47 52 ...
//!   payments       42 43 ------- 47      (waits)
//! ```
//!
//! Streams that are read to an end come out in strict order. Of streams that are followed a message comes out once every
//! other stream has shown a later one, or once all that has shown none waits at its end and the message has been held
//! back for [`Merged::patience`]: what was appended elsewhere at the same time has arrived by then. Timestamps are those of
//! the leaders' clocks, so the order is right within the drift between them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::StreamExt;
use thiserror::Error;
use tokio::time::{Instant, Sleep};
use vault_format::ids::Offset;

use crate::limits::MERGE_PATIENCE;
use crate::message::Received;
use crate::reader::{ReadError, Reader};

/// Several readers as one [`Stream`]. Ends when all of them have ended. Nothing follows an error.
#[derive(Debug)]
pub struct Merged {
    inputs: Vec<Input>,
    patience: Duration,
    /// Wakes up when the earliest message has been held back for long enough.
    timer: Pin<Box<Sleep>>,
    failed: bool,
}

/// A message and the stream that it stands in.
#[derive(Clone, Debug)]
pub struct MergedMessage {
    /// The name that was given to the reader.
    pub stream: Arc<str>,
    /// The message.
    pub message: Received,
}

/// Reading one of the streams ended.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{stream}: {error}")]
pub struct MergeError {
    /// The name that was given to the reader.
    pub stream: Arc<str>,
    /// Why.
    pub error: ReadError,
}

#[derive(Debug)]
struct Input {
    name: Arc<str>,
    reader: Reader,
    /// The next message, and since when it is held back.
    head: Option<(Received, Instant)>,
    ended: bool,
    /// Where to go on behind the last message that came out.
    next_offset: Option<Offset>,
}

impl Merged {
    /// Merges readers, each with a name to know its messages by. Called in a runtime, whose time it waits by.
    #[must_use]
    pub fn new<N: Into<Arc<str>>>(readers: impl IntoIterator<Item = (N, Reader)>) -> Self {
        let input = |(name, reader): (N, Reader)| Input {
            name: name.into(),
            reader,
            head: None,
            ended: false,
            next_offset: None,
        };
        Self {
            inputs: readers.into_iter().map(input).collect(),
            patience: MERGE_PATIENCE,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            failed: false,
        }
    }

    /// How long a message is held back for streams that wait at their ends: 250 ms unless told otherwise.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Where to go on in each stream behind what came out, in the order in which the readers were given. `None` where it
    /// is not known yet where reading begins.
    pub fn next_offsets(&self) -> impl Iterator<Item = (&str, Option<Offset>)> {
        self.inputs.iter().map(|input| (&*input.name, input.next_offset.or(input.start())))
    }

    /// The input with the earliest message, and since when that is held back.
    fn earliest(&self) -> Option<(usize, Instant)> {
        let heads = self.inputs.iter().enumerate().filter_map(|(index, input)| {
            let (message, since) = input.head.as_ref()?;
            Some((message.id(), index, *since))
        });
        heads.min().map(|(_, index, since)| (index, since))
    }
}

impl Input {
    fn start(&self) -> Option<Offset> {
        match &self.head {
            Some((message, _)) => Some(message.offset()),
            None => self.reader.next_offset(),
        }
    }
}

impl Stream for Merged {
    type Item = Result<MergedMessage, MergeError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.failed {
            return Poll::Ready(None);
        }
        for input in this.inputs.iter_mut().filter(|input| input.head.is_none() && !input.ended) {
            match input.reader.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(message))) => input.head = Some((message, Instant::now())),
                Poll::Ready(Some(Err(error))) => {
                    this.failed = true;
                    return Poll::Ready(Some(Err(MergeError { stream: Arc::clone(&input.name), error })));
                }
                Poll::Ready(None) => input.ended = true,
                Poll::Pending => {}
            }
        }
        let Some((earliest, since)) = this.earliest() else {
            let over = this.inputs.iter().all(|input| input.ended);
            return if over { Poll::Ready(None) } else { Poll::Pending };
        };
        let mut silent = this.inputs.iter().filter(|input| input.head.is_none() && !input.ended).peekable();
        if silent.peek().is_some() {
            // One that does not wait at its end may have an earlier message on its way, however long that takes.
            if !silent.all(|input| input.reader.waits()) {
                return Poll::Pending;
            }
            let due = since + this.patience;
            if Instant::now() < due {
                this.timer.as_mut().reset(due);
                if this.timer.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
        }
        let input = &mut this.inputs[earliest];
        let (message, _) = input.head.take().expect("the earliest message is there");
        input.next_offset = Some(Offset(message.offset().0 + 1));
        Poll::Ready(Some(Ok(MergedMessage { stream: Arc::clone(&input.name), message })))
    }
}
