//! `retention_seconds` and `max_bytes`, as clients see them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use vault_format::names::{Prefix, SegmentName};

use super::{LINES, Server, TEXT, idle_on, led, on_runtime_clock};
use crate::access::Access;
use crate::env::Env;
use crate::storage::faulty::{Fault, Faulty, Hold};
use crate::storage::memory::MemoryStorage;
use crate::storage::operation::Operation;
use crate::storage::{BlobName, Storage};

const S: &str = "/streams/s/messages";
const EVENTS: &str = "text/event-stream";

/// A server with a stream whose messages are kept for ten minutes, and four messages in it, 70 s apart: each of them in a
/// segment of its own.
async fn with_four_segments() -> Server {
    let server = on_runtime_clock(Access::for_everybody).await;
    server.call("PUT", "/streams/s", r#"{"retention_seconds":600}"#).await.is(201);
    for n in 0..4 {
        assert_eq!(server.append(format!("m{n}")).await, n);
        pause(&server, 70).await;
    }
    server
}

async fn pause(server: &Server, seconds: u64) {
    server.app.env.clock.sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_is_gone_and_the_rest_is_there() {
    let server = with_four_segments().await;
    assert_eq!(server.get(&format!("{S}?from=0")).await.is(200).values(), ["m0", "m1", "m2", "m3"]);
    // A description counts what is stored, although segments are larger.
    let described = server.get("/streams/s").await.is(200).json();
    assert!(described["bytes"].as_u64().unwrap() < 20_000, "{described}");
    assert_eq!((&described["first_offset"], &described["segments"]), (&0.into(), &5.into()));
    pause(&server, 440).await;
    let gone = server.get(&format!("{S}?from=0")).await.problem(410, "below_first");
    assert_eq!((&gone["first_offset"], &gone["retryable"]), (&2.into(), &false.into()));
    assert_eq!(server.get(&format!("{S}?from=earliest")).await.is(200).values(), ["m2", "m3"]);
    assert_eq!(server.get(&format!("{S}?since=0")).await.is(200).values(), ["m2", "m3"]);
    pause(&server, 600).await;
    let described = server.get("/streams/s").await.is(200).json();
    assert_eq!((&described["first_offset"], &described["next_offset"]), (&4.into(), &4.into()));
    let empty = server.get(&format!("{S}?from=earliest")).await.is(200);
    assert!(empty.values().is_empty());
    assert_eq!(server.append("m4").await, 4);
    assert_eq!(server.get(&format!("{S}?from=earliest")).await.is(200).values(), ["m4"]);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_clamps_begins_at_what_is_kept_however_often_it_is_overtaken() {
    let env = Env::controlled(1);
    let memory = Arc::new(MemoryStorage::new(env.clone()));
    let access = Access::for_everybody(env.clone());
    let leader = led(idle_on(memory.clone(), true, env.clone(), access.clone())).await;
    leader.call("PUT", "/streams/s", r#"{"retention_seconds":600}"#).await.is(201);
    for n in 0..15 {
        assert_eq!(leader.append(format!("m{n}")).await, n);
        pause(&leader, 70).await;
    }
    let faulty = Arc::new(Faulty::new(Arc::clone(&memory), env.clone(), 1));
    let (follower, mut election) = idle_on(faulty.clone(), true, env, access);
    tokio::spawn(async move { election.run(&CancellationToken::new()).await });
    pause(&follower, 5).await;
    let prefix = Prefix::new("mv-").unwrap();
    let container = prefix.container(&prefix.stream("s").unwrap());
    let mut kept = Vec::new();
    for entry in memory.list_blobs(&container, "").await.unwrap() {
        if let Some(segment) = SegmentName::parse(&entry.name) {
            kept.push((segment.base.0, BlobName { container: container.clone(), name: entry.name }));
        }
    }
    // Whatever the follower takes for the beginning is deleted while it looks there.
    let (begins, deleted) = (kept[6].0, kept[..6].to_vec());
    let holds: Vec<_> = deleted.iter().map(|_| Hold::new()).collect();
    for ((_, blob), hold) in deleted.iter().zip(&holds) {
        faulty.on(Operation::Read).blob(&blob.name).then(Fault::Hold(hold.clone()));
    }
    let retention = tokio::spawn(async move {
        for ((_, blob), hold) in deleted.iter().zip(holds) {
            hold.arrived(1).await;
            memory.delete_blob(blob, None).await.unwrap();
            hold.release().await;
        }
    });
    let answer = follower.get(&format!("{S}?from=0&clamp=true")).await.is(200);
    let expected: Vec<_> = (begins..15).map(|n| format!("m{n}")).collect();
    assert_eq!(answer.values(), expected);
    retention.await.unwrap();
}

/// The body of an answer that follows, as it comes.
async fn follow(server: &Server, accept: &str) -> Body {
    let uri = format!("{S}?from=0&follow=true");
    let request = Request::builder().uri(uri).header("accept", accept).body(Body::empty()).unwrap();
    server.router.clone().oneshot(request).await.unwrap().into_body()
}

#[tokio::test(start_paused = true)]
async fn who_follows_and_is_overtaken_is_told() {
    let server = with_four_segments().await;
    let (mut events, mut lines) = (follow(&server, EVENTS).await, follow(&server, LINES).await);
    // Nothing is taken until everything is gone.
    let retry = events.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(retry.starts_with(b"retry:"), "{retry:?}");
    pause(&server, 1_200).await;
    let mut rest = String::new();
    while let Some(Ok(frame)) = events.frame().await {
        rest.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
    assert!(rest.contains("event: error") && rest.contains("below_first") && !rest.contains("m3"), "{rest}");
    assert!(lines.frame().await.unwrap().is_err(), "lines break off");
    // An EventSource comes again, and is told for good.
    let again = Request::builder().uri(S).header("accept", EVENTS).header("last-event-id", "1");
    let gone = server.send(again.body(Body::empty()).unwrap()).await.problem(410, "below_first");
    assert_eq!(gone["first_offset"], 4);
}

#[tokio::test]
async fn a_limit_that_leaves_no_room_for_what_is_to_be_kept_is_refused() {
    let server = super::server().await;
    let both = |bytes: u64| format!(r#"{{"retention_bytes":{},"max_bytes":{bytes}}}"#, 64 << 20);
    let problem = server.call("PUT", "/streams/t", both(79 << 20)).await.problem(400, "invalid_settings");
    assert!(problem["detail"].as_str().unwrap().contains("at least 83886080"), "{problem}");
    server.call("PUT", "/streams/t", both(80 << 20)).await.is(201);
    server.call("PATCH", "/streams/t", r#"{"max_bytes":1048576}"#).await.problem(400, "invalid_settings");
    server.call("PATCH", "/streams/t", r#"{"retention_bytes":null,"max_bytes":1048576}"#).await.is(200);
}

#[tokio::test]
async fn a_full_stream_takes_nothing_until_it_may_hold_more() {
    let server = super::server().await;
    server.call("PUT", "/streams/s", r#"{"max_bytes":1048576}"#).await.is(201);
    let large = "x".repeat(700_000);
    server.post(S, TEXT, large.clone()).await.is(200);
    let full = server.post(S, TEXT, large.clone()).await.problem(507, "stream_full");
    assert_eq!((&full["retryable"], &full["side_effects"]), (&false.into(), &"none".into()));
    assert_eq!(server.append("small").await, 1);
    server.call("PATCH", "/streams/s", r#"{"max_bytes":null}"#).await.is(200);
    server.post(S, TEXT, large).await.is(200);
    assert_eq!(server.get("/streams/s").await.json()["next_offset"], 3);
}
