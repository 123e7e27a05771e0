//! What the body of an append is.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName};

use crate::http::append::RECORDS;
use crate::http::append::events::{BATCH, ONE, PREFIX};
use crate::http::problem::{Code, Problem};
use crate::http::request::{media_type, single};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    Json,
    Lines,
    /// One message as it is.
    Plain,
    Records,
    /// One CloudEvent in JSON.
    Event,
    /// A list of CloudEvents in JSON.
    EventBatch,
    /// The data of one CloudEvent, whose attributes are headers.
    BinaryEvent,
}

impl Format {
    /// The format that the headers name. Headers of CloudEvents make any body the data of one, unless its type says
    /// that it holds whole events: then they only repeat what is in it.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let given = single(headers, &CONTENT_TYPE)?;
        let name = given.and_then(|value| value.to_str().ok()).map(media_type).unwrap_or_default();
        let name = name.to_ascii_lowercase();
        let is_event = || headers.keys().map(HeaderName::as_str).any(|name| name.starts_with(PREFIX));
        match name.as_str() {
            ONE => Ok(Self::Event),
            BATCH => Ok(Self::EventBatch),
            other if !other.starts_with("application/cloudevents") && is_event() => Ok(Self::BinaryEvent),
            "application/json" => Ok(Self::Json),
            "application/x-ndjson" => Ok(Self::Lines),
            "application/octet-stream" | "text/plain" => Ok(Self::Plain),
            RECORDS => Ok(Self::Records),
            _ => {
                let detail = format!(
                    "Content-Type `{name}` is not taken; send application/json, application/x-ndjson, text/plain, \
                     application/octet-stream, {ONE}, {BATCH} or {RECORDS}, or any type with the headers of a CloudEvent"
                );
                Err(Problem::new(Code::UnsupportedMediaType, detail))
            }
        }
    }
}
