//! Creating, listing, describing, changing and deleting streams.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::access::caller::Caller;
use crate::access::grants::Right;
use crate::http::app::App;
use crate::http::body::{Limit, drain, receive};
use crate::http::digest::Digests;
use crate::http::object::Object;
use crate::http::openapi::{Problems, StreamParameter};
use crate::http::problem::{Code, Problem};
use crate::http::request::{StreamPath, query};
use crate::limits::{DEFAULT_LIST_STREAMS, MAX_SETTINGS_BODY_BYTES, MAX_STREAMS};
use crate::log::error::Unusable;
use crate::log::settings::{Settings, SettingsPatch, rule};
use crate::log::stream::{Condition, Freshness, Stream};
use crate::log::vault::Created;

/// What is known of a stream without asking storage.
#[derive(Serialize, ToSchema)]
#[schema(as = StreamSummary)]
pub(crate) struct Summary {
    name: String,
    id: String,
    /// In ms since the Unix epoch.
    created: u64,
    settings: Settings,
    /// The Kubernetes object that the stream belongs to.
    owner: Option<String>,
    condition: Condition,
    trouble: Option<String>,
}

impl Summary {
    fn of(stream: &Stream) -> Self {
        let (meta, status) = (stream.meta(), stream.status());
        Self {
            name: stream.name().to_string(),
            id: meta.id.to_string(),
            created: meta.created.0,
            settings: meta.settings,
            owner: meta.owner,
            condition: status.condition,
            trouble: status.trouble,
        }
    }
}

/// From where to where a stream goes. All is null where the server does not have it open.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = StreamExtent)]
struct Extent {
    first_offset: Option<u64>,
    /// That of the next message.
    next_offset: Option<u64>,
    /// In ms since the Unix epoch; null while the stream is empty.
    last_timestamp: Option<u64>,
    /// Stored, from the first segment to the end.
    bytes: Option<u64>,
}

/// What is known of a stream and its extent without asking storage.
#[derive(Serialize, ToSchema)]
#[schema(as = StreamListed)]
pub(crate) struct Listed {
    #[serde(flatten)]
    summary: Summary,
    #[serde(flatten)]
    extent: Extent,
}

impl Listed {
    fn of(stream: &Stream) -> Self {
        let extent = stream.measured().extent.map_or_else(Extent::default, |measured| Extent {
            first_offset: Some(measured.first_offset.0),
            next_offset: Some(measured.next_offset.0),
            last_timestamp: measured.last_timestamp.map(|timestamp| timestamp.0),
            bytes: Some(measured.stored_bytes),
        });
        Self { summary: Summary::of(stream), extent }
    }
}

/// A stream that was opened, so that its extent is known; where damage prevents that, the fields are null.
#[derive(Serialize, ToSchema)]
#[schema(as = StreamDescription)]
pub(crate) struct Description {
    #[serde(flatten)]
    summary: Summary,
    #[serde(flatten)]
    extent: Extent,
    segments: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParameters {}

/// `PUT`: creates the stream (201) or confirms that it has these settings (200).
#[utoipa::path(
    put,
    path = "/streams/{stream}",
    operation_id = "create_stream",
    tag = "streams",
    params(StreamParameter),
    request_body(content = Option<SettingsPatch>, content_type = "application/json"),
    responses(
        (status = CREATED, description = "The stream was created", body = Summary),
        (status = OK, description = "It was there, with the settings named", body = Summary),
        Problems,
    )
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let patch = settings(&app, &uri, &headers, body).await?;
    let (created, stream) = app.vault.create(&name, patch).await?;
    let status = if created == Created::New { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Summary::of(&stream))).into_response())
}

/// `PATCH`: changes the settings that are given.
#[utoipa::path(
    patch,
    path = "/streams/{stream}",
    operation_id = "change_stream",
    tag = "streams",
    params(StreamParameter),
    request_body(content = Option<SettingsPatch>, content_type = "application/json"),
    responses((status = OK, description = "What the stream is like now", body = Summary), Problems)
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let patch = settings(&app, &uri, &headers, body).await?;
    let stream = app.vault.change(&name, patch).await?;
    Ok(Json(Summary::of(&stream)).into_response())
}

