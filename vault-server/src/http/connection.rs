//! One connection: which protocol its client speaks, and what keeps it from holding anything up.
//!
//! | client | protocol |
//! |---|---|
//! | TLS, offers `h2` | HTTP/2 |
//! | other TLS | HTTP/1.1 |
//! | begins with the preface of HTTP/2 (prior knowledge, "h2c") | HTTP/2 |
//! | anything else | HTTP/1.1 |

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::access::audit::Peer;
use crate::env::Env;
use crate::http::app::App;
use crate::http::problem::{Code, Problem};
use crate::http::progress::{Halted, Progress};
use crate::http::tls::Tls;
use crate::limits::{
    CONNECTION_BUFFER_BYTES, GRACE, KEEPALIVE_AFTER, KEEPALIVE_EVERY, KEEPALIVE_TIMES, MAX_REQUEST_HEADERS,
    MAX_REQUESTS_PER_CONNECTION, TLS_HANDSHAKE, WRITE_STALL,
};

/// What HTTP/2 begins with; no method of HTTP/1.1 that is served begins so.
const HTTP2: &[u8] = b"PRI";

/// What a TLS handshake begins with.
const HANDSHAKE: u8 = 0x16;

/// How long the rest of a beginning may take that came in part.
const BEGINNING_PAUSE: Duration = Duration::from_millis(10);

/// What a client is told that speaks plain HTTP where TLS is expected.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 38\r\n\r\nthis port speaks TLS: use https://...\n";

/// What all connections of a listener have in common.
pub(crate) struct Connections {
    pub(crate) app: Arc<App>,
    pub(crate) router: Router,
    pub(crate) tls: Option<Tls>,
    /// The tasks of all connections and requests.
    pub(crate) tasks: TaskTracker,
    /// How many more requests there may be that share a connection with others.
    pub(crate) shared_requests: Arc<Semaphore>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Serves a connection until it is closed, or has been idle for too long, or its client takes nothing of an answer.
pub(crate) async fn serve_connection(connections: &Connections, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    if let Err(error) = keep_alive(&stream) {
        tracing::debug!(%error, "cannot have the system ask whether the client still lives");
    }
    let (env, idle) = (&connections.app.env, connections.app.settings.idle_timeout);
    // A client that is told of the end before it has asked for anything loses nothing.
    let begun = tokio::select! {
        begun = env.timeout(idle, beginning(env, &stream)) => begun,
        () = connections.app.stopping.cancelled() => return,
    };
    let Ok(Ok(beginning)) = begun else { return };
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_STALL));
    let mut stream = Box::pin(stream);
    let Some(tls) = &connections.tls else {
        let protocol = if beginning == HTTP2 { Protocol::Http2 } else { Protocol::Http1 };
        return speak(connections, stream, peer, protocol).await;
    };
    if beginning.first() != Some(&HANDSHAKE) {
        let told = stream.write_all(SPEAK_TLS).await;
        tracing::debug!(told = told.is_ok(), "a client does not speak TLS");
        return;
    }
    let acceptor = TlsAcceptor::from(tls.current());
    match env.timeout(TLS_HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let protocol = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Protocol::Http2,
                _ => Protocol::Http1,
            };
            speak(connections, stream, peer, protocol).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(error) => tracing::debug!(%error, "a TLS handshake took too long"),
    }
}

/// Has the system find out when a client is gone without a word: on an answer that goes on for ever there may be nothing
/// to send for long.
fn keep_alive(stream: &TcpStream) -> std::io::Result<()> {
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_TIMES)?;
    Ok(sockopt::set_socket_keepalive(stream, true)?)
}

/// The first three bytes of a connection, without taking them; fewer where they tell HTTP/2 from anything else already.
async fn beginning(env: &Env, stream: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = [0; HTTP2.len()];
    loop {
        let got = stream.peek(&mut bytes).await?;
        let bytes = &bytes[..got];
        if got == HTTP2.len() || got == 0 || !HTTP2.starts_with(bytes) {
            return Ok(bytes.to_vec());
        }
        env.clock.sleep(BEGINNING_PAUSE).await;
    }
}

pub(super) async fn speak(
    connections: &Connections,
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    protocol: Protocol,
) {
    let io = TokioIo::new(io);
    let served = match protocol {
        Protocol::Http1 => speak_http1(connections, io, peer).await,
        Protocol::Http2 => speak_http2(connections, io, peer).await,
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn speak_http1(
    connections: &Connections,
    io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    peer: SocketAddr,
) -> hyper::Result<()> {
    let app = &connections.app;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(app.settings.idle_timeout)
        .max_headers(MAX_REQUEST_HEADERS)
        .max_buf_size(CONNECTION_BUFFER_BYTES);
    let service = service_fn(|request| answer(&connections.router, request, peer));
    let mut serving = std::pin::pin!(builder.serve_connection(io, service));
    tokio::select! {
        served = serving.as_mut() => served,
        () = app.stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    }
}

/// Many requests share the connection, so that one of them may stall while bytes of others flow.
async fn speak_http2(
    connections: &Connections,
    io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    peer: SocketAddr,
) -> hyper::Result<()> {
    let app = &connections.app;
    let progress = Progress::new(app.env.clone());
    let mut builder = http2::Builder::new(Tasks(connections.tasks.clone()));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_REQUESTS_PER_CONNECTION)
        .max_header_list_size(u32::try_from(CONNECTION_BUFFER_BYTES).unwrap_or(u32::MAX))
        // A client that is gone without a word is found out.
        .keep_alive_interval(WRITE_STALL)
        .keep_alive_timeout(WRITE_STALL);
    let service = service_fn(|request| {
        let slot = Arc::clone(&connections.shared_requests).try_acquire_owned();
        let begun = slot.map(|slot| progress.begin(slot));
        let router = connections.router.clone();
        async move {
            let Ok(begun) = begun else {
                let detail = "too many requests at once; try again soon";
                return Ok::<_, Infallible>(Problem::new(Code::Overloaded, detail).into_response());
            };
            let response = answer(&router, request, peer).await?;
            Ok(response.map(|body| Body::new(begun.track(body))))
        }
    });
    let mut serving = std::pin::pin!(builder.serve_connection(io, service));
    tokio::select! {
        served = serving.as_mut() => return served,
        halted = progress.halted(app.settings.idle_timeout) => match halted {
            Halted::Stalled => {
                tracing::debug!(%peer, "a client takes nothing of an answer");
                return Ok(());
            }
            Halted::Idle => {}
        },
        () = app.stopping.cancelled() => {}
    }
    serving.as_mut().graceful_shutdown();
    app.env.timeout(GRACE, serving).await.unwrap_or(Ok(()))
}

fn answer(
    router: &Router,
    mut request: Request<Incoming>,
    peer: SocketAddr,
) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<> {
    request.extensions_mut().insert(Peer(peer));
    router.clone().oneshot(request)
}

/// Runs the requests of a connection as tasks that are awaited when the server ends.
#[derive(Clone)]
struct Tasks(TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
