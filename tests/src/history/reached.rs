//! How far streams are known to go while a run goes on, for followers that are to get there.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How far each stream goes at least.
#[derive(Debug, Default)]
pub struct Reached(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    ends: BTreeMap<String, u64>,
    settled_ms: Option<u64>,
}

impl Reached {
    /// An acknowledgement or a strong read told of everything before this offset.
    pub fn note(&self, stream: &str, end: u64) {
        let mut state = self.state();
        let known = state.ends.entry(stream.to_owned()).or_default();
        *known = (*known).max(end);
    }

    /// From this moment on nobody appends any more, and nothing is wrong.
    pub fn settle(&self, now_ms: u64) {
        self.state().settled_ms = Some(now_ms);
    }

    /// Since when nobody appends any more, and where the stream is known to end.
    #[must_use]
    pub fn settled(&self, stream: &str) -> Option<(u64, u64)> {
        let state = self.state();
        Some((state.settled_ms?, state.ends.get(stream).copied().unwrap_or_default()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_the_farthest_that_anybody_told_of() {
        let reached = Reached::default();
        reached.note("s", 5);
        reached.note("s", 3);
        assert_eq!(reached.settled("s"), None);
        reached.settle(70);
        assert_eq!(reached.settled("s"), Some((70, 5)));
        assert_eq!(reached.settled("of nobody"), Some((70, 0)));
    }
}
