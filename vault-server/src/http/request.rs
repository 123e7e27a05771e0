//! Taking requests apart: the stream's name, query parameters, headers, and what is refused in each.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::header::CONTENT_ENCODING;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
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

/// The value of a header that may be given once at most.
pub(crate) fn single<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h HeaderValue>, Problem> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => {
            Err(Problem::new(Code::InvalidParameter, format!("the header `{name}` is given twice")))
        }
    }
}

/// Refuses bodies that would have to be unpacked.
pub(crate) fn refuse_encodings(headers: &HeaderMap) -> Result<(), Problem> {
    let plain = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).into_iter().all(plain) {
        return Ok(());
    }
    let detail = "bodies are taken without Content-Encoding; send it uncompressed";
    Err(Problem::new(Code::UnsupportedMediaType, detail))
}

/// The media type of a header's value, without parameters.
pub(crate) fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}
