//! `POST /streams/{stream}/messages`: one request, one run of consecutive offsets, all or nothing.
//!
//! | module | body |
//! |---|---|
//! | `format` | which of these a request is |
//! | here | one message as it is; the binary records of the storage format |
//! | `json` | `application/json` |
//! | `lines` | `application/x-ndjson` |
//! | `events` | CloudEvents |
//!
//! `run` has the records that they all make, `trace` the trace that a request belongs to, `producer` who sends it.

mod events;
mod format;
mod json;
mod lines;
mod producer;
mod run;
mod text;
mod trace;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use bytes::Bytes;
use serde::Deserialize;
use utoipa::IntoParams;
use vault_format::ids::Offset;
use vault_format::limits::MAX_RUN_BYTES;
use vault_format::names::StreamName;
use vault_format::record::{Message, Record, check_run};

use crate::http::app::App;
use crate::http::append::format::Format;
use crate::http::append::producer::Producer;
use crate::http::append::run::{Rules, Run};
use crate::http::append::trace::Trace;
use crate::http::authorize::Asker;
use crate::http::body::{Limit, Received, drain, receive};
use crate::http::digest::Digests;
use crate::http::openapi::{AppendAnswer, AppendRequest, Binary, CloudEvent, Problems, StreamParameter};
use crate::http::problem::{Code, Problem};
use crate::http::request::{StreamPath, query, refuse_encodings};
use crate::limits::MAX_JSON_BODY_BYTES;
use crate::log::Appended;
use crate::log::error::Unusable;
use crate::log::settings::SettingsPatch;
use crate::log::stream::{Append, Stream};
use crate::log::vault::Created;

/// The binary records of the storage format.
pub(crate) const RECORDS: &str = "application/vnd.messagevault.records";

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Parameters {
    /// Append only if the stream's next offset is this one.
    expected_offset: Option<u64>,
    /// Of a plain body: the message's key. Of lines: a JSON pointer (RFC 6901) to the key in each line.
    key: Option<String>,
}

