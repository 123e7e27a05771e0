//! No room left: appends are refused with a clear word, what was acknowledged stays, and once there is room the same
//! server goes on.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, prlimit};
use vault_tests::ledger::{self, Producer};
use vault_tests::server::{Server, Setup, temporary_directory};
use vault_tests::wait::until;

const STREAM: &str = "filling";
const SEGMENT_BYTES: u64 = 16 << 20;

/// How long messages are. In front of short ones zeros are written, which take room too.
const LONG_AND_SHORT: [usize; 2] = [200_000, 3_000];

/// How many requests are sent before it is looked at the time.
const SENT_AT_ONCE: usize = 100;

/// Appends until the room is gone, makes some, and appends again. `take_room` comes after the first append: the
/// segment exists by then.
fn fill_and_go_on(server: &Server, value_bytes: usize, take_room: impl FnOnce(), make_room: impl FnOnce()) {
    let client = server.client();
    client.create(STREAM, SEGMENT_BYTES);
    let mut producers = [Producer::new("first", 1, value_bytes), Producer::new("second", 2, value_bytes)];
    producers[0].send(&client, STREAM).expect("an answer").expect(200);
    take_room();
    let mut refused = 0;
    let problem = until("storage is full", Duration::from_secs(120), || {
        let mut answers = (0..SENT_AT_ONCE).map(|_| producers[0].send(&client, STREAM).expect("an answer"));
        let answer = answers.find(|answer| answer.status != 200)?;
        let problem = answer.problem();
        let code = problem["code"].as_str().expect("a word");
        match (answer.status, code, problem["side_effects"].as_str()) {
            // A request whose write was under way: it may still be stored once there is room.
            (503, "timed_out", Some("possible")) | (507, "storage_full", Some("possible")) => {}
            (507, "storage_full", Some("none")) => refused += 1,
            _ => panic!("{problem}"),
        }
        (refused >= 3).then_some(problem)
    });
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("full")), "{problem}");
    assert!(producers[0].acknowledged() > 3, "there was some room");
    let (readable, trouble) = client.read_until_refused(STREAM, 0);
    assert!(trouble.is_none() && !readable.is_empty(), "reading goes on: {trouble:?}");

    make_room();
    until("appends go on without a restart", Duration::from_secs(30), || {
        let answer = producers[1].send(&client, STREAM).expect("an answer");
        (answer.status == 200).then_some(())
    });
    for _ in 0..20 {
        producers[1].send(&client, STREAM).expect("an answer").expect(200);
    }
    ledger::check(&client.read_all(STREAM), &producers);
}

/// What starts a program with a file system of its own, as far as this machine allows one.
fn own_mounts() -> Option<Vec<&'static str>> {
    let works = |words: &Vec<&str>| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["sh", "-c", "mount -t tmpfs tmpfs /tmp"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    [vec!["unshare", "--mount"], vec!["unshare", "--map-root-user", "--mount"]].into_iter().find(works)
}

/// A limit on the length of files stops writes as a full disk does, and needs no rights.
fn limit_file_bytes(server: &Server, limit: Option<u64>) {
    let limits = Rlimit { current: limit, maximum: None };
    prlimit(Some(server.pid()), Resource::Fsize, limits).expect("a soft limit is ours to set");
}

#[test]
fn a_file_system_without_room() {
    let Some(wrapper) = own_mounts() else {
        // Where mounting is forbidden the limit on files shows the same.
        return files_that_may_not_grow();
    };
    for value_bytes in LONG_AND_SHORT {
        fill_a_file_system(&wrapper, value_bytes);
    }
}

fn fill_a_file_system(own_mounts: &[&str], value_bytes: usize) {
    let directory = temporary_directory();
    let root = directory.path().to_str().expect("a plain path").to_owned();
    let script =
        r#"mount -t tmpfs -o size=24m tmpfs "$0" && head -c 12M /dev/zero > "$0/ballast" && exec "$@""#;
    let wrapper = own_mounts.iter().copied().chain(["sh", "-c", script, &root]);
    let data = directory.path().join("data");
    let server = Setup::in_directory(&data).with(["--append-timeout", "2s"]).wrapped_in(wrapper).start();
    let make_room = || {
        let seen_from_here =
            PathBuf::from(format!("/proc/{}/root{root}/ballast", server.pid().as_raw_nonzero()));
        fs::remove_file(seen_from_here).expect("the ballast can be thrown out");
    };
    fill_and_go_on(&server, value_bytes, || {}, make_room);
}

#[test]
fn files_that_may_not_grow() {
    LONG_AND_SHORT.into_iter().for_each(fill_files);
}

fn fill_files(value_bytes: usize) {
    let directory = temporary_directory();
    // The signal that goes with the limit would end the process; a full disk sends none.
    let ignoring_the_signal = ["sh", "-c", r#"trap '' XFSZ; exec "$0" "$@""#];
    let setup = Setup::in_directory(directory.path()).with(["--append-timeout", "2s"]);
    let server = setup.wrapped_in(ignoring_the_signal).start();
    let take_room = || limit_file_bytes(&server, Some(5 << 20));
    fill_and_go_on(&server, value_bytes, take_room, || limit_file_bytes(&server, None));
}
