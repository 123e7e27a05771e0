//! Filtered reads with an end.

#![expect(clippy::disallowed_methods, reason = "tests wait by the runtime's clock")]

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use serde_json::json;

use tokio::time::{Instant, sleep};

use super::{Answer, JSON, LINES, Server, on_runtime_clock, server};
use crate::access::Access;
use crate::http::read::parameters::BATCHES;
use crate::limits::{COUNTED_PIECE_BYTES, FILTERED_LOOK_BYTES, FILTERED_LOOK_TIME, READ_MEMORY_BYTES};
use crate::log::stream::Freshness;

const S: &str = "/streams/s/messages";

/// Ten messages with keys 0 to 2 in turn, and headers.
async fn mixed() -> Server {
    let server = server().await;
    for n in 0..10 {
        let headers = json!({"n": n.to_string(), "even": (n % 2 == 0).to_string()});
        let message = json!({"key": (n % 3).to_string(), "value": format!("v{n}"), "headers": headers});
        server.post(S, JSON, json!({"messages": [message]}).to_string()).await.is(200);
    }
    let plain = json!({"messages": [{"value": "v10"}, {"key_base64": "/w==", "value": "v11"}]});
    server.post(S, JSON, plain.to_string()).await.is(200);
    server
}

fn offsets(answer: &Answer) -> Vec<u64> {
    let body = answer.json();
    body["messages"].as_array().unwrap().iter().map(|m| m["offset"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn only_what_has_everything_that_is_asked_for_is_answered() {
    let server = mixed().await;
    for (query, wanted, next) in [
        ("key=1", vec![1, 4, 7], 12),
        ("key=1&from=2&limit=1", vec![4], 5),
        ("key=1&to=7", vec![1, 4], 7),
        ("key=1&from=8&to=8", vec![], 8),
        ("key=9", vec![], 12),
        ("key=", vec![10], 12),
        ("key_base64=/w==", vec![11], 12),
        ("header.even=true", vec![0, 2, 4, 6, 8], 12),
        ("header.even=true&header.n=4", vec![4], 12),
        ("header.even=true&key=1", vec![4], 12),
        ("header.even=true&header.even=false", vec![], 12),
        ("header%2Een=x&header.even=true", vec![], 12),
        ("key=1&from=latest", vec![], 12),
        ("key=0&max_bytes=1", vec![0], 1),
    ] {
        let answer = server.get(&format!("{S}?{query}")).await.is(200);
        assert_eq!(offsets(&answer), wanted, "{query}");
        assert_eq!((answer.offset("next"), &answer.json()["next_offset"]), (next, &json!(next)), "{query}");
        let lines = server.get_as(&format!("{S}?{query}"), LINES).await.is(200);
        let texts: Vec<_> = lines.body.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
        assert_eq!((texts.len(), lines.offset("next")), (wanted.len(), next), "{query}");
    }
    let refused = server.get_as(&format!("{S}?key=1"), BATCHES).await.problem(400, "invalid_parameter");
    assert!(refused["detail"].as_str().unwrap().contains("key"));
    server.get_as(&format!("{S}?key=1&max_bytes=16777217"), LINES).await.problem(400, "invalid_parameter");
    server.get(&format!("{S}?key=1&from=13")).await.problem(416, "beyond_tail");
}

#[tokio::test]
async fn a_filtered_read_waits_for_a_message_that_passes() {
    let server = Arc::new(mixed().await);
    let waiting = |query: &'static str| {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.get(&format!("{S}?{query}")).await.is(200) })
    };
    let arrives = waiting("from=12&key=k&wait=60");
    let never = waiting("from=12&key=x&wait=1");
    for (key, value) in [("other", "a"), ("k", "b")] {
        tokio::task::yield_now().await;
        let message = json!({"messages": [{"key": key, "value": value}]});
        server.post(S, JSON, message.to_string()).await.is(200);
    }
    let arrived = arrives.await.unwrap();
    assert_eq!((arrived.values(), arrived.offset("next")), (vec!["b".to_owned()], 14));
    let never = never.await.unwrap();
    assert_eq!((never.values().len(), never.offset("next")), (0, 14), "it goes on behind what was looked at");
    let ends = waiting("from=latest&key=k&wait=60");
    tokio::task::yield_now().await;
    server.app.stopping.cancel();
    assert!(ends.await.unwrap().values().is_empty());
}

#[tokio::test]
async fn a_filtered_read_gives_up_after_so_many_bytes_and_says_where_to_go_on() {
    let server = server().await;
    let big =
        json!({"messages": [{"value": "x".repeat(1 << 20)}, {"value": "x".repeat(1 << 20)}]}).to_string();
    let bytes = FILTERED_LOOK_BYTES + (12 << 20);
    for _ in 0..bytes >> 21 {
        server.post(S, JSON, big.clone()).await.is(200);
    }
    server.post(S, JSON, json!({"messages": [{"key": "k", "value": "last"}]}).to_string()).await.is(200);
    let (mut next, mut asked, mut found) = (0, 0, Vec::new());
    while found.is_empty() {
        let answer = server.get(&format!("{S}?key=k&from={next}&to={}", (bytes >> 20) + 1)).await.is(200);
        let moved = answer.offset("next") - next;
        found = answer.values();
        // Where it gives up depends on what stood in memory.
        assert_eq!(answer.headers.contains_key("etag"), !found.is_empty());
        assert!(!found.is_empty() || (moved << 20) >= FILTERED_LOOK_BYTES - (5 << 20), "{moved}");
        assert!((moved << 20) <= FILTERED_LOOK_BYTES + (8 << 20), "{moved}");
        (next, asked) = (next + moved, asked + 1);
    }
    assert_eq!((found, asked), (vec!["last".to_owned()], 2));
}

#[tokio::test(start_paused = true)]
async fn the_time_to_look_is_not_used_up_by_waiting() {
    let server = Arc::new(on_runtime_clock(Access::for_everybody).await);
    server.call("PUT", "/streams/s", "").await.is(201);
    let begun = Instant::now();
    let waiting = |query: &'static str| {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.get(&format!("{S}?{query}")).await.is(200) })
    };
    let (arrives, never) = (waiting("key=want&wait=30"), waiting("key=none&wait=30"));
    for key in ["other", "another", "want"] {
        sleep(FILTERED_LOOK_TIME + Duration::from_millis(1_500)).await;
        let message = json!({"messages": [{"key": key, "value": key}]}).to_string();
        server.post(S, JSON, message).await.is(200);
    }
    assert_eq!(arrives.await.unwrap().values(), ["want"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let never = never.await.unwrap();
    assert_eq!((never.values().len(), never.offset("next")), (0, 3));
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(30) && waited < Duration::from_secs(32), "{waited:?}");
}

/// Ten messages of 300 KiB with the key `k`, and all of the readers' memory but so much.
async fn short_of_memory(left: usize) -> (Server, Bytes) {
    let server = on_runtime_clock(Access::for_everybody).await;
    let value = "x".repeat(300 << 10);
    for _ in 0..10 {
        let message = json!({"messages": [{"key": "k", "value": value}]}).to_string();
        server.post(S, JSON, message).await.is(200);
    }
    let stream = server.app.vault.readable(&server.app.vault.name("s").unwrap()).await.unwrap();
    let reader = stream.reader(Freshness::Recent).await.unwrap();
    let held = reader.counted(vec![0; READ_MEMORY_BYTES - left]).await.unwrap();
    (server, held)
}

/// The first message is left out: what was written before it is not in memory.
#[tokio::test(start_paused = true)]
async fn where_memory_runs_out_what_was_found_is_answered() {
    for accept in [JSON, LINES] {
        // Two pieces of two messages each find room, and a third does not.
        let (server, held) = short_of_memory(1_400 << 10).await;
        let few = server.get_as(&format!("{S}?key=k&from=1&limit=3"), accept).await.is(200);
        assert_eq!(few.offset("next"), 4);
        let answer = server.get_as(&format!("{S}?key=k&from=1&to=10"), accept).await.is(200);
        assert_eq!((answer.offset("next"), answer.offset("end")), (5, 10));
        assert_eq!(answer.headers["cache-control"], "no-store");
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert_eq!(text.matches("\"offset\":").count(), 4);
        if accept == JSON {
            assert_eq!((answer.values().len(), &answer.json()["next_offset"]), (4, &json!(5)));
        }
        drop(held);
        let all = server.get_as(&format!("{S}?key=k"), accept).await.is(200);
        assert_eq!(all.offset("next"), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_piece_counts_unless_it_is_short() {
    let (server, _held) = short_of_memory(COUNTED_PIECE_BYTES).await;
    assert!(server.get(&format!("{S}?key=none&from=1")).await.is(200).values().is_empty());
    server.get(&format!("{S}?key=k&from=1&limit=1")).await.problem(503, "overloaded");
}
