//! The connections to other servers.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, Method};
use futures::future::BoxFuture;
use reqwest::{Body, Certificate, Client, ClientBuilder, Request, Response, Url};

use crate::limits::{
    FORWARD_CONNECT, FORWARD_GRACE, FORWARD_IDLE, FORWARD_IDLE_CONNECTIONS, FORWARD_KEEPALIVE,
};

/// Carries requests to other servers of the vault in the place of connections: in a simulation, whose network is none.
pub trait Carrier: Send + Sync + fmt::Debug {
    /// Sends a request, whose URL begins with that of the other server, and waits for the head of the answer. `longest` is
    /// how long the answer may take to begin, and how long it may pause after that; `None`: for ever.
    fn carry(
        &self,
        request: Request,
        longest: Option<Duration>,
    ) -> BoxFuture<'static, Result<Response, NotCarried>>;
}

/// No answer has come.
#[derive(Clone, Debug)]
pub struct NotCarried {
    /// Why, in a few words.
    pub why: String,
    /// Whether the request may have arrived.
    pub may_be_done: bool,
}

/// The other server says nothing.
#[derive(Debug)]
pub(super) struct Silence {
    pub(super) why: String,
    pub(super) may_be_done: bool,
}

/// The connections to other servers.
#[derive(Debug)]
pub(crate) struct Peers {
    /// To servers that are called by what their URLs say.
    plain: Clients,
    /// What other servers' certificates name where their URLs have addresses.
    name: Option<String>,
    /// To the server that was called last by that name; another one's connections are no longer wanted.
    named: Mutex<Option<(String, Route)>>,
    trusted: Vec<Certificate>,
    idle: Duration,
    /// How long the leader may take until it begins to answer.
    pub(super) longest: Duration,
}

/// Two clients, for two kinds of answers.
#[derive(Clone, Debug)]
struct Clients {
    soon: Line,
    following: Line,
}

/// What requests of one kind travel on.
#[derive(Clone, Debug)]
pub(super) enum Line {
    Connections(Client),
    Carried { by: Arc<dyn Carrier>, longest: Option<Duration> },
}

impl Line {
    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &self,
        method: Method,
        url: String,
        headers: HeaderMap,
        body: Option<Body>,
    ) -> Result<Response, Silence> {
        let not_sent = |why: String| Silence { why, may_be_done: false };
        let url = Url::parse(&url).map_err(|error| not_sent(error.to_string()))?;
        let mut request = Request::new(method, url);
        *request.headers_mut() = headers;
        *request.body_mut() = body;
        match self {
            Self::Connections(client) => client.execute(request).await.map_err(|error| {
                let may_be_done = !error.is_connect();
                Silence { why: error.without_url().to_string(), may_be_done }
            }),
            Self::Carried { by, longest } => by
                .carry(request, *longest)
                .await
                .map_err(|NotCarried { why, may_be_done }| Silence { why, may_be_done }),
        }
    }
}

/// How a server is reached.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// What URLs begin with.
    pub(super) base: String,
    /// For answers that begin within [`Peers::longest`] and then do not pause as long.
    pub(super) soon: Line,
    /// For answers that may be silent for as long as nothing is appended.
    pub(super) following: Line,
}

impl Peers {
    /// `longest` is how long the leader may take for an answer, `idle` how long it keeps a connection that is idle.
    /// `trusted` are authorities besides those of the system, `name` is what certificates are made out to where a URL has
    /// an address.
    pub(crate) fn new(
        longest: Duration,
        idle: Duration,
        trusted: &[Certificate],
        name: Option<String>,
    ) -> Self {
        let longest = FORWARD_IDLE.max(longest + FORWARD_GRACE);
        let plain = clients(longest, idle, trusted, |builder| builder);
        Self { plain, name, named: Mutex::new(None), trusted: trusted.to_vec(), idle, longest }
    }

    /// Reached through a carrier.
    pub(crate) fn carried(longest: Duration, carrier: &Arc<dyn Carrier>) -> Self {
        let longest = FORWARD_IDLE.max(longest + FORWARD_GRACE);
        let line = |longest| Line::Carried { by: Arc::clone(carrier), longest };
        let plain = Clients { soon: line(Some(longest)), following: line(None) };
        Self { plain, name: None, named: Mutex::new(None), trusted: Vec::new(), idle: longest, longest }
    }

