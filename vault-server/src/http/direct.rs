//! `GET /streams/{stream}/access`: where a stream's messages stand in storage, and leave to read them there, so that a
//! long replay goes to storage and not through the servers.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Json, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use vault_format::ids::Offset;

use crate::http::app::App;
use crate::http::openapi::{Problems, StreamParameter};
use crate::http::problem::{Code, Problem};
use crate::http::request::{StreamPath, query};
use crate::limits::MAX_DIRECT_SEGMENTS;
use crate::log::segments::SegmentExtent;
use crate::log::stream::Freshness;
use crate::storage::{ReadAccess, ReadGrant};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Parameters {
    /// The last segment as well, up to the end known now.
    #[serde(default)]
    live: bool,
    /// Begins with the segment that holds this offset.
    from: Option<u64>,
    /// At most so many segments.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<usize>,
}

/// Where a stream's messages stand in storage, and leave to read them there.
#[derive(Serialize, ToSchema)]
#[schema(as = DirectReadPlan)]
pub(crate) struct Plan {
    name: String,
    id: String,
    first_offset: u64,
    /// The offset behind the segments named here: what `from` must say to get those that follow.
    next_offset: u64,
    end_offset: u64,
    segments: Vec<Segment>,
    container_url: String,
    sas: String,
    /// RFC 3339.
    expires: String,
}

#[derive(Serialize, ToSchema)]
struct Segment {
    /// Without the signature.
    url: String,
    blob: String,
    first_offset: u64,
    next_offset: u64,
    /// The bytes from here on...
    start: u64,
    /// ...and before here hold the segment's batches.
    end: u64,
    sealed: bool,
}

/// Answers the plan.
#[utoipa::path(
    get,
    path = "/streams/{stream}/access",
    operation_id = "plan_direct_reads",
    tag = "messages",
    params(StreamParameter, Parameters),
    responses((status = OK, description = "Where to read, and leave to do so", body = Plan), Problems)
)]
pub(crate) async fn plan(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    uri: Uri,
) -> Result<Response, Problem> {
    let Parameters { live, from, limit } = query(&uri)?;
    let limit = limit.unwrap_or(MAX_DIRECT_SEGMENTS);
    if !(1..=MAX_DIRECT_SEGMENTS).contains(&limit) {
        let detail =
            format!("query parameters: limit is {limit}; it must be from 1 to {MAX_DIRECT_SEGMENTS}");
        return Err(Problem::new(Code::InvalidParameter, detail));
    }
    let stream = app.vault.readable(&name).await?;
    let ReadGrant { container_url, sas, expires } = match stream.read_access().await? {
        ReadAccess::Granted(grant) => grant,
        ReadAccess::None(why) => return Err(Problem::new(Code::NoDirectAccess, why)),
    };
    let reader = stream.reader(Freshness::Recent).await?;
    let (from, end_offset) = (from.map(Offset), reader.tail().next_offset());
    if from > Some(end_offset) {
        return Err(reader.beyond_tail(end_offset).into());
    }
    let (first_offset, extents) = reader.segments(from, live, limit).await?;
    let next_offset = extents.last().map_or(from.unwrap_or(first_offset), |last| last.next_offset);
    let segment = |SegmentExtent { blob, first_offset, next_offset, end, sealed }| Segment {
        url: format!("{container_url}/{blob}"),
        blob,
        first_offset: first_offset.0,
        next_offset: next_offset.0,
        start: 0,
        end: end.0,
        sealed,
    };
    let expires_ms = i64::try_from(expires.0).unwrap_or(i64::MAX);
    let expires = jiff::Timestamp::from_millisecond(expires_ms).unwrap_or(jiff::Timestamp::MAX).to_string();
    tracing::info!(stream = %name, expires, "direct reads are granted");
    let plan = Plan {
        name: name.to_string(),
        id: stream.meta().id.to_string(),
        first_offset: first_offset.0,
        next_offset: next_offset.0,
        end_offset: end_offset.0,
        segments: extents.into_iter().map(segment).collect(),
        container_url: container_url.clone(),
        sas,
        expires,
    };
    // Whoever keeps the answer keeps the signature.
    Ok(([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(plan)).into_response())
}
