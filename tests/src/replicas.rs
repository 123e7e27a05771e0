//! Two servers of one vault, each at an address that it keeps when it is started again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::azurite::Azurite;
use crate::client::Client;
use crate::server::{Server, Setup};
use crate::wait::{LONG, until};

/// How long a server may take to say how it is; one that stands still does not.
const STATUS_LIMIT: Duration = Duration::from_secs(1);

/// Below the ports that systems give to whoever asks for any.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port that nobody listens on, and that no other call in this process has answered.
#[must_use]
pub fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    // Programs that run at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(97) % count;
    let port = || {
        let number = (begin + u32::from(TRIED.fetch_add(1, Ordering::Relaxed))) % count;
        PORTS.start + u16::try_from(number).expect("the remainder is small")
    };
    until("a port is free", LONG, || {
        let port = port();
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
    })
}

/// A server on this Azurite, in the vault with this prefix, that listens on `port`.
#[must_use]
pub fn on_azurite(azurite: &Azurite, prefix: &str, port: u16) -> Setup {
    on_account(&azurite.connection_string(), prefix, port)
}

/// The same, with a connection string.
#[must_use]
pub fn on_account(connection_string: &str, prefix: &str, port: u16) -> Setup {
    on_azure(prefix, port).environment("AZURE_STORAGE_CONNECTION_STRING", connection_string)
}

/// The same, and nothing said of the account yet. Streams are created when they are first appended to.
#[must_use]
pub fn on_azure(prefix: &str, port: u16) -> Setup {
    Setup::bare()
        .with(["--storage", "azure:", "--prefix", prefix, "--log-format", "human", "--auto-create", "true"])
        .with(["--listen".to_owned(), format!("127.0.0.1:{port}")])
}

/// What an orderly server says of itself.
#[must_use]
pub fn status(address: SocketAddr) -> Option<Value> {
    status_for(address, None)
}

/// The same, told to who shows this.
fn status_for(address: SocketAddr, authorization: Option<&str>) -> Option<Value> {
    let client = Client::with_limit(address, STATUS_LIMIT);
    let headers: Vec<_> = authorization.map(|shown| ("Authorization", shown)).into_iter().collect();
    let answer = client.send("GET", "/status", &headers, None).ok()?;
    (answer.status == 200).then(|| answer.json())
}

/// Two servers of one vault. They end with the value.
#[derive(Debug)]
pub struct Replicas {
    servers: [Server; 2],
    /// What is shown where they are asked how they are.
    authorization: Option<String>,
}

impl Replicas {
    /// On this Azurite, in the vault with this prefix.
    #[must_use]
    pub fn on_azurite(azurite: &Azurite, prefix: &str) -> Self {
        Self::start([(); 2].map(|()| on_azurite(azurite, prefix, free_port())))
    }

    /// On one directory.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        let setup = || Setup::at(directory, &format!("127.0.0.1:{}", free_port()));
        Self::start([(); 2].map(|()| setup()))
    }

    /// With these settings, which name different ports. Returns when one leads and the other follows it.
    #[must_use]
    pub fn start(setups: [Setup; 2]) -> Self {
        Self::start_shown(setups, None)
    }

    /// The same with servers that want to know who asks: `authorization` may ask how they are.
    #[must_use]
    pub fn start_guarded(setups: [Setup; 2], authorization: &str) -> Self {
        Self::start_shown(setups, Some(authorization.to_owned()))
    }

    fn start_shown(setups: [Setup; 2], authorization: Option<String>) -> Self {
        let replicas = Self { servers: setups.map(|setup| setup.start()), authorization };
        replicas.settled();
        replicas
    }

    /// One of them.
    #[must_use]
    pub fn server(&self, index: usize) -> &Server {
        &self.servers[index]
    }

    /// One of them, to end it or start it again.
    pub fn server_mut(&mut self, index: usize) -> &mut Server {
        &mut self.servers[index]
    }

    /// A new client of one of them.
    #[must_use]
    pub fn client(&self, index: usize) -> Client {
        self.servers[index].client()
    }

    /// Where they listen.
    #[must_use]
    pub fn addresses(&self) -> [SocketAddr; 2] {
        [0, 1].map(|index| self.servers[index].address())
    }

    /// What one of them says of itself; `None` where it does not answer.
    #[must_use]
    pub fn status(&self, index: usize) -> Option<Value> {
        status_for(self.servers[index].address(), self.authorization.as_deref())
    }

    /// Whether one of them says that it leads.
    #[must_use]
    pub fn leads(&self, index: usize) -> bool {
        self.status(index).is_some_and(|status| status["role"] == "leader")
    }

    /// Waits until one of them leads: which.
    #[must_use]
    pub fn leader(&self) -> usize {
        until("a server leads", LONG, || (0..2).find(|index| self.leads(*index)))
    }

    /// Waits until one of them leads and the other knows: the leader and the follower.
    pub fn settled(&self) -> (usize, usize) {
        until("one leads and the other follows", LONG, || {
            let leader = (0..2).find(|index| self.leads(*index))?;
            let (leads, follows) = (self.status(leader)?, self.status(1 - leader)?);
            let agree = follows["role"] == "follower" && leads["leader"] == follows["leader"];
            (agree && follows["leader"].is_object()).then_some((leader, 1 - leader))
        })
    }

    /// Waits until this one leads.
    pub fn until_leads(&self, index: usize, limit: Duration) {
        until("this server leads", limit, || self.leads(index).then_some(()));
    }

    /// Stops a server where it stands. Connections to it are accepted, but nobody answers.
    pub fn pause(&self, index: usize) {
        self.servers[index].signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self, index: usize) {
        self.servers[index].signal(Signal::CONT);
    }
}
