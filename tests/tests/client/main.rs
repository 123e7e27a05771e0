//! The client library against real servers. Run `tests/install-azurite` once before.
#![expect(clippy::unwrap_used, reason = "a test that finds what it needs missing has failed")]

mod access;
mod crashes;
mod direct;
mod examples;
mod failover;
mod ledger;
mod long_values;
mod reading;
mod relay;

use std::net::SocketAddr;
use std::path::Path;

use vault_client::{Client, Settings};
use vault_tests::replicas::free_port;
use vault_tests::server::{Server, Setup};

/// The smallest segments there are.
const SEGMENT: u64 = 4 << 20;
const STREAM: &str = "load";

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn client(server: &Server) -> Client {
    Client::connect(&url(server.address())).unwrap()
}

/// A server that keeps its address when it is started again.
fn at_fixed_port(directory: &Path) -> Setup {
    Setup::at(directory, &format!("127.0.0.1:{}", free_port()))
}

fn small_segments() -> Settings {
    Settings { segment_bytes: Some(SEGMENT), ..Settings::default() }
}
