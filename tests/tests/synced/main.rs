//! What is acknowledged was synced before. A server that is killed leaves the system's cache behind, so that crashes do
//! not tell; here every call of the server that writes at a place or syncs is seen (`calls.c`).

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use vault_tests::ledger::{self, Producer};
use vault_tests::segments::segments;
use vault_tests::server::{Server, Setup, temporary_directory};
use vault_tests::wait::until;

const STREAM: &str = "synced";
const SEGMENT_BYTES: u64 = 16 << 20;

/// Longer than what is written beside messages.
const VALUE_BYTES: usize = 2_000;

/// A server whose calls are seen.
struct Seen {
    server: Server,
    directory: TempDir,
}

/// A call: what, how many bytes, of which file.
type Call = (String, usize, PathBuf);

impl Seen {
    fn start(append_timeout: &str) -> Self {
        let directory = temporary_directory();
        let library = directory.path().join("calls.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/synced/calls.c");
        let mut compiler = Command::new("cc");
        let compiled = compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
        let status = compiled.status().expect("cc is missing: install a C compiler, on Debian gcc");
        assert!(status.success(), "cc does not compile {source}");
        let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        let setup = Setup::in_directory(&directory.path().join("data"))
            .with(["--append-timeout", append_timeout])
            .environment("LD_PRELOAD", &library.to_string_lossy())
            .environment("CALLS_LOG", &path("calls"))
            .environment("CALLS_FAIL", &path("fail"));
        let server = setup.start();
        server.client().create(STREAM, SEGMENT_BYTES);
        assert!(directory.path().join("calls").is_file(), "the server is not linked to glibc at run time");
        Self { server, directory }
    }

    /// The calls from the `from`-th on.
    fn calls(&self, from: usize) -> Vec<Call> {
        let text = fs::read_to_string(self.directory.path().join("calls")).expect("the server writes");
        let call = |line: &str| {
            let (call, rest) = line.split_once(' ').expect("a call");
            let (bytes, path) = rest.split_once(' ').expect("what it was of");
            (call.to_owned(), bytes.parse().expect("a call that succeeds"), PathBuf::from(path))
        };
        text.lines().skip(from).map(call).collect()
    }
}

#[test]
fn what_is_answered_was_written_and_then_synced() {
    let seen = Seen::start("30s");
    let client = seen.server.client();
    let value = "m".repeat(VALUE_BYTES);
    client.append_text(STREAM, &value);
    let data = seen.directory.path().join("data");
    let segment = segments(&data, STREAM).pop().expect("the first message made one").path;
    let segment = segment.canonicalize().expect("it is there");
    let folder = segment.parent().expect("it is in one");
    let made = seen.calls(0);
    assert!(
        made.iter().any(|(call, _, path)| call == "sync" && path == folder),
        "its entry is synced: {made:?}"
    );
    for _ in 0..50 {
        let before = seen.calls(0).len();
        client.append_text(STREAM, &value);
        let calls = seen.calls(before);
        let of_segment: Vec<_> = calls.iter().filter(|(_, _, path)| *path == segment).collect();
        let is_put = |call: &&Call| call.0 == "write" && call.1 >= VALUE_BYTES;
        let mut puts = of_segment.iter().enumerate().filter(|(_, call)| is_put(call));
        // Begun and ended behind it.
        let synced = puts.any(|(at, _)| {
            let mut behind = of_segment[at..].iter();
            behind.any(|(call, ..)| call == "syncing") && behind.any(|(call, ..)| call == "sync")
        });
        assert!(synced, "answered without a put and a sync behind it: {of_segment:?}");
    }
}

#[test]
fn where_syncs_fail_nothing_is_acknowledged() {
    let seen = Seen::start("5s");
    let client = seen.server.client();
    let mut producer = Producer::new("p", 1, VALUE_BYTES);
    for _ in 0..10 {
        producer.send(&client, STREAM).expect("an answer").expect(200);
    }
    let fail = seen.directory.path().join("fail");
    fs::write(&fail, "").expect("there is room");
    for _ in 0..3 {
        let answer = producer.send(&client, STREAM).expect("an answer");
        assert_ne!(answer.status, 200, "nothing is synced");
        assert_eq!(answer.problem()["retryable"], true, "{}", answer.problem());
    }
    fs::remove_file(&fail).expect("it is there");
    until("appends go on without a restart", Duration::from_secs(30), || {
        let answer = producer.send(&client, STREAM).expect("an answer");
        (answer.status == 200).then_some(())
    });
    ledger::check(&client.read_all(STREAM), &[producer]);
}