/// `DELETE`: the stream and all its messages.
#[utoipa::path(
    delete,
    path = "/streams/{stream}",
    operation_id = "delete_stream",
    tag = "streams",
    params(StreamParameter),
    responses((status = NO_CONTENT, description = "The stream and all its messages are gone"), Problems)
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    let NoParameters {} = query(&uri)?;
    app.vault.delete(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET`: everything about one stream.
#[utoipa::path(
    get,
    path = "/streams/{stream}",
    operation_id = "describe_stream",
    tag = "streams",
    params(StreamParameter),
    responses((status = OK, description = "The stream and its extent", body = Description), Problems)
)]
pub(crate) async fn describe(
    State(app): State<Arc<App>>,
    StreamPath(name): StreamPath,
    uri: Uri,
) -> Result<Response, Problem> {
    let NoParameters {} = query(&uri)?;
    let stream = app.vault.readable(&name).await?;
    let reader = match stream.reader(Freshness::Recent).await {
        Ok(reader) => Some(reader),
        // What is wrong stands in the description.
        Err(Unusable::Fault(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let summary = Summary::of(&stream);
    let (extent, segments) = match reader {
        Some(reader) => {
            let (first, tail, (segments, bytes)) =
                (reader.first_offset(), reader.tail(), reader.size().await);
            let extent = Extent {
                first_offset: Some(first.0),
                next_offset: Some(tail.next_offset().0),
                last_timestamp: tail.last_timestamp().map(|timestamp| timestamp.0),
                bytes: Some(bytes),
            };
            (extent, Some(segments))
        }
        None => (Extent::default(), None),
    };
    Ok(Json(Description { summary, extent, segments }).into_response())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParameters {
    /// Names that begin so.
    #[serde(default)]
    prefix: String,
    /// Names after this one.
    start_after: Option<String>,
    /// At most so many streams.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamPage)]
pub(crate) struct Page {
    streams: Vec<Listed>,
    /// What `start_after` must say to get the next page; null on the last one.
    next_start_after: Option<String>,
}

/// `GET /streams`: a page of the streams that the caller may read, in the order of their names.
#[utoipa::path(
    get,
    path = "/streams",
    operation_id = "list_streams",
    tag = "streams",
    params(ListParameters),
    responses((status = OK, description = "A page of streams in the order of their names", body = Page), Problems)
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Page>, Problem> {
    let ListParameters { prefix, start_after, limit } = query(&uri)?;
    let limit = limit.unwrap_or(DEFAULT_LIST_STREAMS);
    if !(1..=MAX_STREAMS).contains(&limit) {
        let detail = format!("query parameters: limit is {limit}; it must be from 1 to {MAX_STREAMS}");
        return Err(Problem::new(Code::InvalidParameter, detail));
    }
    let (streams, more) = app
        .vault
        .list_those(&prefix, start_after.as_deref(), limit, |name| caller.may(name.as_str(), Right::Read));
    let streams: Vec<_> = streams.iter().map(|stream| Listed::of(stream)).collect();
    let next_start_after = streams.last().filter(|_| more).map(|last| last.summary.name.clone());
    Ok(Json(Page { streams, next_start_after }))
}

/// The settings in a body; an empty one gives none.
async fn settings(
    app: &App,
    uri: &Uri,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<SettingsPatch, Problem> {
    let NoParameters {} = query(uri)?;
    let digests = Digests::of(headers)?;
    let limit = Limit { bytes: MAX_SETTINGS_BODY_BYTES, code: Code::RequestTooLarge };
    let received = match receive(app, headers, &mut body, limit).await {
        Ok(received) => received,
        Err(problem) => {
            drain(app, headers, &mut body).await;
            return Err(problem);
        }
    };
    digests.check(&received.bytes)?;
    read_settings(&received.bytes)
}

/// The settings in a body that was received.
pub(super) fn read_settings(json: &[u8]) -> Result<SettingsPatch, Problem> {
    if json.is_empty() {
        return Ok(SettingsPatch::default());
    }
    let invalid = |why: String| Problem::new(Code::InvalidSettings, why);
    let mut json = serde_json::Deserializer::from_slice(json);
    let Object::<SettingsPatch>(patch) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (setting, why) = (error.path().to_string(), error.into_inner());
        match rule(&setting) {
            Some(rule) if why.is_data() => invalid(format!("{setting} {rule}: {why}")),
            _ => invalid(why.to_string()),
        }
    })?;
    json.end().map_err(|error| invalid(error.to_string()))?;
    patch.check()?;
    Ok(patch)
}
