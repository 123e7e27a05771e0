//! What a read asks for.

use std::fmt;
use std::time::Duration;

use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, Uri};
use serde::Deserialize;
use utoipa::IntoParams;
use vault_format::ids::{Offset, Timestamp};

use crate::http::problem::{Code, Problem};
use crate::http::request::{media_type, query};
use crate::limits::{
    DEFAULT_READ_BYTES, DEFAULT_READ_MESSAGES, MAX_JSON_READ_BYTES, MAX_JSON_READ_MESSAGES, MAX_READ_WAIT,
};
use crate::log::stream::Freshness;

/// Stored batches as they stand in storage.
pub(crate) const BATCHES: &str = "application/vnd.messagevault.batches";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// One document.
    Json,
    /// One message a line.
    Lines,
    /// Stored batches.
    Batches,
}

impl Format {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::Batches => BATCHES,
        }
    }

    /// The first of the accepted types that is served.
    fn accepted(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut accepts = headers.get_all(ACCEPT).into_iter().peekable();
        if accepts.peek().is_none() {
            return Ok(Self::Json);
        }
        let types = accepts.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let known = |name: &str| match media_type(name).to_ascii_lowercase().as_str() {
            "application/json" | "application/*" | "*/*" => Some(Self::Json),
            "application/x-ndjson" => Some(Self::Lines),
            BATCHES => Some(Self::Batches),
            _ => None,
        };
        types.into_iter().find_map(known).ok_or_else(|| {
            let detail = format!("accept application/json, application/x-ndjson or {BATCHES}");
            Problem::new(Code::NotAcceptable, detail)
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum From {
    Earliest,
    Latest,
    Offset(Offset),
    Time(Timestamp),
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) format: Format,
    pub(crate) from: From,
    pub(crate) limit: u64,
    pub(crate) max_bytes: u64,
    pub(crate) to: Option<Offset>,
    pub(crate) wait: Duration,
    pub(crate) clamp: bool,
    pub(crate) freshness: Freshness,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Parameters {
    /// `earliest`, `latest` or an offset.
    #[param(default = "earliest")]
    from: Option<String>,
    /// In place of `from`: the first message appended at this time or later; RFC 3339, or ms since 1970.
    since: Option<String>,
    /// At most so many messages.
    #[param(minimum = 1, default = 1000)]
    limit: Option<u64>,
    /// Looks at no more stored bytes, but answers at least one message.
    #[param(minimum = 1, default = 4194304)]
    max_bytes: Option<u64>,
    /// Ends before this offset.
    to: Option<u64>,
    /// A read that would be empty waits so many seconds for a message.
    #[param(minimum = 0, maximum = 60, default = 0)]
    wait: Option<u64>,
    /// An offset below the first one kept means the first.
    #[serde(default)]
    clamp: bool,
    /// `strong`: everything that any server acknowledged before the read began.
    #[param(example = "strong")]
    consistency: Option<String>,
}

impl Request {
    pub(crate) fn parse(uri: &Uri, headers: &HeaderMap) -> Result<Self, Problem> {
        let Parameters { from, since, limit, max_bytes, to, wait, clamp, consistency } = query(uri)?;
        let format = Format::accepted(headers)?;
        let (most_messages, most_bytes) = match format {
            Format::Json => (MAX_JSON_READ_MESSAGES, MAX_JSON_READ_BYTES),
            Format::Lines | Format::Batches => (u64::MAX, u64::MAX),
        };
        let from = match (from.as_deref(), since) {
            (Some(_), Some(_)) => return Err(wrong("give `from` or `since`, not both")),
            (None, Some(since)) => From::Time(time(&since)?),
            (None | Some("earliest"), None) => From::Earliest,
            (Some("latest"), None) => From::Latest,
            (Some(offset), None) => From::Offset(Offset(offset.parse().map_err(|_| {
                wrong(format_args!("from is `{offset}`; it must be `earliest`, `latest` or an offset"))
            })?)),
        };
        let freshness = match consistency.as_deref() {
            None => Freshness::Recent,
            Some("strong") => Freshness::Strong,
            Some(other) => return Err(wrong(format_args!("consistency is `{other}`; it can be `strong`"))),
        };
        let wait = wait.unwrap_or(0);
        Ok(Self {
            format,
            from,
            limit: within("limit", limit.unwrap_or(DEFAULT_READ_MESSAGES), 1, most_messages)?,
            max_bytes: within("max_bytes", max_bytes.unwrap_or(DEFAULT_READ_BYTES), 1, most_bytes)?,
            to: to.map(Offset),
            wait: Duration::from_secs(within("wait", wait, 0, MAX_READ_WAIT.as_secs())?),
            clamp,
            freshness,
        })
    }
}

fn within(name: &str, given: u64, least: u64, most: u64) -> Result<u64, Problem> {
    if (least..=most).contains(&given) {
        return Ok(given);
    }
    Err(wrong(format_args!("{name} is {given}; it must be from {least} to {most}")))
}

fn time(text: &str) -> Result<Timestamp, Problem> {
    if let Ok(ms) = text.parse() {
        return Ok(Timestamp(ms));
    }
    let time = text.parse::<jiff::Timestamp>().ok();
    time.and_then(|time| u64::try_from(time.as_millisecond()).ok()).map(Timestamp).ok_or_else(|| {
        wrong(format_args!("since is `{text}`; give a time such as 2026-01-31T12:00:00Z, or ms since 1970"))
    })
}

fn wrong(why: impl fmt::Display) -> Problem {
    Problem::new(Code::InvalidParameter, format!("query parameters: {why}"))
}
