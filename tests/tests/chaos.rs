//! Everything goes wrong with real servers, storage and clients, and the promises are kept.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use vault_tests::process::output_within;
use vault_tests::server::program_named;

/// How many messages must be acknowledged for it to count.
const ACKNOWLEDGED: u64 = 100_000;

/// What is told of each kind of fault, and of no other.
const KINDS: [&str; 11] = [
    " dies",
    " ends in order",
    ", longer than a lease lasts",
    "storage stands still for ",
    "the clock of server ",
    " replies from storage ",
    " and no reply comes back ",
    " to storage are cut, ",
    "storage is slow for ",
    "storage refuses ",
    " from others: ",
];

/// What the machine is forgiven that runs all other tests meanwhile. Tests that measure say how soon appends go on.
const SLACK_MS: &str = "20000";

/// How long it may take in all: what it does to let clients come to an end, and to have acknowledged so many, has limits of
/// its own.
const LIMIT: Duration = Duration::from_secs(1_200);

#[test]
fn a_hundred_thousand_messages_survive_what_a_seed_does_to_servers_and_storage() {
    let mut chaos = Command::new(program_named("chaos"));
    chaos.args(["--seconds", "30", "--seed", "1", "--slack", SLACK_MS]);
    chaos.args(["--messages", &ACKNOWLEDGED.to_string()]);
    // Servers and storage end with it.
    chaos.process_group(0).stderr(Stdio::piped());
    let output = output_within(LIMIT, &mut chaos).unwrap().unwrap_or_else(|| panic!("it took {LIMIT:?}"));
    let [said, told] =
        [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
    assert!(output.status.success(), "{told}\n{said}");
    let last = said.lines().last().unwrap();
    let number = |what: &str| -> u64 {
        let words: Vec<_> = last.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let place = words.iter().position(|word| *word == what).unwrap_or_else(|| panic!("{what}: {last}"));
        words[place - 1].parse().unwrap()
    };
    assert!(last.starts_with("seed 1: "), "{last}");
    assert!(number("acknowledged") >= ACKNOWLEDGED && number("faults") >= KINDS.len() as u64, "{last}");
    for kind in KINDS {
        assert!(told.lines().any(|line| line.contains(kind)), "nothing was told of `{kind}`:\n{told}");
    }
    // Nothing is wrong with a clock that is wrong by nothing.
    assert!(![" by +0 s", " by -0 s"].into_iter().any(|step| told.contains(step)), "{told}");
    assert_eq!((number("lost"), number("repeated")), (0, 0), "{last}");
}
