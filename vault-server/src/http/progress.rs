//! Requests that share one connection: whether there are any, and whether the client takes what they answer.
//!
//! With HTTP/1.1 a client that takes nothing stops the connection's writes, which have a time-out of their own. With
//! HTTP/2 it can stop one answer alone. Then nobody asks that answer's body for its next piece.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::env::Env;
use crate::limits::WRITE_STALL;

/// No piece waits to be taken.
const NONE: u64 = 0;

/// The requests of one connection.
pub(crate) struct Progress {
    env: Env,
    requests: Mutex<Vec<Weak<Handed>>>,
}

/// When the client was last handed a piece of an answer and has not come back for more, in ms, at least 1; or [`NONE`].
#[derive(Default)]
struct Handed(AtomicU64);

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
        Self { env, requests: Mutex::new(Vec::new()) }
    }

    /// A request has come. It counts until what is answered here is dropped.
    pub(crate) fn begin(&self) -> Begun {
        let handed = Arc::new(Handed::default());
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&handed));
        Begun { env: self.env.clone(), handed }
    }

    /// Ends when a client has taken nothing of an answer for [`WRITE_STALL`], or when there has been no request for `idle`.
    pub(crate) async fn halted(&self, idle: Duration) -> Halted {
        let pause = idle.min(WRITE_STALL) / 4;
        let mut idle_since = self.env.clock.monotonic();
        loop {
            self.env.clock.sleep(pause).await;
            let now = self.env.clock.monotonic();
            match self.look(now) {
                Look { stalled: true, .. } => return Halted::Stalled,
                Look { busy: true, .. } => idle_since = now,
                _ if now - idle_since >= idle => return Halted::Idle,
                _ => {}
            }
        }
    }

    fn look(&self, now: Duration) -> Look {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.retain(|request| request.strong_count() > 0);
        let limit = as_ms(WRITE_STALL);
        let stalled = requests.iter().filter_map(Weak::upgrade).any(|handed| {
            let at = handed.0.load(Ordering::Relaxed);
            at != NONE && as_ms(now).saturating_sub(at) >= limit
        });
        Look { stalled, busy: !requests.is_empty() }
    }
}

struct Look {
    stalled: bool,
    busy: bool,
}

fn as_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A request that counts.
pub(crate) struct Begun {
    env: Env,
    handed: Arc<Handed>,
}

impl Begun {
    /// The body of its answer, which holds on to the request's slot until it has been sent.
    pub(crate) fn track(self, body: Body, slot: OwnedSemaphorePermit) -> Tracked {
        Tracked { body, begun: self, _slot: slot }
    }
}

/// A body that notes when a piece of it was handed over, and when the next one is asked for.
pub(crate) struct Tracked {
    body: Body,
    begun: Begun,
    _slot: OwnedSemaphorePermit,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let waits_for = match &polled {
            Poll::Ready(Some(Ok(_))) => as_ms(self.begun.env.clock.monotonic()).max(1),
            _ => NONE,
        };
        self.begun.handed.0.store(waits_for, Ordering::Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_immediate;
    use http_body_util::BodyExt;
    use tokio::sync::Semaphore;

    use super::*;

    const IDLE: Duration = Duration::from_secs(120);

    fn tracked(progress: &Progress, body: Body) -> Tracked {
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        progress.begin().track(body, slot)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_stalls_and_one_that_waits_does_not() {
        let env = Env::controlled(1);
        let progress = Progress::new(env.clone());
        // It has nothing to say yet: that is not the client's fault.
        let mut waits =
            tracked(&progress, Body::from_stream(futures::stream::pending::<Result<Bytes, axum::Error>>()));
        assert!(poll_immediate(waits.frame()).await.is_none());
        assert!(env.timeout(10 * IDLE, progress.halted(IDLE)).await.is_err());

        let pieces = futures::stream::repeat_with(|| Ok::<_, axum::Error>(Bytes::from_static(b"x")));
        let mut taken = tracked(&progress, Body::from_stream(pieces));
        for _ in 0..10 {
            taken.frame().await.unwrap().unwrap();
            assert!(env.timeout(WRITE_STALL / 2, progress.halted(IDLE)).await.is_err());
        }
        let halted = env.timeout(2 * WRITE_STALL, progress.halted(IDLE)).await;
        assert_eq!(halted, Ok(Halted::Stalled));
        drop((waits, taken));
        assert_eq!(env.timeout(2 * IDLE, progress.halted(IDLE)).await, Ok(Halted::Idle));
    }
}
