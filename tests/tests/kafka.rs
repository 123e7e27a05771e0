//! Streams that `carry.py` carries into Apache Kafka, read there by an ordinary consumer. Run `tests/install-kafka` and
//! `tests/install-clients` once before.
#![expect(clippy::unwrap_used, reason = "a test that finds what it needs missing has failed")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use vault_tests::clients;
use vault_tests::kafka::Kafka;
use vault_tests::mvctl;
use vault_tests::server::{Server, Setup, temporary_directory};
use vault_tests::wait::{LONG, until};

/// The program that the lines of a stream come from, beginning at an offset.
fn source(server: &Server, stream: &str, from: u64) -> Command {
    let mut command = Command::new(mvctl::program());
    let url = format!("http://{}", server.address());
    let from = from.to_string();
    command.args(["--server", &url, "--quiet", "read", stream, "--from", &from]);
    command.args(["--follow", "--parts", "--json"]);
    command
}

fn carry(kafka: &Kafka, topic: &str, arguments: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vault-client/examples/kafka/carry.py");
    let mut command = Command::new(clients::python());
    command.arg(script).args(["--brokers", kafka.address(), "--topic", topic]).args(arguments);
    command
}

/// Runs the carrier with this input to its end: its exit code, and what it wrote to both outputs.
fn run(mut command: Command, input: &[u8]) -> (i32, String, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn create(kafka: &Kafka, topic: &str, partitions: u32) {
    let partitions = partitions.to_string();
    let made = run(carry(kafka, topic, &["--create", "--partitions", &partitions]), b"");
    assert_eq!(made, (0, String::new(), String::new()));
}

fn next_offset(kafka: &Kafka, topic: &str) -> u64 {
    let (code, out, err) = run(carry(kafka, topic, &["--next-offset"]), b"");
    assert_eq!(code, 0, "{err}");
    out.trim().parse().unwrap()
}

/// The recipe as it runs: a source and, behind a pipe, the carrier.
struct Carrier {
    source: Child,
    carrier: Child,
    said: Receiver<String>,
}

impl Carrier {
    fn start(kafka: &Kafka, server: &Server, stream: &str, topic: &str, arguments: &[&str]) -> Self {
        let mut source =
            source(server, stream, next_offset(kafka, topic)).stdout(Stdio::piped()).spawn().unwrap();
        let mut command = carry(kafka, topic, &[&["--progress"], arguments].concat());
        command.stdin(source.stdout.take().unwrap()).stderr(Stdio::piped());
        let mut carrier = command.spawn().unwrap();
        let said = lines(carrier.stderr.take().unwrap());
        Self { source, carrier, said }
    }

    /// Waits until it says that it has stored everything before this offset.
    fn carries_to(&self, offset: u64) {
        loop {
            let line = self.said.recv_timeout(LONG).unwrap();
            let reached = line.strip_prefix("carry.py: carried to ").unwrap_or_else(|| panic!("{line}"));
            if reached.parse::<u64>().unwrap() >= offset {
                return;
            }
        }
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.carrier), signal).unwrap();
        until("the carrier ends", LONG, || self.carrier.try_wait().unwrap())
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        for child in [&mut self.carrier, &mut self.source] {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn lines(output: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Nobody may want it any more.
            let _ = sender.send(line);
        }
    });
    receiver
}

