//! Seeds: a fixed number of them on every run of the tests, those that once failed for ever, and those in which a mistake
//! made on purpose must be noticed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use vault_sim::child::{Played, play, play_within};
use vault_tests::history::Tally;

/// How many seeds are played each time.
const SEEDS: u64 = 60;

/// How many are played at once.
const AT_ONCE: usize = 2;

/// Seeds that have found something, and what. As the simulation changes a seed comes to be about something else; what it
/// found has a test of its own beside the code.
const FOUND: [(u64, &str); 21] = [
    (13, "a successor's segment was taken for damage"),
    (54, "what a read found under an earlier term stuck to the stream"),
    (56, "a message that a follower had shown was beyond the end"),
    (175, "the harness forgot the leases that it had taken without an answer"),
    (200, "a follower waited for its next look when the leader had ended in order"),
    (210, "a segment that was made after its deletion was taken for damage"),
    (254, "a segment that retention had deleted was taken for a deleted stream"),
    (269, "a successor read the pieces of a torn put one by one"),
    (383, "the same as 210, and a follower that had come upon damage answered strong reads"),
    (500, "clients of the harness waited 40 s for a dead server, and hardly looked"),
    (755, "the harness held against a follower what retention had deleted before it came to it"),
    (764, "the harness did not know that a beat may land after its leader's death"),
    (837, "a follower looked between the free page and the lease that was given back"),
    (852, "the same as 837"),
    (909, "the same as 755"),
    (2_396, "the harness wanted more strong reads than a run has whose servers are dead for most of it"),
    (2_984, "the same as 500"),
    (4_050, "the same as 500"),
    (4_631, "the same as 500"),
    (5_040, "the harness held against its last reader what retention deleted under its hands"),
    (6_256, "the same as 2,396"),
];

const SIM: &str = env!("CARGO_BIN_EXE_sim");

fn sim(seed: u64, more: &[&str]) -> Played {
    play(Path::new(SIM), seed, more).expect("the program can be started")
}

/// Plays seeds in order until one of them ends otherwise than well, or all are played; the first such one.
fn first_failure(seeds: &[u64], more: &[&str]) -> Option<Played> {
    first_that(seeds, more, |played| !played.well)
}

/// The same with one that ends in this way.
fn first_that(seeds: &[u64], more: &[&str], ends: impl Fn(&Played) -> bool + Sync) -> Option<Played> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while found.lock().expect("nobody panics").is_empty() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(seed) = seeds.get(index) else { return };
                    let played = sim(*seed, more);
                    if ends(&played) {
                        found.lock().expect("nobody panics").insert(index, played);
                    }
                }
            });
        }
    });
    found.into_inner().expect("nobody panics").into_values().next()
}

#[test]
fn every_promise_is_kept() {
    let found = FOUND.into_iter().map(|(seed, _)| seed).filter(|seed| *seed >= SEEDS);
    let seeds: Vec<u64> = (0..SEEDS).chain(found).collect();
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

#[test]
fn several_seeds_end_with_the_sums_of_all() {
    let seeds = [70, 71, 72];
    let output = Command::new(SIM).args(["--first", "70", "--seeds", "3"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), seeds.len() + 2, "{said}");
    let of = |seed: u64| lines[..seeds.len()].iter().find_map(|line| Tally::parse(seed, line)).unwrap();
    let all = of(70).and(of(71)).and(of(72));
    assert!(all.acknowledged > of(70).acknowledged && all.longest_gap_ms > 0, "{said}");
    assert_eq!(lines.last().unwrap(), &format!("seed 72: {all}"));
    assert!(lines[seeds.len()].starts_with("3 seeds in "), "{said}");
}

#[test]
fn a_seed_that_does_not_end_is_ended() {
    let played = play_within(Duration::from_millis(1), Path::new(SIM), 3, &[]).unwrap();
    assert!(!played.well && played.text.contains("seed 3 was not over after 1ms"), "{played:?}");
}

#[test]
fn arguments_that_are_not_taken_are_no_broken_promise() {
    for wrong in [["--canary", "bogus"], ["--seeds", "0"]] {
        let output = Command::new(SIM).args(["--seed", "3"]).args(wrong).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!((output.status.code(), said.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(play(Path::new(SIM), 3, &wrong).is_err(), "{wrong:?}");
    }
}

/// Without the mistakes nothing shows that they would be noticed.
#[cfg(not(feature = "canaries"))]
#[test]
fn mistakes_made_on_purpose_are_noticed() {
    panic!("this needs the feature `canaries`: cargo test -p vault-sim --features canaries");
}

#[cfg(feature = "canaries")]
mod canaries {
    use vault_format::canary::Canary;

    use super::*;

    /// How a seed ends that tells nothing of the mistake.
    const OTHERWISE: [&str; 3] = ["came to no end", "was not over", "a task panicked"];

    /// The mistake is noticed in the seeds that are played each time, by the promise with these words.
    fn is_caught(canary: Canary, words: &str) {
        let seeds: Vec<u64> = (0..SEEDS).collect();
        let is_noticed = |played: &Played| {
            let Played { well, text, .. } = played;
            let otherwise = OTHERWISE.iter().any(|otherwise| text.contains(otherwise));
            !well && !otherwise && text.contains("BROKEN") && text.contains(words)
        };
        let caught = first_that(&seeds, &["--canary", canary.as_str()], is_noticed);
        assert!(caught.is_some(), "{canary:?} was not noticed: no seed was told of by {words:?}");
    }

    #[test]
    fn no_fencing_is_noticed() {
        is_caught(Canary::NoFencing, "had claimed it");
    }

    #[test]
    fn answers_before_anything_is_stored_are_noticed() {
        is_caught(Canary::AcknowledgeEarly, "acknowledged, but stored at");
    }

    #[test]
    fn checksums_that_nobody_looks_at_are_noticed() {
        is_caught(Canary::SkipCrc, "is stored");
    }

    #[test]
    fn damage_that_is_taken_for_the_end_is_noticed() {
        is_caught(Canary::CorruptionIsTail, "read strongly");
    }
}
