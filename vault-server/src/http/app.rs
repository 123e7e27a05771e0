//! What every request has at hand.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use vault_format::ids::Timestamp;
use vault_format::names::Prefix;

use crate::access::Access;
use crate::election::standing::Standing;
use crate::env::Env;
use crate::http;
use crate::http::forward::Peers;
pub use crate::http::forward::{Carrier, NotCarried};
use crate::http::measured::HttpMetrics;
use crate::http::read::feed::Feeds;
use crate::http::tls::Tls;
use crate::limits::{
    DEFAULT_APPEND_TIMEOUT, DEFAULT_IDLE_TIMEOUT, DEFAULT_MESSAGE_BYTES, REQUEST_BODIES_BYTES,
};
use crate::log::vault::Vault;
use crate::storage::Storage;
use crate::storage::counted::Counted;

/// What the operator chose for the HTTP interface.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// A stream that does not exist is created when it is first appended to.
    pub auto_create: bool,
    /// The longest value of a message.
    pub max_message_bytes: usize,
    /// How long an append waits until it is stored.
    pub append_timeout: Duration,
    /// How long a connection may be idle, and how long the head of a request may take.
    pub idle_timeout: Duration,
    /// The URL at which clients and other servers reach this one.
    pub advertise: String,
    /// The kind of storage, as the status names it.
    pub storage: &'static str,
    /// What the names of the vault's containers begin with.
    pub prefix: String,
    /// The status stands on a listener of its own, and not among the routes for clients.
    pub internal_listener: bool,
    /// What connections are encrypted with. `None`: they are not.
    pub tls: Option<Tls>,
    /// Authorities by which other servers of the vault are trusted, besides those of the system.
    pub trusted: Vec<reqwest::Certificate>,
    /// What the certificates of other servers are made out to where their URLs have addresses.
    pub tls_name: Option<String>,
    /// Only names that are loopback's for sure, and the advertised one, are taken in `Host`.
    pub local_names_only: bool,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Requests are traced.
    pub traced: bool,
    /// What carries requests to other servers. `None`: connections.
    pub carrier: Option<Arc<dyn Carrier>>,
}

impl HttpSettings {
    /// As a server has them that nothing else is said to.
    #[must_use]
    pub fn new(advertise: String, storage: &'static str, prefix: &Prefix, access: Arc<Access>) -> Self {
        Self {
            auto_create: false,
            max_message_bytes: DEFAULT_MESSAGE_BYTES,
            append_timeout: DEFAULT_APPEND_TIMEOUT,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            advertise,
            storage,
            prefix: prefix.as_str().to_owned(),
            internal_listener: false,
            tls: None,
            trusted: Vec::new(),
            tls_name: None,
            local_names_only: false,
            access,
            traced: false,
            carrier: None,
        }
    }
}

/// What every request has at hand.
pub struct App {
    /// The streams.
    pub vault: Vault,
    /// Time.
    pub env: Env,
    /// The storage's request counts.
    pub storage: Arc<Counted<dyn Storage>>,
    /// What the operator chose.
    pub settings: HttpSettings,
    /// Cancelled when the server is told to end: reads that wait are answered at once.
    pub stopping: CancellationToken,
    /// Connections open now.
    pub connections: AtomicUsize,
    /// Bytes that request bodies may still take.
    pub(crate) bodies: Arc<Semaphore>,
    /// How the election goes.
    pub standing: watch::Receiver<Standing>,
    /// The connections to other servers.
    pub(crate) peers: Peers,
    /// What is written once for all who follow a stream.
    pub(crate) feeds: Feeds,
    /// What the routes count.
    pub(crate) metrics: HttpMetrics,
    /// When this was made.
    pub(crate) started: Timestamp,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl App {
    /// A server that has not begun to lead.
    #[must_use]
    pub fn new(
        vault: Vault,
        env: Env,
        storage: Arc<Counted<dyn Storage>>,
        settings: HttpSettings,
        standing: watch::Receiver<Standing>,
    ) -> Arc<Self> {
        let longest = settings.append_timeout.max(vault.patience());
        let peers = match &settings.carrier {
            Some(carrier) => Peers::carried(longest, carrier),
            None => Peers::new(longest, settings.idle_timeout, &settings.trusted, settings.tls_name.clone()),
        };
        let started = env.clock.now();
        Arc::new(Self {
            vault,
            env,
            storage,
            settings,
            stopping: CancellationToken::new(),
            connections: AtomicUsize::new(0),
            bodies: Arc::new(Semaphore::new(REQUEST_BODIES_BYTES)),
            standing,
            peers,
            feeds: Feeds::default(),
            metrics: HttpMetrics::new(http::routes()),
            started,
        })
    }

    /// Why reads cannot be served now. `None` where they can.
    pub(crate) fn why_not_ready(&self) -> Option<String> {
        if self.stopping.is_cancelled() {
            return Some("the server is ending".to_owned());
        }
        if self.vault.term().is_some() {
            return None;
        }
        self.standing.borrow().why_not_ready().map(str::to_owned)
    }

    /// Counts a connection until the answer is dropped.
    pub(crate) fn connected(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(self))
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub(crate) struct Connected(Arc<App>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