fn records(kafka: &Kafka, topic: &str, level: &str) -> Vec<Value> {
    let mut command = Command::new(clients::python());
    command.arg(clients::scripts().join("kafka_records.py")).args([kafka.address(), topic, level]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The record that a message, as the server has it in JSON, must have become; partitions are another matter.
fn as_record(message: &Value) -> Value {
    let bytes = |name: &str| match &message[name] {
        Value::String(text) => STANDARD.encode(text).into(),
        _ => message[format!("{name}_base64")].clone(),
    };
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in message["headers"].as_object().into_iter().flatten() {
        headers.push((name.clone(), STANDARD.encode(value.as_str().unwrap())));
    }
    headers.push(("message-vault-offset".to_owned(), STANDARD.encode(message["offset"].to_string())));
    headers.push(("message-vault-id".to_owned(), STANDARD.encode(message["id"].as_str().unwrap())));
    if message["attributes"].is_u64() {
        headers.push((
            "message-vault-attributes".to_owned(),
            STANDARD.encode(message["attributes"].to_string()),
        ));
    }
    json!({ "timestamp": message["timestamp"], "key": bytes("key"), "value": bytes("value"), "headers": headers })
}

/// Does something with the topic `topic` by way of `admin`, in Python.
fn administer(kafka: &Kafka, topic: &str, what: &str) {
    let script = format!(
        "import sys
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
admin, topic = AdminClient({{'bootstrap.servers': sys.argv[1]}}), sys.argv[2]
for future in ({what}).values(): future.result()
"
    );
    let mut command = Command::new(clients::python());
    let output = command.args(["-c", &script, kafka.address(), topic]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn without_partition(mut record: Value) -> Value {
    record.as_object_mut().unwrap().remove("partition");
    record
}

/// All messages of a stream, as the server answers them in JSON.
fn messages(server: &Server, stream: &str) -> Vec<Value> {
    let path = format!("/streams/{stream}/messages?from=0&limit=100000&max_bytes=16777216");
    let answer = server.client().get(&path).expect(200).json();
    assert_eq!(answer["next_offset"], answer["end_offset"], "all of it fits into one answer");
    answer["messages"].as_array().unwrap().clone()
}

#[track_caller]
fn assert_carried(kafka: &Kafka, topic: &str, messages: &[Value]) {
    let found: Vec<_> = records(kafka, topic, "read_committed").into_iter().map(without_partition).collect();
    let wanted: Vec<_> = messages.iter().map(as_record).collect();
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!(found, wanted);
    }
    assert_eq!(found.len(), wanted.len(), "as many records as messages");
}

/// Appends these messages, and waits for a clock that shows another millisecond.
fn append(server: &Server, stream: &str, messages: &Value) {
    let body = json!({ "messages": messages }).to_string();
    let path = format!("/streams/{stream}/messages");
    server.client().post(&path, "application/json", body.as_bytes()).expect(200);
    std::thread::sleep(Duration::from_millis(3));
}

/// As many small messages, of a few keys, with different timestamps.
fn append_many(server: &Server, stream: &str, first: usize, count: usize) {
    let message = |n: usize| json!({ "key": format!("customer {}", n % 7), "value": format!("{n}") });
    for n in (first..first + count).step_by(60) {
        let end = (n + 60).min(first + count);
        append(server, stream, &(n..end).map(message).collect());
    }
}

#[test]
fn messages_of_every_kind_become_records_as_they_are() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let kafka = Kafka::shared();
    append(
        &server,
        "kinds",
        &json!([{ "key": "42", "value": "hello", "headers": { "source": "shop", "b": "ä €" } }]),
    );
    let long = STANDARD.encode([0xfe; 1 << 20]);
    append(
        &server,
        "kinds",
        &json!([
            { "key_base64": "AP/+", "value_base64": "AP8A" },
            { "value": "" },
            { "key": "Schlüssel \u{0} 😀", "value": "line\nand \u{2028}\"\\", "attributes": 254 },
            { "json": { "total": 1.50 }, "headers": { "empty": "", "message-vault-offset": "77" } },
        ]),
    );
    append(&server, "kinds", &json!([{ "key": "long", "value_base64": long }]));
    append(&server, "kinds", &json!([{ "key": "controls", "value": "\u{1}".repeat(1 << 20) }]));
    append_many(&server, "kinds", 0, 1_500);

    create(&kafka, "kinds", 1);
    assert_eq!(next_offset(&kafka, "kinds"), 0);
    let mut carrier = Carrier::start(&kafka, &server, "kinds", "kinds", &[]);
    carrier.carries_to(1_507);
    // It goes on with what comes while it runs, and what it has read before it is asked to end is stored.
    append_many(&server, "kinds", 1_500, 30);
    carrier.carries_to(1_537);
    assert_eq!(carrier.end(Signal::TERM).code(), Some(0));
    assert_eq!(next_offset(&kafka, "kinds"), 1_537);
    let messages = messages(&server, "kinds");
    let times: std::collections::BTreeSet<_> =
        messages.iter().map(|message| message["timestamp"].as_u64()).collect();
    assert!(times.len() > 20, "the messages have different timestamps");
    assert_carried(&kafka, "kinds", &messages);
}

#[test]
fn a_carrier_that_is_killed_leaves_no_gap_and_no_repeat() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let kafka = Kafka::shared();
    create(&kafka, "killed", 1);
    let mut carried = 0;
    let mut appended = 0;
    // The first one is killed before it has committed anything.
    for size in [5_000, 500, 500] {
        append_many(&server, "killed", appended, 2_345);
        appended += 2_345;
        let before = records(&kafka, "killed", "read_uncommitted").len();
        // Transactions end by their size alone, so that at last one is left open.
        let size_text = size.to_string();
        let sizes = ["--transaction-messages", &size_text, "--transaction-ms", "50000"];
        let mut carrier = Carrier::start(&kafka, &server, "killed", "killed", &sizes);
        let committed = (appended - carried) / size * size + carried;
        let whole = u64::try_from(committed).unwrap();
        carrier.carries_to(whole);
        // At least half of what is read behind it is in Kafka, the rest may be on its way.
        let some = before + (committed - carried) + (appended - committed) / 2;
        until("messages of a transaction that is open are in Kafka", LONG, || {
            (records(&kafka, "killed", "read_uncommitted").len() >= some).then_some(())
        });
        carrier.end(Signal::KILL);
        // Whoever asks meanwhile is not told of what is not committed.
        assert_eq!(next_offset(&kafka, "killed"), whole);
        carried = committed;
    }
    // Killed anywhere at all, with transactions of a few messages.
    for milliseconds in [400, 700] {
        append_many(&server, "killed", appended, 1_000);
        appended += 1_000;
        let mut carrier =
            Carrier::start(&kafka, &server, "killed", "killed", &["--transaction-messages", "7"]);
        std::thread::sleep(Duration::from_millis(milliseconds));
        carrier.end(Signal::KILL);
    }
    let mut carrier = Carrier::start(&kafka, &server, "killed", "killed", &[]);
    carrier.carries_to(u64::try_from(appended).unwrap());
    assert_eq!(carrier.end(Signal::TERM).code(), Some(0));
    assert_carried(&kafka, "killed", &messages(&server, "killed"));
    let all = records(&kafka, "killed", "read_uncommitted").len();
    assert!(all > appended + 500, "{all} of {appended}: the carriers were killed within transactions");
}

#[test]
fn with_several_partitions_the_messages_of_a_key_stay_in_order() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let kafka = Kafka::shared();
    create(&kafka, "parts", 3);
    append_many(&server, "parts", 0, 900);
    append(&server, "parts", &json!([{ "value": "no key" }, { "value": "nor here" }]));
    let mut carrier = Carrier::start(&kafka, &server, "parts", "parts", &["--transaction-messages", "70"]);
    carrier.carries_to(400);
    carrier.end(Signal::KILL);
    let mut carrier = Carrier::start(&kafka, &server, "parts", "parts", &[]);
    carrier.carries_to(902);
    assert_eq!(carrier.end(Signal::TERM).code(), Some(0));

    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut partitions: BTreeMap<String, u64> = BTreeMap::new();
    for record in records(&kafka, "parts", "read_committed") {
        let (key, partition) = (record["key"].to_string(), record["partition"].as_u64().unwrap());
        assert_eq!(*partitions.entry(key.clone()).or_insert(partition), partition, "a key has one partition");
        found.entry(key).or_default().push(without_partition(record));
    }
    let mut wanted: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for message in messages(&server, "parts") {
        let record = as_record(&message);
        wanted.entry(record["key"].to_string()).or_default().push(record);
    }
    assert_eq!(found, wanted);
    let used: std::collections::BTreeSet<_> = partitions.values().collect();
    assert!(used.len() > 1, "the keys are spread");
}

