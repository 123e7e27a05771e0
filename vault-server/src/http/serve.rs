//! Connections: accepted up to a limit, kept from holding anything up, ended in order.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::access::audit::Peer;
use crate::http::app::App;
use crate::limits::{CONNECTION_BUFFER_BYTES, GRACE, MAX_REQUEST_HEADERS, WRITE_STALL};

/// What a connection above the limit is told.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Type: text/plain\r\nContent-Length: 21\r\n\r\ntoo many connections\n";

/// How long accepting pauses after it failed: usually the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until `app.stopping`, then lets requests in flight finish for a while, and returns when every
/// connection is closed.
pub async fn serve(app: Arc<App>, router: Router, listener: TcpListener, max_connections: usize) {
    let slots = Arc::new(Semaphore::new(max_connections));
    let tasks = TaskTracker::new();
    let cut_off = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = app.stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_the_clients(error.kind()) {
                    tracing::warn!(%error, "cannot accept connections");
                    app.env.clock.sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            refuse(stream);
            continue;
        };
        let (app, router, cut_off) = (Arc::clone(&app), router.clone(), cut_off.clone());
        tasks.spawn(async move {
            let counted = app.connected();
            tokio::select! {
                () = connection(&app, router, stream, Peer(peer)) => {}
                () = cut_off.cancelled() => {}
            }
            drop((counted, slot));
        });
    }
    drop(listener);
    tasks.close();
    if app.env.timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "requests did not finish in time and are cut off");
        cut_off.cancel();
        tasks.wait().await;
    }
}

async fn connection(app: &App, router: Router, stream: TcpStream, peer: Peer) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_STALL));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(app.settings.idle_timeout)
        .max_headers(MAX_REQUEST_HEADERS)
        .max_buf_size(CONNECTION_BUFFER_BYTES);
    let io = TokioIo::new(Box::pin(stream));
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().call(request)
    });
    let mut serving = std::pin::pin!(builder.serve_connection(io, service));
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = app.stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Whether accepting failed because of the one connection that was to be accepted.
fn is_the_clients(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

/// Tells a client that there are too many. A fresh connection has room for that, so this does not wait.
fn refuse(stream: TcpStream) {
    let told = stream.into_std().and_then(|mut stream| stream.write(TOO_MANY));
    tracing::debug!(told = told.is_ok(), "too many connections");
}

/// Lets the process open as many files and connections as the system allows.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
}
