//! What a reader is sent who comes to damage: all that is in front of it, then how the answer ends.

use std::fs;

use tempfile::TempDir;
use vault_format::header::{Header, Kind};
use vault_format::limits::BLOCK_BYTES;
use vault_tests::curl::{Answer, curl};
use vault_tests::message::Message;
use vault_tests::segments::{SegmentFile, segments};
use vault_tests::server::Server;

use crate::server;

const LINES: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";
const BATCHES: &str = "application/vnd.messagevault.batches";

/// How many messages a request holds.
const TOGETHER: usize = 1_000;

/// A stream of small messages in a stopped vault. Whoever opens it looks at its end alone: where there are many
/// requests, damage at the beginning is met by readers.
fn stopped(segment_bytes: u64, requests: usize) -> (Server, TempDir, Vec<SegmentFile>) {
    let (mut server, directory) = server();
    let client = server.client();
    client.create("s", segment_bytes);
    let value = "x".repeat(650);
    let messages: Vec<_> = (0..TOGETHER).map(|_| Message::value(value.clone())).collect();
    for _ in 0..requests {
        client.append("s", &messages);
    }
    server.stop_in_order();
    let segments = segments(directory.path(), "s");
    (server, directory, segments)
}

fn read(server: &Server, query: &str, accept: &str) -> Answer {
    let url = format!("http://{}/streams/s/messages?{query}", server.address());
    curl(["--no-buffer", "--header", &format!("Accept: {accept}"), &url])
}

/// The offsets of the messages in an answer of lines or events.
fn offsets(answer: &Answer) -> Vec<u64> {
    let offset = |line: &str| {
        let rest = line.trim_start_matches("data: ").strip_prefix("{\"offset\":")?;
        rest.split(',').next()?.parse().ok()
    };
    answer.body.lines().filter_map(offset).collect()
}

/// That every kind of read from a few messages in front of `damage` on has those, and that the next one is told.
fn assert_served_up_to(server: &Server, damage: u64, code: &str) {
    let (client, from) = (server.client(), damage - 5);
    let wanted: Vec<_> = (from..damage).collect();
    let lines = read(server, &format!("from={from}&limit=5000&max_bytes=16000000"), LINES);
    assert_eq!((lines.status, offsets(&lines)), (200, wanted.clone()), "{}", lines.error);
    let document =
        client.get(&format!("/streams/s/messages?from={from}&limit=5000&max_bytes=16000000")).expect(200);
    let next = document.number("message-vault-next-offset");
    assert_eq!((next, &document.json()["next_offset"]), (damage, &damage.into()));
    assert_eq!(document.messages().iter().map(|message| message.offset).collect::<Vec<_>>(), wanted);
    let batches = client
        .get_as(&format!("/streams/s/messages?from={from}&limit=5000&max_bytes=16000000"), BATCHES)
        .expect(200);
    let header = Header::decode(&batches.body).expect("a whole batch comes first");
    assert!(header.base_offset.0 <= from && header.next_offset().0 <= damage, "{header:?}");
    for (query, accept) in [("", EVENTS), ("&follow=true", LINES)] {
        let followed = read(server, &format!("from={from}{query}"), accept);
        assert_eq!((followed.status, offsets(&followed)), (200, wanted.clone()), "{accept} {followed:?}");
        if accept == EVENTS {
            let last = followed.body.rsplit_once("event: error").expect("it ends with an error").1;
            assert!(last.contains(code), "{last}");
        } else {
            assert!(!followed.error.is_empty(), "it breaks off");
        }
    }
    client.get(&format!("/streams/s/messages?from={damage}")).expect_problem(500, code);
    // By now the server knows of the damage.
    let all = client.get("/streams/s/messages?limit=100000&max_bytes=16777216").expect(200);
    let last = all.messages().last().map(|message| message.offset);
    assert_eq!((last, all.number("message-vault-next-offset")), (Some(damage - 1), damage));
}

#[test]
fn a_segment_is_missing_in_the_middle() {
    let (mut server, _directory, segments) = stopped(4 << 20, 20);
    assert!(segments.len() >= 3, "two are full");
    let base = segments[1].headers()[0].base_offset.0;
    fs::remove_file(&segments[1].path).expect("it is there");
    server.restart();
    assert_served_up_to(&server, base, "data_missing");
    let problem = server.client().get(&format!("/streams/s/messages?from={base}"));
    let problem = problem.expect_problem(500, "data_missing").to_string();
    assert!(problem.contains(&format!("segment {base:020} is gone")), "{problem}");
}

#[test]
fn a_batch_is_damaged_inside_a_block() {
    let (mut server, _directory, segments) = stopped(128 << 20, 80);
    let batch = segments[0].message_batches()[3];
    segments[0].flip_payload(&batch);
    server.restart();
    assert_served_up_to(&server, batch.base_offset.0, "corrupt");
}

#[test]
fn the_head_of_a_block_is_damaged() {
    let (mut server, _directory, segments) = stopped(128 << 20, 80);
    let headers = segments[0].headers();
    let head = headers.iter().find(|header| header.position.0 == BLOCK_BYTES).expect("a block begins there");
    segments[0].flip_header(head);
    server.restart();
    assert_served_up_to(&server, head.base_offset.0, "corrupt");
}

#[test]
fn what_was_written_before_an_answer_breaks_off_is_sent() {
    let (mut server, _directory, segments) = stopped(128 << 20, 80);
    let second = |header: &&Header| header.position.0 > BLOCK_BYTES && header.kind == Kind::Messages;
    let headers = segments[0].headers();
    let batch = headers.iter().find(second).expect("more than a block is written");
    segments[0].flip_payload(batch);
    server.restart();
    let damage = batch.base_offset.0;
    let lines = read(&server, &format!("from={}&limit=5000&max_bytes=16000000", damage - 5), LINES);
    assert_eq!((lines.status, offsets(&lines)), (200, (damage - 5..damage).collect()), "{}", lines.error);
    assert!(!lines.error.is_empty(), "nobody may take this for the end");
    assert_served_up_to(&server, damage, "corrupt");
}

#[test]
fn who_asks_for_what_damage_hides_is_not_told_that_there_is_no_such_offset() {
    let (mut server, _directory, segments) = stopped(32 << 20, 8);
    let batch = segments[0].message_batches()[7];
    segments[0].flip_payload(&batch);
    server.restart();
    let (client, readable) = (server.client(), batch.base_offset.0);
    let inside = client.get(&format!("/streams/s/messages?from={}", readable - 1)).expect(200);
    assert_eq!(inside.messages().len(), 1);
    for from in [readable + 1, readable + 999, readable + 1_000_000] {
        client.get(&format!("/streams/s/messages?from={from}")).expect_problem(500, "corrupt");
        let (from, headers) = (from.to_string(), [("Accept", EVENTS)]);
        let headers = [headers[0], ("Last-Event-ID", from.as_str())];
        let events = client.send("GET", "/streams/s/messages", &headers, None).expect("an answer");
        events.expect_problem(500, "corrupt");
    }
}
