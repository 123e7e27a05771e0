//! Mistakes that servers make on purpose, where they are built for that (feature `canaries`): to see that a check of
//! what they do can fail.

use crate::server::Setup;

/// Names a mistake to a server. One that is built without them does not look at it.
const VARIABLE: &str = "MESSAGEVAULT_CANARY";

/// Has a server make the mistake of this name.
#[must_use]
pub fn made(setup: Setup, name: &str) -> Setup {
    setup.environment(VARIABLE, name)
}

/// Whether a server whose log this is makes one.
#[must_use]
pub fn is_admitted(log: &str) -> bool {
    log.contains("a mistake is made on purpose")
}
