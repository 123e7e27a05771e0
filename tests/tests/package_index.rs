//! This machine's Debian package index goes in through four connections, the server is killed on the way, and every
//! way of reading must give back the same bytes.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vault_format::codec::Codec;
use vault_tests::client::Client;
use vault_tests::message::{Message, Stored, from_batches, from_ndjson, to_json, to_records};
use vault_tests::package_index;
use vault_tests::segments::{container, segments};
use vault_tests::server::{Server, Setup, temporary_directory};
use vault_tests::wait::until;

const STREAM: &str = "packages";
const MESSAGES_PER_REQUEST: usize = 200;
const CONNECTIONS: usize = 4;
/// Small enough that several segments are filled.
const SEGMENT_BYTES: u64 = 4 << 20;
const JSON: &str = "application/json";
const RECORDS: &str = "application/vnd.messagevault.records";
const BATCHES: &str = "application/vnd.messagevault.batches";

/// The requests in their order, and what is known of them.
struct Plan<'a> {
    chunks: Vec<&'a [Message]>,
    next: AtomicUsize,
    acknowledged: AtomicUsize,
}

enum Sent {
    Acknowledged,
    /// It had been stored before: an earlier copy's answer was lost.
    Stored,
    Unanswered,
}

#[test]
fn real_input_survives_a_crash_and_reads_back_byte_for_byte() {
    let share = survives_a_crash(Codec::None);
    assert!(share > 1.0, "what surrounds messages takes room as well: {share}");
}

#[test]
fn so_does_real_input_that_is_compressed() {
    let share = survives_a_crash(Codec::Zstd);
    assert!(share < 0.5, "of the input's bytes, {share} are stored");
}

/// How many bytes are stored for each byte of input.
fn survives_a_crash(codec: Codec) -> f64 {
    let messages = package_index::messages();
    assert!(messages.len() > 10_000, "{} packages are too few to mean anything", messages.len());
    let directory = temporary_directory();
    let mut server = Setup::in_directory(directory.path()).start();
    let settings = json!({ "segment_bytes": SEGMENT_BYTES, "codec": codec.name() });
    server.client().put(&format!("/streams/{STREAM}"), &settings).expect(201);

    let chunks: Vec<_> = messages.chunks(MESSAGES_PER_REQUEST).collect();
    let half = chunks.len() / 2;
    let plan = Plan { chunks, next: AtomicUsize::new(0), acknowledged: AtomicUsize::new(0) };
    let unanswered = append_until_killed(&plan, &mut server, half);
    assert!(!unanswered.is_empty(), "requests were in flight when the server was killed");
    let acknowledged = plan.acknowledged.load(Ordering::SeqCst);
    assert!((half..plan.chunks.len()).contains(&acknowledged), "killed in the middle, after {acknowledged}");

    server.restart();
    finish(&plan, &server.client(), &unanswered);
    let stored = check_json(&server.client(), &messages);
    check_other_ways(&server.client(), &stored);
    let names: BTreeSet<_> = segments(directory.path(), STREAM).iter().map(|segment| segment.base).collect();
    assert!(names.len() > 1, "several segments were filled: {names:?}");

    server.stop_in_order();
    let from_files: Vec<_> =
        segments(directory.path(), STREAM).iter().flat_map(|segment| segment.messages()).collect();
    assert!(from_files == stored, "the segment files hold what the server answered");
    check_decoder(&container(directory.path(), STREAM), &stored);

    let batches: Vec<_> =
        segments(directory.path(), STREAM).iter().flat_map(|segment| segment.message_batches()).collect();
    assert!(batches.iter().all(|header| header.codec == codec), "texts become shorter, all of them");
    let stored_bytes: f64 = batches.iter().map(|header| f64::from(header.total_bytes)).sum();
    let input: usize = messages.iter().map(|message| message.key.len() + message.value.len()).sum();
    stored_bytes / input as f64
}

/// Every connection takes the next request and appends it at its place. Returns those without an answer.
fn append_until_killed(plan: &Plan<'_>, server: &mut Server, kill_after: usize) -> Vec<usize> {
    let address = server.address();
    std::thread::scope(|scope| {
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope.spawn(move || {
                    let client = Client::new(address);
                    loop {
                        let chunk = plan.next.fetch_add(1, Ordering::SeqCst);
                        if chunk >= plan.chunks.len() {
                            return None;
                        }
                        match send(plan, &client, chunk) {
                            Sent::Acknowledged => plan.acknowledged.fetch_add(1, Ordering::SeqCst),
                            Sent::Stored => {
                                panic!("request {chunk} was sent once and refused as stored before")
                            }
                            Sent::Unanswered => return Some(chunk),
                        };
                    }
                })
            })
            .collect();
        until("half of the requests are answered", Duration::from_secs(120), || {
            assert!(
                !connections.iter().any(|one| one.is_finished()),
                "a connection ended before the server did"
            );
            (plan.acknowledged.load(Ordering::SeqCst) >= kill_after).then_some(())
        });
        server.kill();
        let unanswered = connections.into_iter().filter_map(|one| one.join().expect("no connection panics"));
        let mut unanswered: Vec<_> = unanswered.collect();
        unanswered.sort_unstable();
        unanswered
    })
}

