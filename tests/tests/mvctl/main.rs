//! The `mvctl` program against the real server: what each command does, what it refuses, how it ends.

mod append;
mod archive;
mod azurite;
mod bench;
mod read;
mod servers;
mod streams;

use tempfile::TempDir;
use vault_tests::mvctl::Mvctl;
use vault_tests::server::{Server, Setup, temporary_directory};

/// A server of its own, and the program that speaks to it.
fn vault() -> (TempDir, Server, Mvctl) {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let mvctl = Mvctl::of(server.address());
    (directory, server, mvctl)
}
