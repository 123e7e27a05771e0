//! Seeds: a fixed number of them on every run of the tests, those that once failed for ever, and those in which a mistake
//! made on purpose must be noticed.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use vault_sim::child::{Played, play};

/// How many seeds are played each time.
const SEEDS: u64 = 60;

/// How many are played at once.
const AT_ONCE: usize = 2;

/// Seeds that have found something, and what. As the simulation changes a seed comes to be about something else; what it
/// found has a test of its own beside the code.
const FOUND: [(u64, &str); 6] = [
    (13, "a successor's segment was taken for damage"),
    (54, "what a read found under an earlier term stuck to the stream"),
    (56, "a message that a follower had shown was beyond the end"),
    (210, "a segment that was made after its deletion was taken for damage"),
    (254, "a segment that retention had deleted was taken for a deleted stream"),
    (383, "the same as 210, and a follower that had come upon damage answered strong reads"),
];

fn sim(seed: u64, more: &[&str]) -> Played {
    play(Path::new(env!("CARGO_BIN_EXE_sim")), seed, more).expect("the program can be started")
}

/// Plays seeds in order until one of them ends otherwise than well, or all are played; that one.
fn first_failure(seeds: &[u64], more: &[&str]) -> Option<Played> {
    let (next, failed) = (AtomicU64::new(0), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while failed.lock().expect("nobody panics").is_none() {
                    let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("it fits");
                    let Some(seed) = seeds.get(index) else { return };
                    let played = sim(*seed, more);
                    if !played.well {
                        *failed.lock().expect("nobody panics") = Some(played);
                    }
                }
            });
        }
    });
    failed.into_inner().expect("nobody panics")
}

#[test]
fn every_promise_is_kept() {
    let seeds: Vec<u64> = (0..SEEDS).chain(FOUND.map(|(seed, _)| seed)).collect();
    if let Some(Played { text, .. }) = first_failure(&seeds, &[]) {
        panic!("{text}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 1_000_003] {
        let (first, second) = (sim(seed, &[]), sim(seed, &[]));
        assert_eq!(first, second);
        assert_eq!(first.trace.len(), 16, "{first:?}");
    }
    assert_ne!(sim(3, &[]).trace, sim(4, &[]).trace);
}

#[cfg(feature = "canaries")]
mod canaries {
    use vault_format::canary::Canary;

    use super::*;

    /// The mistake is noticed in the seeds that are played each time, by a promise in these words.
    fn is_caught(canary: Canary, words: &str) {
        let seeds: Vec<u64> = (0..SEEDS).collect();
        let caught = first_failure(&seeds, &["--canary", canary.as_str()]);
        let Played { text, .. } = caught.unwrap_or_else(|| panic!("{canary:?} was not noticed"));
        assert!(text.contains(words), "{text}");
    }

    #[test]
    fn no_fencing_is_noticed() {
        is_caught(Canary::NoFencing, "BROKEN");
    }

    #[test]
    fn answers_before_anything_is_stored_are_noticed() {
        is_caught(Canary::AcknowledgeEarly, "BROKEN");
    }

    #[test]
    fn checksums_that_nobody_looks_at_are_noticed() {
        is_caught(Canary::SkipCrc, "BROKEN");
    }

    #[test]
    fn damage_that_is_taken_for_the_end_is_noticed() {
        is_caught(Canary::CorruptionIsTail, "BROKEN");
    }
}
