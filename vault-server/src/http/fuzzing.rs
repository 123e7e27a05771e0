//! What takes requests apart, without a server around it: fuzzing wants to try a great many.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, Uri};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use vault_format::ids::{Offset, StreamId};

use crate::http::app::App;
use crate::http::append::Said;
use crate::http::connection::{self, Connections, Protocol};
use crate::http::problem::Problem;
use crate::http::read::caching::Fixed;
use crate::http::read::parameters::{From, Request};
use crate::http::streams;
use crate::limits::MAX_REQUESTS_PER_CONNECTION;
use crate::log::settings::SettingsPatch;

/// The records that a request to append comes to, and how many they are.
pub fn append(
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
    max_value_bytes: usize,
) -> Result<(Bytes, u32), Problem> {
    Said::of(uri, headers)?.records(body, max_value_bytes)
}

/// Whether a request to read is understood, and its answer is one that the client says to have.
pub fn read(uri: &Uri, headers: &HeaderMap) -> Result<bool, Problem> {
    let request = Request::parse(uri, headers)?;
    let start = if let From::Offset(offset) = request.from { offset } else { Offset(0) };
    let fixed = Fixed::new(StreamId([7; 16]), &request, start, Offset(u64::MAX));
    Ok(fixed.is_some_and(|fixed| fixed.is_known(headers)))
}

/// The settings in a body.
pub fn settings(body: &[u8]) -> Result<SettingsPatch, Problem> {
    streams::read_settings(body)
}

/// Speaks with the other end of `io` as with a client that has connected, until one of them ends it.
pub async fn speak(
    app: &Arc<App>,
    router: Router,
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http2: bool,
) {
    let connections = Connections {
        app: Arc::clone(app),
        router,
        tls: None,
        tasks: TaskTracker::new(),
        shared_requests: Arc::new(Semaphore::new(MAX_REQUESTS_PER_CONNECTION as usize)),
    };
    let protocol = if http2 { Protocol::Http2 } else { Protocol::Http1 };
    connection::speak(&connections, io, SocketAddr::from(([127, 0, 0, 1], 1)), protocol).await;
}
