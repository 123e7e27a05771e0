//! What a resource's status says of it, as conditions. Pure: times and generations are passed in.
//!
//! | condition | is `True` when |
//! |---|---|
//! | `Ready` | everything is as the resource says |
//! | `Reconciling` | the operator, or somebody it waits for, is still at work |
//! | `Stalled` | nothing goes on until somebody changes something; the message says what |
//! | `StorageReachable` | the operator's last request to the storage account was answered (vaults alone) |
//! | `Paused` | the annotation says so: nothing is looked at or changed |
//!
//! Ready, Reconciling and Stalled are what `kubectl wait`, kstatus and Helm's `--wait` read.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The type of a condition.
pub const READY: &str = "Ready";
/// The type of a condition.
pub const RECONCILING: &str = "Reconciling";
/// The type of a condition.
pub const STALLED: &str = "Stalled";
/// The type of a condition.
pub const STORAGE_REACHABLE: &str = "StorageReachable";
/// The type of a condition.
pub const PAUSED: &str = "Paused";

/// The longest message that a condition may have, by the API server's rule; it counts bytes here.
const MAX_MESSAGE_BYTES: usize = 32_768;

/// Why something is as it is: a word in CamelCase for programs, and a sentence for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason {
    /// The word.
    pub word: &'static str,
    /// The sentence.
    pub sentence: String,
}

impl Reason {
    /// A word and a sentence.
    pub fn new(word: &'static str, sentence: impl Into<String>) -> Self {
        Self { word, sentence: sentence.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sentence.fmt(f)
    }
}

/// How a resource is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// As it says.
    Ready(Reason),
    /// On the way there; it is tried again.
    Reconciling(Reason),
    /// Somebody must change something.
    Stalled(Reason),
    /// Left alone.
    Paused,
}

impl State {
    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Ready(reason) | Self::Reconciling(reason) | Self::Stalled(reason) => reason.clone(),
            Self::Paused => {
                Reason::new("Paused", "paused by the annotation messagevault.io/paused: take it off to go on")
            }
        }
    }

    /// The label of metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ready(_) => "ready",
            Self::Reconciling(_) => "reconciling",
            Self::Stalled(_) => "stalled",
            Self::Paused => "paused",
        }
    }

    /// What is wrong, in a sentence.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Stalled(reason) | Self::Reconciling(reason) => Some(reason.sentence.clone()),
            Self::Ready(_) | Self::Paused => None,
        }
    }

    /// The conditions that say so, given those of before: what did not flip keeps its time.
    #[must_use]
    pub fn conditions(&self, before: &[Condition], generation: Option<i64>, now: &Time) -> Vec<Condition> {
        let reason = self.reason();
        let not = Reason::new(reason.word, "");
        let set = |kind: &str, is: bool| {
            let why = if is || kind == READY { &reason } else { &not };
            condition(kind, Some(is), why, before, generation, now)
        };
        let paused = matches!(self, Self::Paused);
        let mut all = vec![
            set(READY, matches!(self, Self::Ready(_))),
            set(RECONCILING, matches!(self, Self::Reconciling(_))),
            set(STALLED, matches!(self, Self::Stalled(_))),
            set(PAUSED, paused),
        ];
        if paused {
            // What was known before the pause may hold still; nobody looks.
            for kind in [READY, RECONCILING, STALLED] {
                if let Some(kept) = before.iter().find(|condition| condition.type_ == kind) {
                    all.retain(|condition| condition.type_ != kind);
                    all.push(kept.clone());
                }
            }
        }
        all
    }
}

/// One condition: `None` says that it is unknown.
#[must_use]
pub fn condition(
    kind: &str,
    is: Option<bool>,
    why: &Reason,
    before: &[Condition],
    generation: Option<i64>,
    now: &Time,
) -> Condition {
    let status = match is {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let last = before.iter().find(|condition| condition.type_ == kind && condition.status == status);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: why.word.to_owned(),
        message: bounded(&why.sentence),
        observed_generation: generation,
        last_transition_time: last.map_or_else(|| now.clone(), |last| last.last_transition_time.clone()),
    }
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_MESSAGE_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap())
    }

    fn find<'a>(all: &'a [Condition], kind: &str) -> &'a Condition {
        all.iter().find(|condition| condition.type_ == kind).unwrap()
    }

    #[test]
    fn times_move_on_flips_alone() {
        let waiting = State::Reconciling(Reason::new("WaitingForServers", "0 of 2 servers are ready"));
        let first = waiting.conditions(&[], Some(1), &at(10));
        assert_eq!(
            (find(&first, READY).status.as_str(), find(&first, RECONCILING).status.as_str()),
            ("False", "True")
        );
        let again = waiting.conditions(&first, Some(1), &at(20));
        assert_eq!(again, first, "nothing changed");
        let further = State::Reconciling(Reason::new("WaitingForServers", "1 of 2 servers are ready"));
        let further = further.conditions(&first, Some(2), &at(30));
        assert_eq!(find(&further, READY).last_transition_time, at(10));
        assert_eq!(find(&further, READY).message, "1 of 2 servers are ready");
        let ready = State::Ready(Reason::new("Ready", "all is well")).conditions(&further, Some(2), &at(40));
        assert_eq!(find(&ready, READY).last_transition_time, at(40));
        assert_eq!(find(&ready, RECONCILING).last_transition_time, at(40));
        assert_eq!(find(&ready, STALLED).last_transition_time, at(10));
    }

    #[test]
    fn a_pause_keeps_what_was_known() {
        let ready = State::Ready(Reason::new("Ready", "all is well")).conditions(&[], Some(1), &at(10));
        let paused = State::Paused.conditions(&ready, Some(2), &at(20));
        assert_eq!(find(&paused, READY), find(&ready, READY));
        assert_eq!(find(&paused, PAUSED).status, "True");
        assert_eq!(paused.len(), 4);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = State::Stalled(Reason::new("Long", "ä".repeat(MAX_MESSAGE_BYTES)));
        let all = long.conditions(&[], None, &at(1));
        assert_eq!(find(&all, STALLED).message.len(), MAX_MESSAGE_BYTES);
    }
}