// A batch of CloudEvents is named without a schema: of a list in this place a generator for Python makes a check that
// fails whatever is sent.
/// Appends the messages of the body.
#[utoipa::path(
    post,
    path = "/streams/{stream}/messages",
    operation_id = "append_messages",
    tag = "messages",
    params(
        StreamParameter,
        Parameters,
        ("Producer-Id" = Option<String>, Header, description = "Who sends this, where the request may be sent again and \
            be stored once: 1 to 64 printable ASCII characters. The three headers go together."),
        ("Producer-Epoch" = Option<u64>, Header, description = "Rises with each start of the producer."),
        ("Producer-Seq" = Option<u64>, Header, description = "The number of the request in its epoch, from 0."),
    ),
    request_body(content(
        (AppendRequest = "application/json"),
        (CloudEvent = "application/cloudevents+json"),
        ("application/cloudevents-batch+json"),
        (String = "application/x-ndjson"),
        (String = "text/plain"),
        (Binary = "application/octet-stream"),
        (Binary = "application/vnd.messagevault.records"),
    )),
    responses((status = OK, description = "The messages are stored", body = AppendAnswer), Problems)
)]
pub(crate) async fn append(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    asker: Asker,
    uri: Uri,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Response<Body>, Problem> {
    let outcome = try_append(&app, &name, &asker, &uri, &headers, &mut body).await;
    if let Err(problem) = &outcome {
        tracing::debug!(stream = %name, code = problem.code().row().0, "append refused");
        drain(&app, &headers, &mut body).await;
    }
    outcome.map(answer)
}

async fn try_append(
    app: &App,
    name: &StreamName,
    asker: &Asker,
    uri: &Uri,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Appended, Problem> {
    let said = Said::of(uri, headers)?;
    // Without a stream there is no use in reading the body.
    let found = app.vault.stream(name);
    match &found {
        Err(Unusable::NotFound) if app.settings.auto_create => {}
        Err(error) => return Err(error.clone().into()),
        Ok(_) => {}
    }
    let max_value_bytes = app.settings.max_message_bytes;
    let Received { bytes, permit } = receive(app, headers, body, said.limit(max_value_bytes)).await?;
    let (records, record_count) = said.records(&bytes, max_value_bytes)?;
    let stream = match found {
        Ok(stream) => stream,
        Err(_) => created(app, name, asker, headers).await?,
    };
    let append = Append { records, record_count, expected_offset: said.expected_offset };
    // From here on the records count as queued, and what is left of the body as nothing.
    drop((bytes, permit));
    Ok(stream.append(append, app.settings.append_timeout).await?)
}

/// The stream, made now. That another request made it meanwhile, with whatever settings, is as good.
async fn created(
    app: &App,
    name: &StreamName,
    asker: &Asker,
    headers: &HeaderMap,
) -> Result<Arc<Stream>, Problem> {
    let telling = asker.begins(headers, "POST /streams/{stream}/messages, creating the stream", name);
    match app.vault.create(name, SettingsPatch::default()).await.map_err(Problem::from) {
        Ok((Created::New, stream)) => {
            telling.ended(StatusCode::CREATED);
            Ok(stream)
        }
        Ok((Created::Existing, stream)) => {
            telling.nothing();
            Ok(stream)
        }
        Err(problem) => {
            telling.ended(problem.code().row().1);
            Err(problem)
        }
    }
}

/// What a request says beside its body.
pub(super) struct Said<'h> {
    headers: &'h HeaderMap,
    expected_offset: Option<Offset>,
    key: Option<String>,
    producer: Option<Producer<'h>>,
    format: Format,
    digests: Digests,
}

impl<'h> Said<'h> {
    pub(super) fn of(uri: &Uri, headers: &'h HeaderMap) -> Result<Self, Problem> {
        let Parameters { expected_offset, key } = query(uri)?;
        let producer = Producer::of(headers)?;
        refuse_encodings(headers)?;
        let format = Format::of(headers)?;
        let digests = Digests::of(headers)?;
        if key.is_some() && !matches!(format, Format::Plain | Format::Lines) {
            let detail = "query parameters: `key` goes with one plain message or with lines of JSON";
            return Err(Problem::new(Code::InvalidParameter, detail));
        }
        Ok(Self { headers, expected_offset: expected_offset.map(Offset), key, producer, format, digests })
    }

    /// How long the body may be.
    fn limit(&self, max_value_bytes: usize) -> Limit {
        match self.format {
            Format::Json | Format::Lines | Format::Event | Format::EventBatch => {
                Limit { bytes: MAX_JSON_BODY_BYTES, code: Code::RequestTooLarge }
            }
            Format::Plain | Format::BinaryEvent => {
                Limit { bytes: max_value_bytes, code: Code::MessageTooLarge }
            }
            Format::Records => Limit { bytes: MAX_RUN_BYTES, code: Code::RequestTooLarge },
        }
    }

    /// The records that the body comes to, with the producer's stamp, and how many.
    pub(super) fn records(&self, body: &Bytes, max_value_bytes: usize) -> Result<(Bytes, u32), Problem> {
        self.digests.check(body)?;
        let trace = Trace::of(self.headers);
        let encode = |trace| {
            let rules = Rules { max_value_bytes, trace };
            let (records, count) = records(self.format, self.headers, body, self.key.as_deref(), rules)?;
            let stamped =
                self.producer.as_ref().map(|producer| producer.stamp(&records, count)).transpose()?;
            Ok::<_, Problem>((stamped.unwrap_or(records), count))
        };
        match encode(trace.as_ref()) {
            // Nothing is refused for the sake of a trace.
            Err(problem) if trace.is_some() && problem.code() == Code::RequestTooLarge => encode(None),
            encoded => encoded,
        }
    }
}

/// The records in a body, and how many.
fn records(
    format: Format,
    headers: &HeaderMap,
    body: &Bytes,
    key: Option<&str>,
    rules: Rules<'_>,
) -> Result<(Bytes, u32), Problem> {
    match format {
        Format::Json => json::encode(body, rules),
        Format::Lines => lines::encode(body, key, rules),
        Format::Event => events::one(body, rules),
        Format::EventBatch => events::batch(body, rules),
        Format::BinaryEvent => events::binary(headers, body, rules),
        Format::Plain => {
            let mut run = Run::new(body.len(), rules);
            let key = key.unwrap_or_default().as_bytes();
            run.push(&Message { key, value: body, ..Message::default() })?;
            run.finish()
        }
        Format::Records => encoded(body, rules),
    }
}

/// Records that the client has encoded, taken as they are where nothing is to be added.
fn encoded(body: &Bytes, rules: Rules<'_>) -> Result<(Bytes, u32), Problem> {
    let record_count = check_run(body, rules.max_value_bytes)?;
    if record_count == 0 {
        return Err(run::no_messages());
    }
    if rules.trace.is_none() {
        return Ok((body.clone(), record_count));
    }
    let mut run = Run::new(body.len(), rules);
    let mut rest: &[u8] = body;
    while !rest.is_empty() {
        let record = Record::take(&mut rest).expect("the run was checked");
        let headers: Vec<_> = record.headers().collect();
        let Record { attributes, key, value, .. } = record;
        run.push(&Message { attributes, key, headers: &headers, value })?;
    }
    run.finish()
}

fn answer(appended: Appended) -> Response<Body> {
    let Appended { first_offset, next_offset, timestamp } = appended;
    let body = format!(
        "{{\"first_offset\":{first_offset},\"next_offset\":{next_offset},\"timestamp\":{timestamp}}}\n"
    );
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
