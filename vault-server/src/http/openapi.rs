//! The interface as an OpenAPI 3.1 document, made of the routes themselves: their handlers say what they take and
//! answer. What is read and written without a type in between, for speed, has one here; tests hold it against the
//! real thing.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi, PartialSchema, ToSchema};

use crate::http::client_routes;
use crate::http::problem::Shown;

/// What holds for the whole document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Message Vault",
        description = "Publish and subscribe with replay: streams of messages, ordered and immutable.",
        license(name = "BSD-3-Clause", identifier = "BSD-3-Clause")
    ),
    tags(
        (name = "messages", description = "Appending and reading"),
        (name = "streams", description = "Creating, listing, describing, changing, deleting"),
        (name = "server", description = "How the server is"),
    ),
    // They stand in answers of every route, which is not found out by itself.
    components(schemas(Shown)),
    modifiers(&Schemes),
    security((), ("basic" = []), ("bearer" = []))
)]
pub(crate) struct Document;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let schemes = [("basic", HttpAuthScheme::Basic), ("bearer", HttpAuthScheme::Bearer)];
        let components = openapi.components.get_or_insert_default();
        for (name, scheme) in schemes {
            let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(scheme).build());
            components.add_security_scheme(name, scheme);
        }
    }
}

/// `/openapi.json`: the document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "server",
    responses((status = OK, description = "This document", body = Value), Problems)
)]
pub(crate) async fn document() -> impl IntoResponse {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
        let openapi = client_routes(true).into_openapi();
        openapi.to_pretty_json().expect("the document is made of texts").into()
    });
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.clone())
}

/// A body that is not text.
pub(crate) struct Binary;

impl PartialSchema for Binary {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}

impl ToSchema for Binary {}

/// The `{stream}` of a route.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes what `StreamPath` takes")]
pub(crate) struct StreamParameter {
    /// The stream's name: lower-case letters, digits and single hyphens.
    #[param(example = "orders", min_length = 1, max_length = 60, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$")]
    stream: String,
}

/// Every answer that is not a success.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes what is answered in the place of what was asked for")]
pub(crate) enum Problems {
    /// What went wrong.
    #[response(status = "default", content_type = "application/problem+json")]
    Any(Shown),
}

/// The body of an append as JSON.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppendRequest {
    /// At least one; as records at most 3 MiB together.
    #[schema(min_items = 1)]
    pub(crate) messages: Vec<AppendMessage>,
}

/// A message to append: exactly one of `value`, `value_base64` and `json`, at most one of `key` and `key_base64`.
#[derive(Default, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppendMessage {
    /// Text, at most 1024 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) key: Option<String>,
    /// Bytes as base64 (standard alphabet, padded), at most 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) key_base64: Option<String>,
    /// Text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) value: Option<String>,
    /// Bytes as base64 (standard alphabet, padded).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) value_base64: Option<String>,
    /// Any JSON value, stored as text without white space between its parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) json: Option<Value>,
    /// At most 64.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Bits 1 to 7 are the application's.
    #[schema(required = false, maximum = 254, multiple_of = 2)]
    pub(crate) attributes: u8,
}

/// An event by CloudEvents 1.0. Further members with texts, numbers or booleans are extensions.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `append::events` reads")]
pub(crate) struct CloudEvent {
    #[schema(example = "1.0", pattern = "^1\\.0$")]
    specversion: String,
    #[schema(min_length = 1)]
    id: String,
    #[schema(example = "/shop/tills/7", min_length = 1)]
    source: String,
    #[schema(example = "shop.order.paid", min_length = 1)]
    r#type: String,
    #[schema(nullable = false, min_length = 1)]
    subject: Option<String>,
    /// RFC 3339.
    #[schema(nullable = false, format = DateTime)]
    time: Option<String>,
    #[schema(nullable = false, min_length = 1)]
    datacontenttype: Option<String>,
    #[schema(nullable = false, min_length = 1)]
    dataschema: Option<String>,
    data: Option<Value>,
    #[schema(nullable = false)]
    data_base64: Option<String>,
    /// The message's key.
    #[schema(nullable = false)]
    partitionkey: Option<String>,
}

/// What a stored run of messages is answered with.
#[derive(Deserialize, ToSchema)]
#[cfg_attr(not(test), expect(dead_code, reason = "`append` writes it without a type in between"))]
#[cfg_attr(test, serde(deny_unknown_fields))]
pub(crate) struct AppendAnswer {
    /// The offset of the first message.
    pub(crate) first_offset: u64,
    /// The offset behind the last.
    pub(crate) next_offset: u64,
    /// In ms since 1970, UTC.
    pub(crate) timestamp: u64,
}

/// Messages as JSON, and where to go on.
#[derive(Deserialize, ToSchema)]
#[cfg_attr(not(test), expect(dead_code, reason = "`read` writes it without a type in between"))]
#[cfg_attr(test, serde(deny_unknown_fields))]
pub(crate) struct ReadAnswer {
    pub(crate) messages: Vec<StoredMessage>,
    /// Where to go on.
    pub(crate) next_offset: u64,
    /// Where the stream ends. Not there in answers that never change: those of closed ranges.
    #[schema(nullable = false)]
    pub(crate) end_offset: Option<u64>,
    /// The first offset that is kept. Not there in answers that never change.
    #[schema(nullable = false)]
    pub(crate) first_offset: Option<u64>,
}

/// A message as it is stored. `key_base64` and `value_base64` stand where the bytes are not UTF-8.
#[derive(Deserialize, ToSchema)]
#[cfg_attr(not(test), expect(dead_code, reason = "`read` writes it without a type in between"))]
#[cfg_attr(test, serde(deny_unknown_fields))]
pub(crate) struct StoredMessage {
    pub(crate) offset: u64,
    /// In ms since 1970, UTC.
    pub(crate) timestamp: u64,
    /// 32 hexadecimal digits that sort by time, then by offset.
    pub(crate) id: String,
    #[schema(nullable = false)]
    pub(crate) key: Option<String>,
    #[schema(nullable = false)]
    pub(crate) key_base64: Option<String>,
    #[schema(nullable = false)]
    pub(crate) value: Option<String>,
    #[schema(nullable = false)]
    pub(crate) value_base64: Option<String>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) attributes: u8,
}
