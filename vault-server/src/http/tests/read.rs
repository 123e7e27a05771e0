//! Formats, planning, waiting.

use std::time::Duration;

use serde_json::json;
use vault_format::batch::Batch;
use vault_format::header::{Header, Kind};

use super::{Answer, LINES, Server, server};
use crate::http::read::parameters::BATCHES;

const S: &str = "/streams/s/messages";

async fn numbered(count: u64) -> Server {
    let server = server().await;
    for n in 0..count {
        assert_eq!(server.append(format!("v{n}")).await, n);
    }
    server
}

fn offsets(answer: &Answer) -> Vec<u64> {
    let body = answer.json();
    body["messages"].as_array().unwrap().iter().map(|m| m["offset"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn reads_begin_and_end_where_they_are_told_to() {
    let server = numbered(5).await;
    for (query, wanted) in [
        ("", 0..5),
        ("?from=earliest", 0..5),
        ("?from=latest", 5..5),
        ("?from=2", 2..5),
        ("?from=5", 5..5),
        ("?from=1&limit=2", 1..3),
        ("?to=3", 0..3),
        ("?from=3&to=3", 3..3),
        ("?from=4&to=2", 4..4),
        ("?from=1&to=100", 1..5),
        ("?max_bytes=1", 0..1),
        ("?from=2&max_bytes=512", 2..3),
        ("?since=0", 0..5),
        ("?since=1970-01-01T00:00:01Z", 0..5),
        ("?since=2999-01-01T00:00:00Z", 5..5),
        ("?from=2&clamp=true", 2..5),
    ] {
        let answer = server.get(&format!("{S}{query}")).await.is(200);
        assert_eq!(offsets(&answer), wanted.clone().collect::<Vec<_>>(), "{query}");
        let body = answer.json();
        assert_eq!(
            (answer.offset("next"), &body["next_offset"]),
            (wanted.end, &json!(wanted.end)),
            "{query}"
        );
        // What never changes does not say what the stream is like by now.
        if answer.headers.contains_key("etag") {
            assert!(query.contains("to=") && body.get("end_offset").is_none(), "{query}");
            continue;
        }
        assert_eq!((answer.offset("end"), answer.offset("first")), (5, 0));
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!((&body["end_offset"], &body["first_offset"]), (&json!(5), &json!(0)), "{query}");
    }
}

#[tokio::test]
async fn a_read_since_a_time_begins_with_the_first_message_of_that_time() {
    let server = numbered(1).await;
    let body = server.get(S).await.json();
    let first = body["messages"][0]["timestamp"].as_u64().unwrap();
    tokio::task::spawn_blocking(|| {
        let until = jiff::Timestamp::now() + Duration::from_millis(3);
        while jiff::Timestamp::now() < until {
            std::thread::yield_now();
        }
    })
    .await
    .unwrap();
    server.append("later").await;
    assert_eq!(offsets(&server.get(&format!("{S}?since={first}")).await), [0, 1]);
    assert_eq!(offsets(&server.get(&format!("{S}?since={}", first + 1)).await), [1]);
}

#[tokio::test]
async fn wrong_parameters_are_refused_by_name() {
    let server = numbered(1).await;
    for (query, says) in [
        ("from=x", "from"),
        ("from=-1", "from"),
        ("from=0&since=0", "since"),
        ("since=yesterday", "since"),
        ("since=1960-01-01T00:00:00Z", "since"),
        ("limit=0", "limit"),
        ("limit=100001", "100000"),
        ("max_bytes=16777217", "max_bytes"),
        ("wait=61", "wait"),
        ("clamp=perhaps", "clamp"),
        ("follow=true", "follow"),
        ("key=a&key_base64=YQ==", "key_base64"),
        ("key_base64=!", "key_base64"),
        ("header.=x", "header."),
        ("headers.a=x", "headers.a"),
        ("header=x", "header"),
        ("limit=1&limit=2", "limit"),
    ] {
        let problem = server.get(&format!("{S}?{query}")).await.problem(400, "invalid_parameter");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
    server.get_as(&format!("{S}?limit=100001"), LINES).await.is(200);
    let problem = server.get(&format!("{S}?from=2")).await.problem(416, "beyond_tail");
    assert_eq!(problem["end_offset"], 1);
    server.get_as(S, "image/png").await.problem(406, "not_acceptable");
    for accept in ["*/*", "text/html, application/json;q=0.9"] {
        assert_eq!(server.get_as(S, accept).await.is(200).headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn lines_are_the_messages_of_the_document() {
    let server = numbered(3).await;
    let answer = server.get_as(&format!("{S}?from=1"), LINES).await.is(200);
    let lines: Vec<serde_json::Value> = answer
        .body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(json!(lines), server.get(&format!("{S}?from=1")).await.json()["messages"]);
    assert_eq!((answer.offset("next"), lines.len()), (3, 2));
    assert!(server.get_as(&format!("{S}?from=3"), LINES).await.is(200).body.is_empty());
}

/// The batches of a raw answer, all of them intact.
fn batches(answer: &Answer) -> Vec<Header> {
    let (mut rest, mut headers) = (&answer.body[..], Vec::new());
    while !rest.is_empty() {
        let header = Batch::decode(rest).unwrap().header;
        rest = &rest[usize::try_from(header.written_bytes()).unwrap()..];
        headers.push(header);
    }
    headers
}

#[tokio::test]
async fn stored_batches_come_whole() {
    let server = server().await;
    for batch in ["0\n1\n2", "3\n4", "5\n6\n7\n8"] {
        server.post(S, LINES, batch).await.is(200);
    }
    for (query, from, next) in [
        ("", 0, 9),
        ("?from=1", 0, 9),
        ("?from=4", 3, 9),
        ("?from=9", 9, 9),
        ("?limit=4", 0, 3),
        ("?limit=5", 0, 5),
        ("?from=1&limit=1", 0, 3),
        ("?from=3&to=8", 3, 5),
        ("?max_bytes=1", 0, 3),
        ("?max_bytes=1024", 0, 3),
        ("?max_bytes=1536", 0, 5),
    ] {
        let answer = server.get_as(&format!("{S}{query}"), BATCHES).await.is(200);
        let headers = batches(&answer);
        let messages: Vec<_> = headers.iter().filter(|header| header.kind == Kind::Messages).collect();
        assert_eq!(messages.first().map_or(9, |header| header.base_offset.0), from, "{query}");
        assert_eq!(messages.last().map_or(9, |header| header.next_offset().0), next, "{query}");
        assert_eq!(answer.offset("next"), next, "{query}");
    }
}

/// About 14 MiB in segments of two blocks, so that answers cross blocks and segments.
async fn long() -> (Server, u64) {
    let server = server().await;
    server.call("PUT", "/streams/s", r#"{"segment_bytes":8388608}"#).await.is(201);
    let mut count = 0;
    for n in 0..14_u32 {
        // Batches of many and of single messages.
        let line = format!("\"{}\"\n", "x".repeat(1_000));
        let body = if n % 2 == 0 { line.repeat(1_000) } else { format!("\"{}\"\n", "y".repeat(1_000_000)) };
        count += server.post(S, LINES, body).await.is(200).json()["next_offset"].as_u64().unwrap() - count;
    }
    (server, count)
}

#[tokio::test]
async fn a_long_stream_is_read_whole_in_every_format_and_cut_anywhere() {
    let (server, count) = long().await;
    let whole = server.get_as(&format!("{S}?limit=1000000&max_bytes=1000000000"), LINES).await.is(200);
    assert_eq!((whole.offset("next"), whole.offset("end")), (count, count));
    assert_eq!(memchr::memchr_iter(b'\n', &whole.body).count() as u64, count);
    let raw = server.get_as(&format!("{S}?limit=1000000&max_bytes=1000000000"), BATCHES).await.is(200);
    let headers = batches(&raw);
    assert_eq!(headers.iter().map(|header| u64::from(header.record_count)).sum::<u64>(), count);
    assert!(headers.iter().any(|header| header.kind == Kind::Seal));
    for max_bytes in [1, 5_000, 1_000_000, 3_000_000, 4_194_304, 5_000_000, 9_000_000, 13_000_000] {
        for (accept, most) in [(LINES, 1_100_000), ("application/json", 1_100_000), (BATCHES, 1_100_000)] {
            let (mut at, mut all) = (0, 0);
            while at < count {
                let uri = format!("{S}?from={at}&limit=100000&max_bytes={max_bytes}");
                let answer = server.get_as(&uri, accept).await.is(200);
                let next = answer.offset("next");
                assert!(next > at, "every answer goes on");
                assert!(answer.body.len() <= max_bytes + max_bytes / 4 + most, "{accept} {max_bytes}");
                let messages = match accept {
                    LINES => memchr::memchr_iter(b'\n', &answer.body).count() as u64,
                    BATCHES => batches(&answer).iter().map(|header| u64::from(header.record_count)).sum(),
                    _ => answer.values().len() as u64,
                };
                assert_eq!(messages, next - at, "{accept} {max_bytes} at {at}");
                (at, all) = (next, all + 1);
                if max_bytes < 100_000 && all > 20 {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn stored_batches_from_where_a_segment_begins_come_with_its_snapshot() {
    let (server, count) = long().await;
    let whole = server.get_as(&format!("{S}?limit=1000000&max_bytes=1000000000"), BATCHES).await.is(200);
    let whole = batches(&whole);
    let starts: Vec<_> = whole.iter().filter(|header| header.position.0 == 0).collect();
    assert!(starts.len() > 1);
    assert_eq!((starts[0].kind, whole[0].position.0), (Kind::Snapshot, 0), "the stream begins with it");
    for start in starts {
        let from = start.base_offset.0;
        let answer = server.get_as(&format!("{S}?from={from}&limit=100000"), BATCHES).await.is(200);
        assert_eq!(batches(&answer)[0], *start);
        let inside = server.get_as(&format!("{S}?from={}&limit=1", from + 1), BATCHES).await.is(200);
        assert_eq!(batches(&inside)[0].kind, Kind::Messages);
    }
    assert!(server.get_as(&format!("{S}?from={count}"), BATCHES).await.is(200).body.is_empty());
}

#[tokio::test]
async fn a_limit_beyond_the_first_block_is_exact_for_messages_and_whole_for_batches() {
    let (server, _) = long().await;
    let uri = format!("{S}?from=10&limit=5000&max_bytes=16000000");
    let json = server.get(&uri).await.is(200);
    assert_eq!(offsets(&json), (10..5_010).collect::<Vec<_>>());
    let raw = server.get_as(&uri, BATCHES).await.is(200);
    assert_eq!(raw.offset("next"), batches(&raw).last().unwrap().next_offset().0);
    assert!(raw.offset("next") <= 5_010 && raw.offset("next") > 4_000);
}

#[tokio::test]
async fn a_waiting_read_is_answered_by_an_append_by_time_and_by_the_end() {
    let server = std::sync::Arc::new(numbered(1).await);
    let waiting = |query: &'static str| {
        let server = std::sync::Arc::clone(&server);
        tokio::spawn(async move { server.get(&format!("{S}?{query}")).await.is(200) })
    };
    let arrives = waiting("from=1&wait=60");
    tokio::task::yield_now().await;
    server.append("new").await;
    assert_eq!(arrives.await.unwrap().values(), ["new"]);

    assert!(waiting("from=2&wait=1").await.unwrap().values().is_empty(), "nothing came in time");
    assert!(waiting("from=2&to=2&wait=60").await.unwrap().values().is_empty(), "nothing can come");
    assert_eq!(waiting("from=0&wait=60").await.unwrap().values().len(), 2, "something is there");

    let ends = waiting("from=latest&wait=60");
    tokio::task::yield_now().await;
    server.app.stopping.cancel();
    assert!(ends.await.unwrap().values().is_empty());
}