    /// How a server is reached at its URL.
    pub(super) fn route(&self, endpoint: &str) -> Route {
        let named = self.name.as_deref().and_then(|name| Some((name, by_name(endpoint, name)?)));
        let Some((name, (base, address))) = named else {
            let Clients { soon, following } = self.plain.clone();
            return Route { base: endpoint.to_owned(), soon, following };
        };
        // What is there is whole: it is replaced in one step.
        let mut last = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, route)) = last.as_ref().filter(|(of, _)| of == endpoint) {
            return route.clone();
        }
        let Clients { soon, following } =
            clients(self.longest, self.idle, &self.trusted, |builder| builder.resolve(name, address));
        let route = Route { base, soon, following };
        *last = Some((endpoint.to_owned(), route.clone()));
        route
    }
}

fn clients(
    longest: Duration,
    idle: Duration,
    trusted: &[Certificate],
    more: impl Fn(ClientBuilder) -> ClientBuilder,
) -> Clients {
    let client = || {
        let builder = Client::builder()
            // Servers of one vault reach each other directly.
            .no_proxy()
            // A connection of HTTP/2 would be shared by relays, and one that stalls would hold up the others.
            .http1_only()
            .tls_certs_merge(trusted.iter().cloned())
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .tcp_keepalive(FORWARD_KEEPALIVE)
            .connect_timeout(FORWARD_CONNECT)
            .pool_max_idle_per_host(FORWARD_IDLE_CONNECTIONS)
            // What is sent on a connection that the leader is closing may have been carried out or not.
            .pool_idle_timeout(idle / 2);
        more(builder)
    };
    let built = |client: ClientBuilder| {
        let built = client.build();
        Line::Connections(
            built.expect("the certificates have been read, and nothing else depends on the machine"),
        )
    };
    Clients { soon: built(client().read_timeout(longest)), following: built(client()) }
}

/// A URL of TLS with an address, as one with a name and the address that the name is to lead to.
fn by_name(endpoint: &str, name: &str) -> Option<(String, SocketAddr)> {
    let url = Url::parse(endpoint).ok().filter(|url| url.scheme() == "https")?;
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    let address = SocketAddr::new(host.parse::<IpAddr>().ok()?, url.port_or_known_default()?);
    let path = url.path().trim_end_matches('/');
    Some((format!("https://{name}:{}{path}", address.port()), address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_tls_get_a_name_and_nothing_else_does() {
        for (endpoint, base, address) in [
            ("https://10.0.0.7:8480", "https://v.shop.svc:8480", "10.0.0.7:8480"),
            ("https://[fd00::7]:8480", "https://v.shop.svc:8480", "[fd00::7]:8480"),
            ("https://10.0.0.7/vault", "https://v.shop.svc:443/vault", "10.0.0.7:443"),
        ] {
            let expected = (base.to_owned(), address.parse().unwrap());
            assert_eq!(by_name(endpoint, "v.shop.svc"), Some(expected));
        }
        for endpoint in ["http://10.0.0.7:8480", "https://other.example:8480", "nonsense"] {
            assert_eq!(by_name(endpoint, "v.shop.svc"), None, "{endpoint}");
        }
    }

    #[test]
    fn a_leader_keeps_its_connections_and_another_gets_its_own() {
        let peers = |name: Option<&str>| {
            Peers::new(Duration::from_secs(1), Duration::from_secs(9), &[], name.map(str::to_owned))
        };
        assert_eq!(peers(None).route("https://10.0.0.7:1").base, "https://10.0.0.7:1");
        let named = peers(Some("v.shop.svc"));
        for (endpoint, port) in
            [("https://10.0.0.7:1", 1), ("https://10.0.0.7:1", 1), ("https://10.0.0.8:2", 2)]
        {
            assert_eq!(named.route(endpoint).base, format!("https://v.shop.svc:{port}"));
            let kept = named.named.lock().unwrap().as_ref().map(|(of, _)| of.clone());
            assert_eq!(kept.as_deref(), Some(endpoint));
        }
    }
}