/// Lines of made-up messages.
fn input(offsets: &[u64]) -> String {
    let line = |offset: &u64| {
        let timestamp = 1_767_225_600_000 + offset;
        let id = format!("{offset:032x}");
        let line = json!({ "offset": offset, "timestamp": timestamp, "id": id, "key": "k", "value": "v" });
        format!("{line}\n")
    };
    offsets.iter().map(line).collect()
}

#[test]
fn topics_that_cannot_hold_a_stream_are_refused() {
    let kafka = Kafka::shared();
    let topic = |name: &str, settings: &str| {
        administer(
            &kafka,
            name,
            &format!("admin.create_topics([NewTopic(topic, 1, config={{{settings}}})])"),
        );
    };
    topic("stamping", "'message.timestamp.type': 'LogAppendTime'");
    let (code, _, err) = run(carry(&kafka, "stamping", &[]), input(&[0]).as_bytes());
    assert_eq!((code, err.contains("CreateTime")), (3, true), "{err}");

    // A message that the topic is too narrow for: those before it that are committed stay, and it is named.
    topic("narrow", "'max.message.bytes': '1000'");
    let wide =
        input(&[0, 1]).replacen("\"v\"", "\"w\"", 1).replace("\"v\"", &format!("\"{}\"", "v".repeat(2_000)));
    let (code, _, err) = run(carry(&kafka, "narrow", &["--transaction-messages", "1"]), wide.as_bytes());
    assert_eq!((code, err.contains("offset 1:")), (3, true), "{err}");
    assert_eq!(next_offset(&kafka, "narrow"), 1);
    // One that is longer than any message can be is refused before it is sent.
    let wider = input(&[1]).replace("\"v\"", &format!("\"{}\"", "v".repeat(5 << 20)));
    let (code, _, err) = run(carry(&kafka, "narrow", &[]), wider.as_bytes());
    assert_eq!((code, err.contains("offset 1:")), (3, true), "{err}");
    let (code, _, err) = run(carry(&kafka, "narrow", &[]), &[b'x'; 20 << 20]);
    assert_eq!((code, err.contains("longer than any message")), (3, true), "{err}");

    // Where everything was deleted nobody knows how far the stream was carried, until somebody tells.
    assert_eq!(run(carry(&kafka, "narrow", &[]), input(&[1, 2]).as_bytes()).0, 0);
    administer(&kafka, "narrow", "admin.delete_records([TopicPartition(topic, 0, -1)])");
    let (code, _, err) = run(carry(&kafka, "narrow", &["--next-offset"]), b"");
    assert_eq!((code, err.contains("--start-at")), (3, true), "{err}");
    for offset in [3, 4] {
        // Told again, it counts no more.
        let told = run(carry(&kafka, "narrow", &["--start-at", "3", "--next-offset"]), b"");
        assert_eq!(told.1, format!("{offset}\n"), "{}", told.2);
        assert_eq!(run(carry(&kafka, "narrow", &["--start-at", "3"]), input(&[offset]).as_bytes()).0, 0);
    }
    assert_eq!(next_offset(&kafka, "narrow"), 5);
    // Records of somebody else tell nothing.
    administer(
        &kafka,
        "narrow",
        "[p := __import__('confluent_kafka').Producer({'bootstrap.servers': sys.argv[1]}), p.produce(topic, b'x'), p.flush()] and {}",
    );
    let (code, _, err) = run(carry(&kafka, "narrow", &["--next-offset"]), b"");
    assert_eq!((code, err.contains("somebody else")), (3, true), "{err}");
}

