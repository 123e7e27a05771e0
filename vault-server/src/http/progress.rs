//! Requests that share one connection: whether there are any, and whether the client takes what they answer.
//!
//! With HTTP/1.1 a client that takes nothing stops the connection's writes, which have a time-out of their own. With
//! HTTP/2 it can stop one answer alone. Then nobody asks that answer's body for its next piece.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::env::Env;
use crate::limits::{PROGRESS_BYTES, WRITE_STALL};

/// How many requests and pieces are noted before those that are over are looked for.
const MANY: usize = 1_024;

/// The requests of one connection.
pub(crate) struct Progress {
    env: Env,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Default)]
struct Noted {
    /// How many requests there have been.
    begun: u64,
    requests: Vec<Weak<Request>>,
    pieces: Vec<Weak<Piece>>,
}

/// A request. It is over when its answer has been taken to the last byte.
struct Request {
    _slot: OwnedSemaphorePermit,
}

/// A piece of an answer that the client has not taken yet.
struct Piece {
    /// When it was handed to the connection.
    since: Duration,
    _request: Arc<Request>,
}

/// Why a connection is to be ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Halted {
    /// A client takes nothing of an answer.
    Stalled,
    /// Nobody has asked for anything for a while.
    Idle,
}

impl Progress {
    pub(crate) fn new(env: Env) -> Self {
        Self { env, noted: Arc::default() }
    }

    /// A request has come. It counts until its answer has been taken, and holds on to `slot` for as long.
    pub(crate) fn begin(&self, slot: OwnedSemaphorePermit) -> Begun {
        let request = Arc::new(Request { _slot: slot });
        let mut noted = lock(&self.noted);
        noted.begun += 1;
        note(&mut noted.requests, &request);
        Begun { env: self.env.clone(), noted: Arc::clone(&self.noted), request }
    }

    /// Ends when a client has taken nothing of an answer for [`WRITE_STALL`], or when there has been no request for `idle`.
    pub(crate) async fn halted(&self, idle: Duration) -> Halted {
        let pause = idle.min(WRITE_STALL) / 4;
        let (mut idle_since, mut begun) = (self.env.clock.monotonic(), 0);
        loop {
            self.env.clock.sleep(pause).await;
            let now = self.env.clock.monotonic();
            let mut noted = lock(&self.noted);
            noted.requests.retain(|request| request.strong_count() > 0);
            noted.pieces.retain(|piece| piece.strong_count() > 0);
            let stalled = |piece: Arc<Piece>| now.saturating_sub(piece.since) >= WRITE_STALL;
            if noted.pieces.iter().filter_map(Weak::upgrade).any(stalled) {
                return Halted::Stalled;
            }
            if !noted.requests.is_empty() || noted.begun != begun {
                (idle_since, begun) = (now, noted.begun);
            } else if now - idle_since >= idle {
                return Halted::Idle;
            }
        }
    }
}

fn lock(noted: &Mutex<Noted>) -> MutexGuard<'_, Noted> {
    noted.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds one, and forgets those that are over where there are many.
fn note<T>(all: &mut Vec<Weak<T>>, one: &Arc<T>) {
    if all.len() >= MANY && all.len() == all.capacity() {
        all.retain(|one| one.strong_count() > 0);
    }
    all.push(Arc::downgrade(one));
}

/// A request that counts.
pub(crate) struct Begun {
    env: Env,
    noted: Arc<Mutex<Noted>>,
    request: Arc<Request>,
}

impl Begun {
    /// The body of its answer.
    pub(crate) fn track(self, body: Body) -> Tracked {
        Tracked { body, rest: Bytes::new(), begun: self }
    }

    /// A piece that counts until its bytes are gone, wherever they are kept until then.
    fn piece(&self, bytes: Bytes) -> Bytes {
        let since = self.env.clock.monotonic();
        let piece = Arc::new(Piece { since, _request: Arc::clone(&self.request) });
        note(&mut lock(&self.noted).pieces, &piece);
        Bytes::from_owner(Taken { bytes, _piece: piece })
    }
}

struct Taken {
    bytes: Bytes,
    _piece: Arc<Piece>,
}

impl AsRef<[u8]> for Taken {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body in pieces so small that even a slow client takes one in time.
pub(crate) struct Tracked {
    body: Body,
    /// What has not been handed over of the last frame.
    rest: Bytes,
    begun: Begun,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                ended => return Poll::Ready(ended),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let length = self.rest.len().min(PROGRESS_BYTES);
        let bytes = self.rest.split_to(length);
        let piece = self.begun.piece(bytes);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_immediate;
    use http_body_util::BodyExt;
    use tokio::sync::Semaphore;

    use super::*;

    const IDLE: Duration = Duration::from_secs(120);
    const LATER: Duration = Duration::from_secs(1_000);

    fn begin(progress: &Progress) -> Begun {
        progress.begin(Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_has_nothing_to_say_yet_is_neither_stalled_nor_idle() {
        let env = Env::controlled(1);
        let progress = Progress::new(env.clone());
        let silence = futures::stream::pending::<Result<Bytes, axum::Error>>();
        let mut waits = begin(&progress).track(Body::from_stream(silence));
        assert!(poll_immediate(waits.frame()).await.is_none());
        assert!(env.timeout(LATER, progress.halted(IDLE)).await.is_err());
        drop(waits);
        assert_eq!(env.timeout(2 * IDLE, progress.halted(IDLE)).await, Ok(Halted::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_stalls_until_its_bytes_are_taken_also_the_last_one() {
        let env = Env::controlled(1);
        let progress = Progress::new(env.clone());
        let mut answer = begin(&progress).track(Body::from(vec![7; 3 * PROGRESS_BYTES]));
        assert_eq!(answer.size_hint().exact(), Some(3 * PROGRESS_BYTES as u64));
        let mut taken = 0;
        for _ in 0..2 {
            // Slow, but it takes one after the other.
            taken += answer.frame().await.unwrap().unwrap().into_data().unwrap().len();
            assert!(env.timeout(WRITE_STALL / 2, progress.halted(IDLE)).await.is_err());
        }
        let last = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(taken + last.len(), 3 * PROGRESS_BYTES);
        assert!(answer.is_end_stream());
        // The connection has the last bytes, and has forgotten the body.
        drop(answer);
        assert_eq!(env.timeout(2 * WRITE_STALL, progress.halted(IDLE)).await, Ok(Halted::Stalled));
        drop(last);
        assert_eq!(env.timeout(2 * IDLE, progress.halted(IDLE)).await, Ok(Halted::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_between_two_looks_keep_a_connection_busy() {
        let env = Env::controlled(1);
        let progress = Progress::new(env.clone());
        let mut halted = std::pin::pin!(progress.halted(IDLE));
        for _ in 0..500 {
            drop(begin(&progress));
            assert!(env.timeout(Duration::from_secs(1), halted.as_mut()).await.is_err());
        }
        assert_eq!(env.timeout(2 * IDLE, halted).await, Ok(Halted::Idle));
    }
}
