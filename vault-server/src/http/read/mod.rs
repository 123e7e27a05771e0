//! `GET /streams/{stream}/messages`: a prefix of what follows an offset or a time.
//!
//! | module | subject |
//! |---|---|
//! | `parameters`, `filter` | what is asked for |
//! | `plan` | where an answer ends, known before its first byte is sent |
//! | `messages`, `extent` | messages as JSON, and what stands around them |
//! | `pump` | a planned body, block by block |
//! | `filtered` | an answer that is looked together before it is sent |
//! | `follow`, `feed` | an answer without an end; what is written once for all who follow a stream |
//! | `leave` | whether who follows still may |
//! | `replay` | reading forward, for these two |
//! | `caching` | answers that never change |

pub(crate) mod caching;
mod extent;
pub(crate) mod feed;
mod filter;
mod filtered;
mod follow;
mod leave;
mod messages;
pub(crate) mod parameters;
mod plan;
mod pump;
mod replay;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response, StatusCode};
use vault_format::ids::Offset;
use vault_format::names::StreamName;

use crate::http::app::App;
use crate::http::openapi::{Binary, Problems, ReadAnswer, StreamParameter};
use crate::http::problem::{Code, Problem};
use crate::http::read::caching::Fixed;
use crate::http::read::extent::Extent;
use crate::http::read::leave::Leave;
use crate::http::read::parameters::{Format, From, Parameters, Request};
use crate::http::read::plan::Plan;
use crate::http::request::StreamPath;
use crate::limits::BEYOND_TAIL_WAIT;
use crate::log::error::{ReadError, Unusable};
use crate::log::reading::StreamReader;
use crate::log::stream::Freshness;

/// Answers messages.
#[utoipa::path(
    get,
    path = "/streams/{stream}/messages",
    operation_id = "read_messages",
    tag = "messages",
    params(StreamParameter, Parameters),
    responses(
        (status = OK, description = "A prefix of what follows", headers(
            ("Message-Vault-Next-Offset" = u64, description = "Where to go on"),
            ("Message-Vault-End-Offset" = u64, description = "Where the stream ends"),
            ("Message-Vault-First-Offset" = u64, description = "The first offset that is kept"),
        ), content(
            (ReadAnswer = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/event-stream"),
            (Binary = "application/vnd.messagevault.batches"),
        )),
        (status = NO_CONTENT, description = "An event stream with `to` has nothing left: do not come again"),
        (status = NOT_MODIFIED, description = "The answer is still the one that `If-None-Match` names"),
        Problems,
    )
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    asked: axum::extract::Request,
) -> Result<Response<Body>, Problem> {
    let (asked, _) = asked.into_parts();
    let request = Request::parse(&asked.uri, &asked.headers)?;
    let end = app.env.clock.monotonic() + app.vault.patience();
    loop {
        match answer(&app, &name, &request, &asked).await {
            // Retention has deleted the beginning since it was looked up: it is another one by now. It may delete
            // faster than a read looks, but not for longer than there are segments.
            Err(problem) if problem.code() == Code::BelowFirst && moves(&request) => {
                if app.env.clock.monotonic() >= end {
                    return Err(ReadError::from(Unusable::TimedOut).into());
                }
            }
            answered => return answered,
        }
    }
}

/// Whether the answer begins wherever the stream does.
fn moves(request: &Request) -> bool {
    request.clamp || !matches!(request.from, From::Offset(_))
}

