//! What a read asks for.

use std::fmt;
use std::time::Duration;

use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderName, Uri};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use utoipa::IntoParams;
use vault_format::ids::{Offset, Timestamp};

use crate::http::problem::{Code, Problem};
use crate::http::read::filter::Filter;
use crate::http::request::{media_type, query};
use crate::limits::{
    DEFAULT_READ_BYTES, DEFAULT_READ_MESSAGES, MAX_JSON_READ_BYTES, MAX_JSON_READ_MESSAGES, MAX_READ_WAIT,
};
use crate::log::stream::Freshness;

/// Stored batches as they stand in storage.
pub(crate) const BATCHES: &str = "application/vnd.messagevault.batches";

/// Where an event stream goes on after its connection was lost.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What the parameters for headers begin with.
const HEADER_PREFIX: &str = "header.";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// One document.
    Json,
    /// One message a line.
    Lines,
    /// Server-sent events, without an end.
    Events,
    /// Stored batches.
    Batches,
}

impl Format {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
            Self::Batches => BATCHES,
        }
    }

    /// The first of the accepted types that is served.
    pub(crate) fn accepted(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut accepts = headers.get_all(ACCEPT).into_iter().peekable();
        if accepts.peek().is_none() {
            return Ok(Self::Json);
        }
        let types = accepts.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let known = |name: &str| match media_type(name).to_ascii_lowercase().as_str() {
            "application/json" | "application/*" | "*/*" => Some(Self::Json),
            "application/x-ndjson" => Some(Self::Lines),
            "text/event-stream" => Some(Self::Events),
            BATCHES => Some(Self::Batches),
            _ => None,
        };
        types.into_iter().find_map(known).ok_or_else(|| {
            let detail =
                format!("accept application/json, application/x-ndjson, text/event-stream or {BATCHES}");
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
    /// Goes on at the tail.
    pub(crate) follow: bool,
    pub(crate) filter: Filter,
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
    /// At most so many messages. Not with event streams.
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
    /// Goes on at the end for ever; with `application/x-ndjson`. An event stream always does.
    follow: Option<bool>,
    /// Only messages with this key. `header.<name>=<value>` asks for a header in the same way, any number of times.
    key: Option<String>,
    /// Only messages with this key, as base64 (standard alphabet, padded).
    key_base64: Option<String>,
}

impl Request {
    pub(crate) fn parse(uri: &Uri, headers: &HeaderMap) -> Result<Self, Problem> {
        let (uri, wanted_headers) = take_header_filters(uri)?;
        let parameters: Parameters = query(&uri)?;
        let format = Format::accepted(headers)?;
        let follow = follows(format, &parameters)?;
        let last_event_id = if format == Format::Events { headers.get(LAST_EVENT_ID) } else { None };
        let from = match last_event_id {
            Some(id) => {
                From::Offset(id.to_str().ok().and_then(|id| id.parse().ok()).map(Offset).ok_or_else(
                    || Problem::new(Code::InvalidParameter, "the header `Last-Event-ID` must be an offset"),
                )?)
            }
            None => from(parameters.from.as_deref(), parameters.since.as_deref())?,
        };
        let filter = Filter { key: key(parameters.key, parameters.key_base64)?, headers: wanted_headers };
        if format == Format::Batches && !filter.is_empty() {
            return Err(wrong(
                "stored batches come as they stand: leave out `key`, `key_base64` and `header.`",
            ));
        }
        let (most_messages, most_bytes) = match format {
            // What is filtered is collected before it is sent.
            Format::Json => (MAX_JSON_READ_MESSAGES, MAX_JSON_READ_BYTES),
            Format::Lines if !follow && !filter.is_empty() => (u64::MAX, MAX_JSON_READ_BYTES),
            Format::Lines | Format::Events | Format::Batches => (u64::MAX, u64::MAX),
        };
        let freshness = match parameters.consistency.as_deref() {
            None => Freshness::Recent,
            Some("strong") => Freshness::Strong,
            Some(other) => return Err(wrong(format_args!("consistency is `{other}`; it can be `strong`"))),
        };
        let wait = within("wait", parameters.wait.unwrap_or(0), 0, MAX_READ_WAIT.as_secs())?;
        let limit = parameters.limit.unwrap_or(if follow { u64::MAX } else { DEFAULT_READ_MESSAGES });
        let max_bytes = parameters.max_bytes.unwrap_or(DEFAULT_READ_BYTES);
        Ok(Self {
            format,
            from,
            limit: within("limit", limit, 1, most_messages)?,
            max_bytes: within("max_bytes", max_bytes, 1, most_bytes)?,
            to: parameters.to.map(Offset),
            wait: Duration::from_secs(wait),
            clamp: parameters.clamp,
            freshness,
            follow,
            filter,
        })
    }
}

/// Whether a read goes on at the tail.
fn follows(format: Format, parameters: &Parameters) -> Result<bool, Problem> {
    let follow = match (format, parameters.follow) {
        (Format::Events, Some(false)) => return Err(wrong("an event stream follows: leave out `follow`")),
        (Format::Events, _) | (Format::Lines, Some(true)) => true,
        (_, None | Some(false)) => false,
        (Format::Json | Format::Batches, Some(true)) => {
            return Err(wrong("follow: accept application/x-ndjson or text/event-stream for that"));
        }
    };
    if format == Format::Events && parameters.limit.is_some() {
        return Err(wrong("an event stream is gone on with whenever it ends: leave out `limit`"));
    }
    let (wait, max_bytes) = (parameters.wait.is_some(), parameters.max_bytes.is_some());
    match (wait, max_bytes) {
        (true, _) if follow => Err(wrong("what follows always waits: leave out `wait`")),
        (_, true) if follow => Err(wrong("what follows has no end to look for: leave out `max_bytes`")),
        _ => Ok(follow),
    }
}

fn from(from: Option<&str>, since: Option<&str>) -> Result<From, Problem> {
    Ok(match (from, since) {
        (Some(_), Some(_)) => return Err(wrong("give `from` or `since`, not both")),
        (None, Some(since)) => From::Time(time(since)?),
        (None | Some("earliest"), None) => From::Earliest,
        (Some("latest"), None) => From::Latest,
        (Some(offset), None) => From::Offset(Offset(offset.parse().map_err(|_| {
            wrong(format_args!("from is `{offset}`; it must be `earliest`, `latest` or an offset"))
        })?)),
    })
}

fn key(text: Option<String>, base64: Option<String>) -> Result<Option<Vec<u8>>, Problem> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(wrong("give `key` or `key_base64`, not both")),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, None) => Ok(None),
        (None, Some(base64)) => {
            let bytes = STANDARD.decode(&base64);
            bytes.map(Some).map_err(|error| wrong(format_args!("key_base64 is `{base64}`: {error}")))
        }
    }
}

/// Takes the parameters out that name headers of messages: they have no fixed names, and may come more than once.
fn take_header_filters(uri: &Uri) -> Result<(Uri, Vec<(String, String)>), Problem> {
    let text = uri.query().unwrap_or_default();
    if !text.contains("header") {
        return Ok((uri.clone(), Vec::new()));
    }
    let pairs: Vec<(String, String)> = query(uri)?;
    let (mut headers, mut others) = (Vec::new(), Vec::new());
    for (part, (name, value)) in text.split('&').filter(|part| !part.is_empty()).zip(pairs) {
        match name.strip_prefix(HEADER_PREFIX) {
            Some("") => return Err(wrong("`header.` needs the name of a header behind the point")),
            Some(name) => headers.push((name.to_owned(), value)),
            None => others.push(part),
        }
    }
    let others = Uri::try_from(format!("/?{}", others.join("&")));
    Ok((others.expect("parts of a query make a query"), headers))
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
