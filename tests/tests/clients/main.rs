//! Clients that nobody here wrote, against the real server. Run `tests/install-clients` and `tests/install-azurite`
//! once before.
#![expect(clippy::unwrap_used, reason = "a test that finds what it needs missing has failed")]

mod cloud_events;
mod direct_reads;

use std::ffi::OsString;
use std::process::Command;

use serde_json::Value;
use vault_tests::clients;

/// Runs a script of `tests/clients` with the packages that are pinned there: the JSON that it prints.
fn python<A: Into<OsString>>(script: &str, arguments: impl IntoIterator<Item = A>) -> Value {
    let mut command = Command::new(clients::python());
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy().to_lowercase();
        // Servers of tests are reached directly.
        if name_text.ends_with("_proxy") || name_text.starts_with("azure_") {
            command.env_remove(name);
        }
    }
    command.arg(clients::scripts().join(script)).args(arguments.into_iter().map(Into::into));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}
