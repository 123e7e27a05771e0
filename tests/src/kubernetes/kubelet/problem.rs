//! Why a container does not run, as the status of its pod tells it.

/// A reason in one word, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The reason of whatever these tests' kubelet does not play.
pub(super) const NOT_PLAYED: &str = "NotPlayedHere";

impl Problem {
    /// Something that its environment needs is not there.
    pub(super) fn config(message: impl Into<String>) -> Self {
        Self { reason: "CreateContainerConfigError", message: message.into() }
    }

    /// A volume cannot be set up yet. The real kubelet says no more of it here either.
    pub(super) fn volume(message: impl Into<String>) -> Self {
        Self { reason: "ContainerCreating", message: message.into() }
    }

    /// The pod asks for something that is not played.
    pub(super) fn not_played(what: impl std::fmt::Display) -> Self {
        Self { reason: NOT_PLAYED, message: format!("the kubelet of these tests does not play {what}") }
    }
}
