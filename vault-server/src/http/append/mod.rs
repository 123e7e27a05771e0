//! `POST /streams/{stream}/messages`: one request, one run of consecutive offsets, all or nothing.
//!
//! | module | body |
//! |---|---|
//! | here | one message as it is; the binary records of the storage format |
//! | `json` | `application/json` |
//! | `lines` | `application/x-ndjson` |

mod json;
mod lines;
mod run;
mod text;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use serde::Deserialize;
use utoipa::IntoParams;
use vault_format::ids::Offset;
use vault_format::limits::MAX_RUN_BYTES;
use vault_format::names::StreamName;
use vault_format::record::{Message, check_run};

use crate::http::app::App;
use crate::http::append::run::Run;
use crate::http::body::{Limit, Received, drain, receive};
use crate::http::openapi::{AppendAnswer, AppendRequest, Binary, Problems, StreamParameter};
use crate::http::problem::{Code, Problem};
use crate::http::request::{StreamPath, media_type, query, refuse_unsupported};
use crate::limits::MAX_JSON_BODY_BYTES;
use crate::log::Appended;
use crate::log::error::Unusable;
use crate::log::settings::SettingsPatch;
use crate::log::stream::{Append, Stream};

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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Lines,
    Plain,
    Records,
}

/// Appends the messages of the body.
#[utoipa::path(
    post,
    path = "/streams/{stream}/messages",
    operation_id = "append_messages",
    tag = "messages",
    params(StreamParameter, Parameters),
    request_body(content(
        (AppendRequest = "application/json"),
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
    uri: Uri,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Response<Body>, Problem> {
    let outcome = try_append(&app, &name, &uri, &headers, &mut body).await;
    if let Err(problem) = &outcome {
        tracing::debug!(stream = %name, code = problem.code().row().0, "append refused");
        drain(&app, &headers, &mut body).await;
    }
    outcome.map(answer)
}

async fn try_append(
    app: &App,
    name: &StreamName,
    uri: &Uri,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Appended, Problem> {
    let Parameters { expected_offset, key } = query(uri)?;
    refuse_unsupported(headers)?;
    let format = format_of(headers)?;
    if key.is_some() && !matches!(format, Format::Plain | Format::Lines) {
        let detail = "query parameters: `key` goes with one plain message or with lines of JSON";
        return Err(Problem::new(Code::InvalidParameter, detail));
    }
    // Without a stream there is no use in reading the body.
    let found = app.vault.stream(name);
    match &found {
        Err(Unusable::NotFound) if app.settings.auto_create => {}
        Err(error) => return Err(error.clone().into()),
        Ok(_) => {}
    }
    let max_value = app.settings.max_message_bytes;
    let limit = match format {
        Format::Json | Format::Lines => Limit { bytes: MAX_JSON_BODY_BYTES, code: Code::RequestTooLarge },
        Format::Plain => Limit { bytes: max_value, code: Code::MessageTooLarge },
        Format::Records => Limit { bytes: MAX_RUN_BYTES, code: Code::RequestTooLarge },
    };
    let Received { bytes, permit } = receive(app, headers, body, limit).await?;
    let (records, record_count) = match format {
        Format::Json => json::encode(&bytes, max_value)?,
        Format::Lines => lines::encode(&bytes, key.as_deref(), max_value)?,
        Format::Plain => {
            let mut run = Run::new(bytes.len(), max_value);
            let key = key.as_deref().unwrap_or_default().as_bytes();
            run.push(&Message { key, value: &bytes, ..Message::default() })?;
            run.finish()?
        }
        Format::Records => {
            let record_count = check_run(&bytes, max_value)?;
            if record_count == 0 {
                return Err(run::no_messages());
            }
            (bytes, record_count)
        }
    };
    let stream = match found {
        Ok(stream) => stream,
        Err(_) => created(app, name).await?,
    };
    let append = Append { records, record_count, expected_offset: expected_offset.map(Offset) };
    let appended = stream.append(append, app.settings.append_timeout).await?;
    // Until here the records counted against the memory of all bodies.
    drop(permit);
    Ok(appended)
}

/// The stream, made now. That another request made it meanwhile, with whatever settings, is as good.
async fn created(app: &App, name: &StreamName) -> Result<Arc<Stream>, Problem> {
    let (_, stream) = app.vault.create(name, SettingsPatch::default()).await?;
    Ok(stream)
}

fn format_of(headers: &HeaderMap) -> Result<Format, Problem> {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::to_str);
    let name = match &value {
        Some(Ok(value)) => media_type(value).to_ascii_lowercase(),
        Some(Err(_)) | None => String::new(),
    };
    match name.as_str() {
        "application/json" => Ok(Format::Json),
        "application/x-ndjson" => Ok(Format::Lines),
        "application/octet-stream" | "text/plain" => Ok(Format::Plain),
        RECORDS => Ok(Format::Records),
        _ => {
            let detail = format!(
                "Content-Type `{name}` is not taken; send application/json, application/x-ndjson, text/plain, \
                 application/octet-stream or {RECORDS}"
            );
            Err(Problem::new(Code::UnsupportedMediaType, detail))
        }
    }
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
