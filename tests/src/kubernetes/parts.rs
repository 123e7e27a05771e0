//! Where the programs are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// One of the programs that `tests/install-kubernetes` provides.
///
/// # Panics
///
/// With a sentence that says how to get them, where they are not installed.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("install-kubernetes");
    let folder = FOLDER.get_or_init(|| {
        let answer = Command::new(&install).arg("--where").output().expect("the script can be run");
        PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim())
    });
    let path = folder.join(name);
    assert!(path.is_file(), "there is no {name}: run {}, which builds it", install.display());
    path
}