/// Sends one request until it is its turn, and what came of it then.
fn send(plan: &Plan<'_>, client: &Client, chunk: usize) -> Sent {
    let place = (chunk * MESSAGES_PER_REQUEST) as u64;
    let messages = plan.chunks[chunk];
    let path = format!("/streams/{STREAM}/messages?expected_offset={place}");
    let (kind, body) =
        if chunk.is_multiple_of(2) { (JSON, to_json(messages)) } else { (RECORDS, to_records(messages)) };
    loop {
        let Ok(answer) = client.send("POST", &path, &[("Content-Type", kind)], Some(&body)) else {
            return Sent::Unanswered;
        };
        if answer.status == 200 {
            assert_eq!(answer.appended().first_offset, place);
            return Sent::Acknowledged;
        }
        let problem = answer.expect_problem(412, "offset_mismatch");
        assert_eq!(problem["side_effects"], "none");
        let next = problem["next_offset"].as_u64().expect("the real offset");
        if next > place {
            assert!(next >= place + messages.len() as u64, "a request is stored whole or not at all: {next}");
            return Sent::Stored;
        }
        // Those before it are on their way on other connections.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What was not answered may be stored, once; what was never sent is not.
fn finish(plan: &Plan<'_>, client: &Client, unanswered: &[usize]) {
    let never_sent = plan.next.load(Ordering::SeqCst).min(plan.chunks.len())..plan.chunks.len();
    for chunk in unanswered.iter().copied().chain(never_sent.clone()) {
        match send(plan, client, chunk) {
            Sent::Acknowledged => {}
            Sent::Stored => assert!(!never_sent.contains(&chunk), "request {chunk} was never sent before"),
            Sent::Unanswered => panic!("the server runs"),
        }
    }
}

/// Reads everything page by page and holds it against the input.
fn check_json(client: &Client, messages: &[Message]) -> Vec<Stored> {
    let stored = client.read_all(STREAM);
    assert_eq!(stored.len(), messages.len(), "none lost, none twice");
    for (index, (read, sent)) in stored.iter().zip(messages).enumerate() {
        assert_eq!(read.offset, index as u64);
        assert!(read.message == *sent, "message {index} is another: {read:?} instead of {sent:?}");
    }
    stored
}

/// From the beginning, from the middle, from a time; in lines and in stored batches.
fn check_other_ways(client: &Client, stored: &[Stored]) {
    let read = |query: &str, accept| {
        client.get_as(&format!("/streams/{STREAM}/messages?{query}"), accept).expect(200)
    };
    let all = "limit=1000000000&max_bytes=1000000000";
    let middle = stored.len() / 2 + 77;
    let lines = |query: &str| from_ndjson(&read(query, "application/x-ndjson").body);
    assert!(lines(&format!("from=0&{all}")) == stored, "NDJSON from the beginning");
    assert!(lines(&format!("from={middle}&{all}")) == stored[middle..], "NDJSON from the middle");

    let answer = read(&format!("from=0&{all}"), BATCHES);
    assert!(from_batches(&answer.body) == stored, "batches from the beginning");
    assert_eq!(answer.number("message-vault-next-offset"), stored.len() as u64);
    let from_middle = from_batches(&read(&format!("from={middle}&{all}"), BATCHES).body);
    let extra = middle - usize::try_from(from_middle[0].offset).expect("it is small");
    assert!(from_middle == stored[middle - extra..], "batches from the middle");
    assert!(
        extra < MESSAGES_PER_REQUEST * CONNECTIONS * 4,
        "at most one batch comes before what was asked for"
    );

    // The beginning of a request in the middle: earlier messages of the same millisecond come along.
    let time = stored[middle].timestamp;
    let first = stored.partition_point(|message| message.timestamp < time);
    let text =
        jiff::Timestamp::from_millisecond(i64::try_from(time).expect("it is our time")).expect("so it is");
    for since in [time.to_string(), text.to_string()] {
        assert!(lines(&format!("since={since}&{all}")) == stored[first..], "NDJSON since {since}");
        let page = read(&format!("since={since}&limit=10"), JSON).messages();
        assert!(page == stored[first..][..10], "JSON since {since}");
    }
    let later = stored.last().expect("there are messages").timestamp + 1;
    assert!(lines(&format!("since={later}&{all}")).is_empty(), "nothing is newer than the newest");
}

/// A decoder that somebody wrote from the document alone must read the same messages out of the same files.
fn check_decoder(container: &Path, stored: &[Stored]) {
    let decoder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("decoder/decode.py");
    assert!(decoder.is_file(), "{} is missing", decoder.display());
    let mut command = Command::new("python3");
    let mut child =
        command.arg(&decoder).arg(container).stdout(Stdio::piped()).spawn().expect("python3 is there");
    let output = child.stdout.take().expect("its output is a pipe");
    let mut decoded = 0;
    for line in std::io::BufReader::new(output).lines() {
        let line: Value = serde_json::from_str(&line.expect("text")).expect("one JSON object a line");
        let bytes = |name: &str| STANDARD.decode(line[name].as_str().unwrap_or_default()).expect("base64");
        let expected = stored.get(decoded).unwrap_or_else(|| panic!("more than was stored: {line}"));
        let message = Message::new(bytes("key"), bytes("value"));
        let found = Stored {
            offset: line["offset"].as_u64().expect("an offset"),
            timestamp: line["timestamp"].as_u64().expect("a timestamp"),
            message,
        };
        assert!(found == *expected, "the decoder reads {found:?} instead of {expected:?}");
        decoded += 1;
    }
    assert!(child.wait().expect("it is ours").success(), "the decoder finds no damage");
    assert_eq!(decoded, stored.len(), "the decoder reads everything");
}
