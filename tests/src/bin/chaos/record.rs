//! The history of a run as it grows.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use vault_tests::history::{Append, Event, Outcome};

/// What happened so far.
#[derive(Debug)]
pub(crate) struct Record {
    began: Instant,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    events: Vec<Event>,
    complaints: Vec<String>,
    /// How many messages were acknowledged.
    messages: u64,
    /// For each stream the beginning of the latest append that was acknowledged.
    acknowledged: HashMap<String, u64>,
}

impl Record {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), seen: Mutex::default() }
    }

    /// In ms since the run began.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn put(&self, event: Event) {
        let mut seen = self.seen();
        if let Event::Append(append) = &event
            && let Append { stream, begun_ms, outcome: Outcome::Acknowledged { .. }, messages, .. } = append
        {
            seen.messages += messages.len() as u64;
            let latest = seen.acknowledged.entry(stream.clone()).or_default();
            *latest = (*latest).max(*begun_ms);
        }
        seen.events.push(event);
    }

    /// Notes what no event tells and must not be.
    pub(crate) fn complain(&self, sentence: String) {
        self.seen().complaints.push(sentence);
    }

    /// How many messages were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.seen().messages
    }

    /// Whether every stream has taken an append that began at that time or later.
    pub(crate) fn went_on(&self, streams: &[String], from_ms: u64) -> bool {
        let seen = self.seen();
        streams.iter().all(|stream| seen.acknowledged.get(stream).is_some_and(|begun| *begun >= from_ms))
    }

    /// All of it.
    pub(crate) fn take(&self) -> (Vec<Event>, Vec<String>) {
        let mut seen = self.seen();
        (std::mem::take(&mut seen.events), std::mem::take(&mut seen.complaints))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