async fn answer(
    app: &Arc<App>,
    name: &StreamName,
    request: &Request,
    asked: &Parts,
) -> Result<Response<Body>, Problem> {
    let (reader, start) = begin(app, name, request).await?;
    let fixed = Fixed::new(reader.stream_id(), request, start, reader.tail().next_offset());
    if let Some(fixed) = fixed.as_ref().filter(|fixed| fixed.is_known(&asked.headers)) {
        return Ok(fixed.not_modified());
    }
    if request.format == Format::Events && request.to.is_some_and(|to| start >= to) {
        return Ok(nothing_left());
    }
    let content_type = HeaderValue::from_static(request.format.content_type());
    let mut answer = if request.follow {
        let extent =
            Extent { next: None, bounds: Some((reader.first_offset(), reader.tail().next_offset())) };
        let leave = Leave::new(app, asked.clone());
        let body = follow::body(Arc::clone(app), reader, request.clone(), start, leave);
        Answer { body, extent, fixed: None }
    } else if request.filter.is_empty() {
        planned(app, reader, request, start, fixed).await?
    } else {
        let found = filtered::collect(app, &reader, request, start).await?;
        let fixed = fixed.filter(|_| found.complete);
        let extent = extent(&reader, found.next, reader.tail().next_offset(), fixed.as_ref());
        Answer { body: found.into_body(&extent), extent, fixed }
    };
    let mut response = Response::new(std::mem::take(&mut answer.body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    caching::insert(answer.fixed.as_ref(), headers);
    answer.extent.insert(headers);
    Ok(response)
}

/// An EventSource comes again whenever its stream has ended, unless it is told that there is no content.
fn nothing_left() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    caching::insert(None, response.headers_mut());
    response
}

struct Answer {
    body: Body,
    extent: Extent,
    fixed: Option<Fixed>,
}

/// An answer whose end is known before it is sent.
async fn planned(
    app: &App,
    reader: StreamReader,
    request: &Request,
    start: Offset,
    fixed: Option<Fixed>,
) -> Result<Answer, Problem> {
    let empty = start >= reader.tail().next_offset() && request.to.is_none_or(|to| start < to);
    if empty && !request.wait.is_zero() {
        tokio::select! {
            waited = reader.wait_beyond(start, request.wait) => waited?,
            () = app.stopping.cancelled() => {}
        }
    }
    let end = reader.tail().next_offset();
    let plan = Plan::new(&reader, request, start, end).await?;
    let fixed = fixed.filter(|_| !plan.broken_off);
    let extent = extent(&reader, plan.end, end, fixed.as_ref());
    Ok(Answer { body: pump::body(reader, plan, request.format, extent).await?, extent, fixed })
}

/// What stays the same says nothing of what does not.
fn extent(reader: &StreamReader, next: Offset, end: Offset, fixed: Option<&Fixed>) -> Extent {
    let bounds = if fixed.is_some() { None } else { Some((reader.first_offset(), end)) };
    Extent { next: Some(next), bounds }
}

/// The offset at which the answer begins, and what reads from there.
async fn begin(app: &App, name: &StreamName, request: &Request) -> Result<(StreamReader, Offset), ReadError> {
    let stream = app.vault.readable(name).await?;
    let reader = stream.reader(request.freshness).await?;
    let beyond = match start(&reader, request).await {
        Err(beyond @ ReadError::BeyondTail { .. }) => beyond,
        begun => return begun.map(|start| (reader, start)),
    };
    // Who reads from a server that follows sees what is stored before the leader knows that it is; and what this server
    // knows of the tail may be a moment old.
    let From::Offset(Offset(wanted @ 1..)) = request.from else { return Err(beyond) };
    let reader = stream.reader(Freshness::Strong).await?;
    let is_on_its_way = reader.is_on_its_way(Offset(wanted - 1));
    if is_on_its_way {
        reader.wait_beyond(Offset(wanted - 1), BEYOND_TAIL_WAIT).await?;
    }
    match start(&reader, request).await {
        // It may be stored: who has seen it there is told to come again, and not that it does not exist.
        Err(ReadError::BeyondTail { .. }) if is_on_its_way => Err(Unusable::TimedOut.into()),
        Err(ReadError::BeyondTail { end_offset }) => Err(reader.beyond_tail(end_offset)),
        begun => begun.map(|start| (reader, start)),
    }
}

/// The offset at which the answer begins.
async fn start(reader: &StreamReader, request: &Request) -> Result<Offset, ReadError> {
    let (first_offset, end_offset) = (reader.first_offset(), reader.tail().next_offset());
    match request.from {
        From::Earliest => Ok(first_offset),
        From::Latest => Ok(end_offset),
        From::Time(time) => Ok(reader.offset_at(time).await?.max(first_offset)),
        From::Offset(offset) if offset < first_offset && request.clamp => Ok(first_offset),
        From::Offset(offset) if offset < first_offset => Err(ReadError::BelowFirst { first_offset }),
        From::Offset(offset) if offset > end_offset => Err(ReadError::BeyondTail { end_offset }),
        From::Offset(offset) => Ok(offset),
    }
}
