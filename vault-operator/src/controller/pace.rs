//! When a resource is looked at again although nothing tells of a change.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use vault_server::env::Env;

use crate::conditions::State;
use crate::limits::{
    LOOK_JITTER, PROGRESS_LOOK, RETRY_FIRST, RETRY_LONGEST, RETRY_LONGEST_AT_FIRST, RETRY_OFTEN_FOR,
};

/// How long each resource that is not ready has been found in the same state.
pub struct Paces {
    look_every: Duration,
    paces: Mutex<HashMap<String, Pace>>,
}

/// How a resource fares that is not ready.
#[derive(Clone, Copy)]
struct Pace {
    /// Why it is not.
    word: &'static str,
    /// What is wanted of it.
    intent: Option<u64>,
    /// How many waits it has been so.
    times: u32,
    /// Since when it has not been ready, on the monotonic clock.
    since: Duration,
    /// When the last of them ends, on the monotonic clock.
    due: Duration,
}

impl Paces {
    /// For resources that are looked at every so often where all is well.
    #[must_use]
    pub fn new(look_every: Duration) -> Self {
        Self { look_every, paces: Mutex::default() }
    }

    /// When to look again at a resource, by its uid, that was found in a state.
    /// `intent` tells what is wanted of it from what was wanted before.
    pub fn after(&self, uid: &str, intent: Option<u64>, state: &State, env: &Env) -> Duration {
        let mut dice = [0; 2];
        env.entropy.fill(&mut dice);
        let dice = f64::from(u16::from_le_bytes(dice)) / f64::from(u16::MAX);
        self.after_at(uid, intent, state, env.clock.monotonic(), dice)
    }

    fn after_at(&self, uid: &str, intent: Option<u64>, state: &State, now: Duration, dice: f64) -> Duration {
        let mut map = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(state, State::Ready(_) | State::Paused) {
            map.remove(uid);
            return wait(self.look_every, state, 0, RETRY_LONGEST, dice);
        }
        let word = state.reason().word;
        let fresh = Pace { word, intent, times: 0, since: now, due: now };
        let pace = map.entry(uid.to_owned()).or_insert(fresh);
        if pace.intent != intent {
            // Somebody has done something about it, and looks on.
            *pace = fresh;
        } else if pace.word != word {
            // It went on: what comes next has not been waited for yet.
            *pace = Pace { word, times: 0, due: now, ..*pace };
        }
        // Looks that changes call for come as they come, and tell nothing of how long it takes.
        if pace.times == 0 || now >= pace.due {
            pace.times = pace.times.saturating_add(1);
        }
        let recent = now.saturating_sub(pace.since) < RETRY_OFTEN_FOR;
        let longest = if recent { RETRY_LONGEST_AT_FIRST } else { RETRY_LONGEST };
        let wait = wait(self.look_every, state, pace.times, longest, dice);
        pace.due = now.saturating_add(wait);
        wait
    }

    /// Forgets a resource that is gone.
    pub fn forget(&self, uid: &str) {
        self.paces.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// How long to wait after a resource was found in a state for the `times`th time in a row; `dice` from 0 to 1.
fn wait(look_every: Duration, state: &State, times: u32, longest: Duration, dice: f64) -> Duration {
    let doubled = |first: Duration| first.saturating_mul(1 << times.saturating_sub(1).min(16)).min(longest);
    let wait = match state {
        State::Ready(_) | State::Paused => look_every,
        State::Reconciling(reason) if reason.word.starts_with("WaitingFor") => doubled(PROGRESS_LOOK),
        State::Reconciling(_) | State::Stalled(_) => doubled(RETRY_FIRST),
    };
    wait.mul_f64(1.0 + LOOK_JITTER * (2.0 * dice - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::Reason;

    const LOOK_EVERY: Duration = Duration::from_secs(300);

    fn state(word: &'static str) -> State {
        State::Reconciling(Reason::new(word, ""))
    }

    #[test]
    fn failures_back_off_from_five_seconds_to_five_minutes() {
        let (paces, away) = (Paces::new(LOOK_EVERY), state("StorageUnreachable"));
        let (mut now, mut waits) = (Duration::ZERO, Vec::new());
        while now < 2 * RETRY_OFTEN_FOR {
            let wait = paces.after_at("a", None, &away, now, 0.5);
            waits.push(wait.as_secs());
            now += wait;
        }
        // Roles that were just granted work within minutes, and somebody waits for that.
        assert_eq!(waits[..5], [5, 10, 20, 30, 30]);
        assert_eq!(waits[waits.len() - 3..], [300, 300, 300]);
        assert_eq!(paces.after_at("a", Some(1), &away, now, 0.5).as_secs(), 5, "it was changed");
        let wait = |times, dice| wait(LOOK_EVERY, &away, times, RETRY_LONGEST, dice);
        assert_eq!(wait(u32::MAX, 1.0).as_secs(), 360);
        assert_eq!(wait(4, 0.5).as_secs(), 40);
    }

    #[test]
    fn success_and_progress_begin_anew() {
        let (paces, away) = (Paces::new(LOOK_EVERY), state("StorageUnreachable"));
        let mut now = Duration::ZERO;
        for expected in [5, 10, 20, 30, 30] {
            let wait = paces.after_at("a", None, &away, now, 0.5);
            assert_eq!(wait.as_secs(), expected);
            now += wait;
        }
        assert_eq!(paces.after_at("a", None, &state("WaitingForLeader"), now, 0.5), PROGRESS_LOOK);
        for _ in 0..20 {
            now += Duration::from_millis(100);
            let wait = paces.after_at("a", None, &state("WaitingForLeader"), now, 0.5);
            assert_eq!(wait, PROGRESS_LOOK, "changes called for these looks");
        }
        now += PROGRESS_LOOK;
        assert_eq!(paces.after_at("a", None, &state("WaitingForLeader"), now, 0.5), 2 * PROGRESS_LOOK);
        paces.after_at("a", None, &State::Ready(Reason::new("Ready", "")), now, 0.5);
        assert_eq!(paces.after_at("a", None, &state("WaitingForLeader"), now, 0.5), PROGRESS_LOOK);
    }

    #[test]
    fn chance_spreads_the_looks() {
        let (paces, env) = (Paces::new(LOOK_EVERY), Env::real());
        let ready = State::Ready(Reason::new("Ready", ""));
        let looks: Vec<_> = (0..50).map(|_| paces.after("a", None, &ready, &env)).collect();
        assert!(looks.iter().all(|look| (240..=360).contains(&look.as_secs())));
        assert!(looks.iter().any(|look| *look != looks[0]));
    }
}
