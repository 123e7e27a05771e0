//! Taking requests apart: the stream's name, query parameters, headers, and what is refused in each.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::header::CONTENT_ENCODING;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use serde::de::DeserializeOwned;
use vault_format::names::StreamName;

use crate::http::app::App;
use crate::http::problem::{Code, Problem};

/// The `{stream}` of a route, checked.
pub(crate) struct StreamPath(pub(crate) StreamName);

impl FromRequestParts<Arc<App>> for StreamPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Path(name) = Path::<String>::from_request_parts(parts, app)
            .await
            .map_err(|error| Problem::new(Code::InvalidName, error.body_text()))?;
        Ok(Self(app.vault.name(&name)?))
    }
}

/// The query parameters of a request. One that is unknown, repeated or malformed is refused by name.
pub(crate) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    match Query::try_from_uri(uri) {
        Ok(Query(parameters)) => Ok(parameters),
        Err(error) => {
            let text = error.body_text();
            let why = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Err(Problem::new(Code::InvalidParameter, format!("query parameters: {why}")))
        }
    }
}

/// Refuses headers that ask for what this server would not do, so that nobody relies on it.
pub(crate) fn refuse_unsupported(headers: &HeaderMap) -> Result<(), Problem> {
    const UNSUPPORTED: [&str; 5] =
        ["producer-id", "producer-epoch", "producer-seq", "content-md5", "repr-digest"];
    for name in headers.keys().map(axum::http::HeaderName::as_str) {
        if UNSUPPORTED.contains(&name) || name.starts_with("ce-") {
            let detail = format!("this server does not support the header `{name}`; leave it out");
            return Err(Problem::new(Code::Unsupported, detail));
        }
    }
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding.as_bytes() != b"identity" => Err(Problem::new(
            Code::UnsupportedMediaType,
            "bodies are taken without Content-Encoding; send it uncompressed",
        )),
        _ => Ok(()),
    }
}

/// The media type of a header's value, without parameters.
pub(crate) fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}
