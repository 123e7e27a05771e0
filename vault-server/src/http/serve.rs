//! Listening: connections are accepted up to a limit, and ended in order.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::app::App;
use crate::http::connection::{Connections, serve_connection};
use crate::http::tls::Tls;
use crate::limits::GRACE;

/// What a connection above the limit is told.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Type: text/plain\r\nContent-Length: 21\r\n\r\ntoo many connections\n";

/// How long accepting pauses after it failed: usually the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the server listens, and how.
#[derive(Debug)]
pub struct Listening {
    /// Bound.
    pub listener: TcpListener,
    /// What connections are encrypted with. `None`: they are not.
    pub tls: Option<Tls>,
    /// The most connections at once, and the most requests at once that share a connection with others.
    pub max_connections: usize,
}

/// Serves connections until `app.stopping`, then lets requests in flight finish for a while, and returns when every
/// connection is closed.
pub async fn serve(app: Arc<App>, router: Router, listening: Listening) {
    let Listening { listener, tls, max_connections } = listening;
    let slots = Arc::new(Semaphore::new(max_connections));
    let tasks = TaskTracker::new();
    let cut_off = CancellationToken::new();
    let encrypted = tls.is_some();
    let connections = Arc::new(Connections {
        app: Arc::clone(&app),
        router,
        tls,
        tasks: tasks.clone(),
        shared_requests: Arc::new(Semaphore::new(max_connections)),
    });
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
            // Who waits for a handshake would not understand.
            if !encrypted {
                refuse(stream);
            }
            continue;
        };
        let (connections, cut_off) = (Arc::clone(&connections), cut_off.clone());
        tasks.spawn(async move {
            let counted = connections.app.connected();
            tokio::select! {
                () = serve_connection(&connections, stream, peer) => {}
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