#[test]
fn input_that_would_leave_a_gap_or_a_repeat_is_refused_or_passed_over() {
    let kafka = Kafka::shared();
    let carried = |input: &str| run(carry(&kafka, "input", &[]), input.as_bytes());

    let (code, _, err) = carried(&input(&[0]));
    assert_eq!((code, err.contains("--create")), (3, true), "no topic: {err}");
    create(&kafka, "input", 1);
    assert_eq!(carried(&input(&[0, 1, 2])).0, 0);
    // What is there is passed over.
    assert_eq!(carried(&input(&[0, 1, 2, 3])).0, 0);
    assert_eq!(next_offset(&kafka, "input"), 4);
    // A gap is refused, and nothing of the transaction before it stays half done.
    let (code, _, err) = carried(&input(&[4, 6]));
    assert_eq!((code, err.contains("offset 6, not 5")), (3, true), "{err}");
    assert_eq!(next_offset(&kafka, "input"), 4);
    // Another stream has another message at the place that was carried last.
    let (code, _, err) = carried(&input(&[3]).replace(&format!("{:032x}", 3), &format!("{:032x}", 99)));
    assert_eq!((code, err.contains("another stream")), (3, true), "{err}");
    for wrong in
        ["nonsense\n", "[]\n", "{\"offset\":4}\n", "{\"offset\":4,\"timestamp\":5,\"value_base64\":\"!\"}\n"]
    {
        let (code, _, err) = carried(wrong);
        assert_eq!((code, err.contains("is no message")), (3, true), "{wrong}: {err}");
    }
    // A line that broke off comes again; what came before it is stored.
    let whole = input(&[4, 5]);
    let (code, _, err) = carried(&whole[..whole.len() - 9]);
    assert_eq!((code, err.contains("broke off")), (1, true), "{err}");
    assert_eq!(next_offset(&kafka, "input"), 5);
    let (code, _, err) = run(carry(&kafka, "input", &["--set", "nonsense"]), b"");
    assert_eq!((code, err.contains("NAME=VALUE")), (2, true), "{err}");
    let wanted: Vec<Value> = (0..5).map(|offset| serde_json::from_str(&input(&[offset])).unwrap()).collect();
    assert_carried(&kafka, "input", &wanted);
}

#[test]
fn of_two_carriers_the_later_one_carries() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let kafka = Kafka::shared();
    create(&kafka, "two", 1);
    append_many(&server, "two", 0, 100);
    let mut first = Carrier::start(&kafka, &server, "two", "two", &[]);
    first.carries_to(100);
    let mut second = Carrier::start(&kafka, &server, "two", "two", &["--transaction-messages", "1"]);
    second.carries_to(100);
    append_many(&server, "two", 100, 60);
    second.carries_to(160);
    let status = until("the first carrier ends", LONG, || first.carrier.try_wait().unwrap());
    assert_eq!(status.code(), Some(4), "{:?}", first.said.recv());
    assert_eq!(second.end(Signal::TERM).code(), Some(0));
    assert_carried(&kafka, "two", &messages(&server, "two"));
}
