//! `GET /streams/{stream}/messages`: a prefix of what follows an offset or a time.
//!
//! | module | subject |
//! |---|---|
//! | `parameters` | what is asked for |
//! | `plan` | where the answer ends, known before its first byte is sent |
//! | `messages` | messages as JSON |
//! | `pump` | the body, block by block |

mod messages;
pub(crate) mod parameters;
mod plan;
mod pump;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, Uri};
use vault_format::ids::Offset;

use crate::http::app::App;
use crate::http::openapi::{Binary, Problems, ReadAnswer, StreamParameter};
use crate::http::problem::Problem;
use crate::http::read::parameters::{From, Parameters, Request};
use crate::http::read::plan::Plan;
use crate::http::request::StreamPath;
use crate::log::error::ReadError;
use crate::log::reading::StreamReader;

const NEXT_OFFSET: HeaderName = HeaderName::from_static("message-vault-next-offset");
const END_OFFSET: HeaderName = HeaderName::from_static("message-vault-end-offset");
const FIRST_OFFSET: HeaderName = HeaderName::from_static("message-vault-first-offset");

/// What an answer says besides its messages.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    next: Offset,
    end: Offset,
    first: Offset,
}

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
            (Binary = "application/vnd.messagevault.batches"),
        )),
        Problems,
    )
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let request = Request::parse(&uri, &headers)?;
    let reader = app.vault.readable(&name).await?.reader(request.freshness).await?;
    let start = start(&reader, &request).await?;
    let empty = start >= reader.tail().next_offset() && request.to.is_none_or(|to| start < to);
    if empty && !request.wait.is_zero() {
        tokio::select! {
            waited = reader.wait_beyond(start, request.wait) => waited?,
            () = app.stopping.cancelled() => {}
        }
    }
    let end = reader.tail().next_offset();
    let plan = Plan::new(&reader, &request, start, end).await?;
    let extent = Extent { next: plan.end, end, first: reader.first_offset() };
    let mut response = Response::new(pump::body(reader, plan, request.format, extent).await?);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(request.format.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(NEXT_OFFSET, extent.next.0.into());
    headers.insert(END_OFFSET, extent.end.0.into());
    headers.insert(FIRST_OFFSET, extent.first.0.into());
    Ok(response)
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
