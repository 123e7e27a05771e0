//! What there is for whoever watches over the server, on a listener of its own.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use vault_format::names::ContainerName;

use super::{Answer, Server, idle, on_runtime_clock, server};
use crate::access::Access;
use crate::http::internal_router;
use crate::storage::{Metadata, Storage};

async fn internal(server: &Server, method: &str, uri: &str) -> Answer {
    let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
    let answer = internal_router(Arc::clone(&server.app)).oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// Makes a stream's container as another program would.
async fn make(server: &Server, name: &str) {
    let metadata =
        [("stream_id", "07".repeat(16)), ("created_ms", "1".into()), ("segment_bytes", "4194304".into())];
    let metadata: Metadata = metadata.map(|(name, value)| (name.to_owned(), value)).into();
    let container = ContainerName::listed(name).unwrap();
    server.app.storage.create_container(&container, &metadata).await.unwrap();
}

#[tokio::test]
async fn a_leader_that_is_told_so_looks_at_once() {
    let server = server().await;
    make(&server, "mv-orders").await;
    let found = internal(&server, "POST", "/refresh").await.is(200);
    assert_eq!(found.json(), json!({"role": "leader", "streams": 1}));
    internal(&server, "GET", "/refresh").await.problem(405, "method_not_allowed");
    server.call("POST", "/refresh", "").await.problem(404, "no_such_route");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_look_says_so_in_time() {
    let (server, _election) = idle(false);
    let problem = internal(&server, "POST", "/refresh").await.problem(503, "timed_out");
    assert!(problem["detail"].as_str().unwrap().contains("could not be listed"), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn streams_are_listed_with_what_is_known_of_them() {
    let server = on_runtime_clock(Access::for_everybody).await;
    let listed = async |uri: &str| internal(&server, "GET", uri).await.is(200).json();
    server.append("a").await;
    server.append("bc").await;
    server.call("PUT", "/streams/empty", "").await.is(201);
    server.get("/streams/empty/messages").await.is(200);
    let page = listed("/streams?limit=1").await;
    assert_eq!(page["next_start_after"], "empty");
    let empty = &page["streams"][0];
    assert_eq!((&empty["next_offset"], &empty["last_timestamp"]), (&json!(0), &Value::Null));
    let page = listed("/streams?prefix=s").await;
    let described = server.get("/streams/s").await.json();
    for field in ["name", "id", "settings", "first_offset", "next_offset", "last_timestamp", "bytes"] {
        assert_eq!(page["streams"][0][field], described[field], "{field}");
    }
    assert_eq!(page["streams"][0]["next_offset"], 2);
    assert_eq!(server.get("/streams?prefix=s").await.json(), page, "clients are told the same");
    make(&server, "mv-unopened").await;
    internal(&server, "POST", "/refresh").await.is(200);
    let page = listed("/streams?prefix=u").await;
    let unopened = &page["streams"][0];
    for field in ["first_offset", "next_offset", "last_timestamp", "bytes"] {
        assert_eq!(unopened.get(field), Some(&Value::Null), "{field}");
    }
    internal(&server, "GET", "/streams?limit=0").await.problem(400, "invalid_parameter");
}
