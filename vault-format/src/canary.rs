//! Mistakes made on purpose, to see that the tests notice. They exist in builds with the feature `canaries` alone, which no
//! release build can have, and are switched on one at a time, for one thread or for all of a process. A server built with
//! them takes the name of one from its environment ([`VARIABLE`]); any other does not even look.

use std::cell::Cell;
use std::sync::OnceLock;

#[cfg(not(debug_assertions))]
compile_error!(
    "the feature `canaries` makes mistakes on purpose: it is for tests, in builds with debug assertions"
);

/// The variable of the environment that switches one on in all threads of a server.
pub const VARIABLE: &str = "MESSAGEVAULT_CANARY";

/// A mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Canary {
    /// Writes go out under whatever sequence number the segment has.
    NoFencing,
    /// Appends are answered before they are stored.
    AcknowledgeEarly,
    /// No checksum is looked at.
    SkipCrc,
    /// The tail is looked for before writes of earlier terms are shut out.
    ScanBeforeClaim,
    /// Damage is taken for the end of the log.
    CorruptionIsTail,
}

impl Canary {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::NoFencing,
        Self::AcknowledgeEarly,
        Self::SkipCrc,
        Self::ScanBeforeClaim,
        Self::CorruptionIsTail,
    ];

    /// Its name on a command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoFencing => "no-fencing",
            Self::AcknowledgeEarly => "acknowledge-early",
            Self::SkipCrc => "skip-crc",
            Self::ScanBeforeClaim => "scan-before-claim",
            Self::CorruptionIsTail => "corruption-is-tail",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|canary| canary.as_str() == name)
    }

    /// Switches it on in all threads, for as long as the process runs. The first one that is switched on so counts.
    pub fn switch_on_everywhere(self) {
        EVERYWHERE.get_or_init(|| self);
    }

    /// Switches it on in this thread, and every other one off.
    pub fn switch_on(self) {
        ON.set(Some(self));
    }

    /// Whether it is on in this thread.
    #[must_use]
    pub fn is_on(self) -> bool {
        ON.get() == Some(self) || EVERYWHERE.get() == Some(&self)
    }
}

static EVERYWHERE: OnceLock<Canary> = OnceLock::new();

thread_local! {
    static ON: Cell<Option<Canary>> = const { Cell::new(None) };
}
