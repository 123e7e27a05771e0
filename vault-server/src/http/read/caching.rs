//! Answers that never change. What stands below the tail does not, so a range with both ends there may be kept for
//! good, and who has it is told so without a look at storage.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use vault_format::ids::{Offset, StreamId};

use crate::http::read::parameters::{Format, From, Request};

/// Changes with how messages are written, so that nobody takes an old answer for a new one.
const WRITTEN_AS: u32 = 1;

const FOREVER: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");
const NOT_AT_ALL: HeaderValue = HeaderValue::from_static("no-store");

/// The tag of an answer that will be the same bytes whenever it is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Fixed(HeaderValue);

impl Fixed {
    /// `None` where the answer may be another the next time: it has no end of its own below the tail at `tail`, or its
    /// beginning moves with the stream.
    pub(crate) fn new(stream: StreamId, request: &Request, start: Offset, tail: Offset) -> Option<Self> {
        let begins_there = matches!(request.from, From::Offset(offset) if offset == start);
        let to = request.to.filter(|to| *to <= tail && begins_there && !request.follow)?;
        let format = match request.format {
            Format::Json => "json",
            Format::Lines => "lines",
            Format::Batches => "batches",
            Format::Events => return None,
        };
        let (limit, max_bytes) = (request.limit, request.max_bytes);
        let mut tag = format!("\"{WRITTEN_AS}-{stream}-{start}-{to}-{limit}-{max_bytes}-{format}");
        if !request.filter.is_empty() {
            write!(tag, "-{:016x}", request.filter.digest()).expect("text is written to memory");
        }
        tag.push('"');
        Some(Self(tag.try_into().expect("digits, letters and hyphens may stand in a header")))
    }

    /// Whether the client says that it has it.
    pub(crate) fn is_known(&self, headers: &HeaderMap) -> bool {
        let given = headers.get_all(IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
        let mut tags = given.flat_map(|value| value.split(',')).map(str::trim);
        tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == self.0.as_bytes())
    }

    /// The answer to who has it.
    pub(crate) fn not_modified(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        insert(Some(self), response.headers_mut());
        response
    }
}

/// Says how long an answer may be kept.
pub(crate) fn insert(fixed: Option<&Fixed>, headers: &mut HeaderMap) {
    match fixed {
        Some(Fixed(tag)) => {
            headers.insert(ETAG, tag.clone());
            headers.insert(CACHE_CONTROL, FOREVER);
            headers.insert(VARY, HeaderValue::from_static("accept"));
        }
        None => {
            headers.insert(CACHE_CONTROL, NOT_AT_ALL);
        }
    }
}
