//! Reading the body of a request, within limits on its size, its time and the memory of all bodies together.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;

use crate::http::app::App;
use crate::http::problem::{Code, Problem};
use crate::limits::{BODY_TIME, DRAIN_TIME, MAX_DRAINED_BYTES};

/// How much larger than what has arrived a body's buffer may be made at once.
const HEADSTART: usize = 8;

/// A body in memory. Its bytes count against the memory of all bodies until it is dropped.
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// The limit for one body, and the code of the refusal above it.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) bytes: usize,
    pub(crate) code: Code,
}

impl Limit {
    fn exceeded(self) -> Problem {
        Problem::new(self.code, format!("the body may have at most {} bytes", self.bytes))
    }
}

/// Reads a whole body.
pub(crate) async fn receive(
    app: &App,
    headers: &HeaderMap,
    body: &mut Body,
    limit: Limit,
) -> Result<Received, Problem> {
    let announced = content_length(headers);
    if announced.is_some_and(|bytes| bytes > limit.bytes as u64) {
        return Err(limit.exceeded());
    }
    let announced = announced.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(limit.bytes);
    let collected = app.env.timeout(BODY_TIME, collect(app, body, limit, announced)).await;
    collected.map_err(|_| {
        Problem::new(Code::BodyTimeout, format!("the body took longer than {} s", BODY_TIME.as_secs()))
    })?
}

async fn collect(app: &App, body: &mut Body, limit: Limit, announced: usize) -> Result<Received, Problem> {
    let mut first = Bytes::new();
    let mut buffer = Vec::new();
    let mut permit: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(Code::InvalidBody, "the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        let so_far = first.len() + buffer.len() + data.len();
        if so_far > limit.bytes {
            return Err(limit.exceeded());
        }
        let bytes = u32::try_from(data.len()).map_err(|_| limit.exceeded())?;
        let taken = Arc::clone(&app.bodies).try_acquire_many_owned(bytes).map_err(|_| {
            Problem::new(Code::QueueFull, "the bodies of other requests take all memory; try again soon")
        })?;
        match &mut permit {
            Some(permit) => permit.merge(taken),
            None => permit = Some(taken),
        }
        // The usual small body comes in one piece and is used where it was read. More pieces are copied together at
        // once: each of them would hold on to all of the buffer that it was read into.
        if first.is_empty() && buffer.is_empty() {
            first = data;
            continue;
        }
        if buffer.capacity() - buffer.len() < first.len() + data.len() {
            let room = announced.min(HEADSTART * so_far).max(so_far);
            buffer.reserve_exact(room - buffer.len());
        }
        buffer.extend_from_slice(&std::mem::take(&mut first));
        buffer.extend_from_slice(&data);
    }
    let bytes = if buffer.is_empty() { first } else { Bytes::from(buffer) };
    Ok(Received { bytes, permit })
}

/// Throws away what is left of a refused request: a connection that is closed while its client still sends is reset,
/// and the client never reads why.
pub(crate) async fn drain(app: &App, headers: &HeaderMap, body: &mut Body) {
    let waits_for_leave = headers.contains_key(EXPECT);
    if waits_for_leave || content_length(headers).is_some_and(|bytes| bytes > MAX_DRAINED_BYTES as u64) {
        return;
    }
    let draining = async {
        let mut drained = 0;
        while let Some(Ok(frame)) = body.frame().await {
            drained += frame.data_ref().map_or(0, Bytes::len);
            if drained > MAX_DRAINED_BYTES {
                return;
            }
        }
    };
    // Whatever has not come by then is cut off.
    let _ = app.env.timeout(DRAIN_TIME, draining).await;
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
