//! Clients that nobody here wrote: packages of PyPI and npm that `tests/clients` pins, and the scripts there that use them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder with the scripts.
#[must_use]
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Where the packages are installed. Panics where they are not.
#[must_use]
pub fn installed() -> PathBuf {
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("install-clients");
    let answer = Command::new(&install).arg("--where").output().expect("the script can be run");
    let folder = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    assert!(folder.join("complete").is_file(), "the clients are not installed: run {}", install.display());
    folder
}

/// The Python interpreter that has the packages of PyPI.
#[must_use]
pub fn python() -> PathBuf {
    installed().join("python/bin/python")
}
