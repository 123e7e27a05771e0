//! libfaketime, by which the wall clock of one process is wrong.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::Setup;

/// The library, as `./tests/install-faketime` unpacks it.
fn library() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("install-faketime");
    let output = Command::new(&script).arg("--where").output().expect("tests/install-faketime can be run");
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    assert!(path.is_file(), "there is no libfaketime: run ./tests/install-faketime, as ./tests/run does");
    path
}

/// Has a server add what stands in the file `clock`, such as `+5` or `-3` seconds, to its wall clock, and see within a
/// second when that changes. Its monotonic clock is right.
#[must_use]
pub fn preload(setup: Setup, clock: &Path) -> Setup {
    setup
        .environment("LD_PRELOAD", &library().to_string_lossy())
        .environment("FAKETIME_TIMESTAMP_FILE", &clock.to_string_lossy())
        .environment("FAKETIME_CACHE_DURATION", "1")
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .environment("DONT_FAKE_MONOTONIC", "1")
}
