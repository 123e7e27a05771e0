//! A vault in this process, behind the same [`Client`] as one across the network: for tests and tools.
//!
//! It is the server itself, without listeners: requests reach its routes as function calls. On a directory it keeps what a
//! server keeps, so that either may go on with what the other left; only one of them at a time.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::StreamExt;
use http::Request;
use thiserror::Error;
use tower::ServiceExt;
use vault_format::names::{InvalidName, Prefix};
use vault_server::access::Access;
use vault_server::config::StorageSetting;
use vault_server::env::Env;
use vault_server::http::app::HttpSettings;
use vault_server::log::Options;
use vault_server::node::{Node, NodeError};
use vault_server::storage::open::{OpenError, open};

use crate::client::Client;
use crate::limits::EMBEDDED_START;
use crate::transport::{Failed, RawAnswer, Transport};

/// How long a request waits for the storage.
const PATIENCE: Duration = Duration::from_secs(30);

/// What stands in the place of a server's URL.
const ENDPOINT: &str = "embedded:";

/// Where a vault keeps its messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// In this process: they are gone with it.
    Memory,
    /// In a directory, as a server with `--storage file:` keeps them.
    Directory(PathBuf),
}

/// Why a vault cannot be opened.
#[derive(Debug, Error)]
pub enum EmbeddedError {
    /// The directory cannot be used.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// The prefix of its containers is none.
    #[error(transparent)]
    Prefix(#[from] InvalidName),
    /// It is another vault's, or broke down.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Somebody else has it.
    #[error("{0}")]
    NotLeading(String),
}

/// A vault in this process. [`Embedded::close`] waits until it has ended in order; where it is dropped it ends a moment later,
/// as far as the runtime lives on. What was not acknowledged may or may not be stored then, as after a crash.
pub struct Embedded {
    node: Node,
    transport: Arc<dyn Transport>,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Embedded(..)")
    }
}

impl Embedded {
    /// Opens a vault whose containers begin with `prefix` (servers use `mv-` unless told otherwise), and waits until it
    /// can be appended to. Streams are made when they are first appended to.
    pub async fn open(place: Place, prefix: &str) -> Result<Self, EmbeddedError> {
        let env = Env::real();
        let prefix = Prefix::new(prefix)?;
        let setting = match place {
            Place::Memory => StorageSetting::Memory,
            Place::Directory(directory) => StorageSetting::File(directory),
        };
        let opened = open(&setting, Vec::new(), &env).await?;
        let options = Options { pacing: setting.pacing(), ..Options::new(PATIENCE) };
        let settings = HttpSettings {
            auto_create: true,
            append_timeout: PATIENCE,
            idle_timeout: PATIENCE,
            ..HttpSettings::new(
                ENDPOINT.to_owned(),
                setting.kind(),
                &prefix,
                Access::for_everybody(env.clone()),
            )
        };
        let mut node = Node::start(opened.storage, env, prefix, None, options, settings);
        wait_until_it_leads(&mut node).await?;
        let transport = Arc::new(InProcess(node.router()));
        Ok(Self { node, transport })
    }

    /// A client of the vault.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_with_prefix("")
    }

    /// A client that puts `stream_prefix` in front of the names of streams.
    #[must_use]
    pub fn client_with_prefix(&self, stream_prefix: &str) -> Client {
        Client::over(Arc::clone(&self.transport), None, stream_prefix.to_owned(), None, None)
    }

    /// Stores what was accepted and ends. Clients that are left are refused from then on.
    pub async fn close(self) -> Result<(), EmbeddedError> {
        self.node.app().stopping.cancel();
        Ok(self.node.hand_over().await?)
    }
}

async fn wait_until_it_leads(node: &mut Node) -> Result<(), EmbeddedError> {
    let app = node.app();
    let mut standing = app.standing.clone();
    // Who led before may have had the same name.
    let leads = standing.wait_for(|_| app.vault.term().is_some());
    tokio::select! {
        led = leads => {
            led.map_err(|_| EmbeddedError::NotLeading("the vault ended while it was opened".to_owned()))?;
            Ok(())
        }
        ended = node.ended() => {
            ended?;
            Err(EmbeddedError::NotLeading("the vault ended while it was opened".to_owned()))
        }
        () = tokio::time::sleep(EMBEDDED_START) => {
            let why = app.standing.borrow().trouble.clone();
            let other = "another process has it open: end that one, or go through it".to_owned();
            Err(EmbeddedError::NotLeading(why.unwrap_or(other)))
        }
    }
}

/// Requests as calls of the server's routes.
struct InProcess(Router);

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess(..)")
    }
}

impl Transport for InProcess {
    fn endpoints(&self) -> usize {
        1
    }

    fn endpoint(&self, _: usize) -> &str {
        ENDPOINT
    }

    fn send(&self, _: usize, request: Request<Bytes>) -> BoxFuture<'_, Result<RawAnswer, Failed>> {
        let answered = self.0.clone().oneshot(request.map(Body::from));
        Box::pin(async move {
            let (parts, body) = match answered.await {
                Ok(response) => response.into_parts(),
                Err(impossible) => match impossible {},
            };
            let pieces = body.into_data_stream().map(|piece| piece.map_err(|error| error.to_string()));
            Ok(RawAnswer { status: parts.status, headers: parts.headers, body: pieces.boxed() })
        })
    }
}
