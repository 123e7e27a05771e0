//! What goes wrong outside of the server: requests, clients, settings, files. Each is met by the real process.

mod damage;
mod damaged_reads;
mod requests;
mod slow_clients;
mod startup;
mod stream_names;

use tempfile::TempDir;
use vault_tests::server::{Server, Setup, temporary_directory};

/// A server with file storage of its own. The directory comes first, so that it is removed last.
fn server() -> (Server, TempDir) {
    let directory = temporary_directory();
    (Setup::in_directory(directory.path()).start(), directory)
}
