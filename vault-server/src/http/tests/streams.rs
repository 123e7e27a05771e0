//! Streams: created, listed, described, changed, deleted; probes and status.

use serde_json::json;

use super::{TEXT, idle, leading, server};

#[tokio::test]
async fn a_stream_lives_and_ends() {
    let server = leading(false).await;
    server.post("/streams/s/messages", TEXT, "x").await.problem(404, "stream_not_found");
    let made = server.call("PUT", "/streams/s", r#"{"segment_bytes":8388608}"#).await.is(201).json();
    assert_eq!(made["settings"]["segment_bytes"], 8_388_608);
    server.call("PUT", "/streams/s", "").await.is(200);
    server.call("PUT", "/streams/s", r#"{"segment_bytes":8388608}"#).await.is(200);
    server.call("PUT", "/streams/s", r#"{"segment_bytes":4194304}"#).await.problem(409, "other_settings");
    let changed = server.call("PATCH", "/streams/s", r#"{"segment_bytes":4194304}"#).await.is(200).json();
    assert_eq!(changed["settings"]["segment_bytes"], 4_194_304);

    let empty = server.get("/streams/s").await.is(200).json();
    assert_eq!((&empty["next_offset"], &empty["last_timestamp"]), (&json!(0), &json!(null)));
    server.append("one").await;
    let described = server.get("/streams/s").await.is(200).json();
    assert_eq!((&described["first_offset"], &described["next_offset"]), (&json!(0), &json!(1)));
    assert_eq!((&described["name"], &described["id"]), (&json!("s"), &made["id"]));
    assert_eq!((&described["segments"], &described["condition"]), (&json!(1), &json!("open")));
    assert!(described["bytes"].as_u64() > Some(0) && described["last_timestamp"].as_u64() > Some(0));

    server.call("DELETE", "/streams/s", "").await.is(204);
    server.get("/streams/s").await.problem(404, "stream_not_found");
    server.get("/streams/s/messages").await.problem(404, "stream_not_found");
    server.call("DELETE", "/streams/s", "").await.problem(404, "stream_not_found");
    server.call("PATCH", "/streams/s", "{}").await.problem(404, "stream_not_found");
}

#[tokio::test]
async fn wrong_settings_are_named() {
    let server = server().await;
    for (body, says) in [
        (r#"{"retention":"1d"}"#, "retention"),
        (r#"{"segment_bytes":5}"#, "segment_bytes"),
        (r#"{"segment_bytes":"x"}"#, "string"),
        ("nonsense", "expected"),
        (r#"[4194304,"zstd"]"#, "must be an object"),
        ("[]", "must be an object"),
        ("null", "must be an object"),
        (r#""zstd""#, "must be an object"),
        ("{} x", "trailing"),
        (r#"{"segment_bytes":null}"#, "segment_bytes must be a multiple of 4194304"),
        (r#"{"segment_bytes":"10"}"#, "segment_bytes must be a multiple of 4194304"),
        (r#"{"segment_bytes":10.5}"#, "segment_bytes must be a multiple of 4194304"),
        (r#"{"account":null}"#, "account must be the name"),
        (r#"{"codec":null}"#, "codec must be one of none, lz4, zstd"),
        (r#"{"codec":"gzip"}"#, "codec must be one of none, lz4, zstd"),
        (r#"{"retention_seconds":"10"}"#, "retention_seconds must be from 10 to 3153600000, or null"),
        (r#"{"max_bytes":-1}"#, "max_bytes must be from 1048576"),
        (r#"{"max_bytes":1e99}"#, "max_bytes must be from 1048576"),
    ] {
        let problem = server.call("PUT", "/streams/s", body).await.problem(400, "invalid_settings");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
    let problem = server.call("PUT", "/streams/s?x=1", "").await.problem(400, "invalid_parameter");
    assert!(problem["detail"].as_str().unwrap().contains('x'));
}

#[tokio::test]
async fn names_are_checked_in_every_encoding() {
    let server = server().await;
    let long = "x".repeat(64);
    for name in ["..%2Fetc", "%2e%2e%2fetc", "a_b", "Orders", "sys", "a--b", "%FF", "%00", &long] {
        server.call("PUT", &format!("/streams/{name}"), "").await.problem(400, "invalid_name");
        let messages = format!("/streams/{name}/messages");
        server.get(&messages).await.problem(400, "invalid_name");
        server.post(&messages, TEXT, "x").await.problem(400, "invalid_name");
    }
    server.call("PUT", "/streams/orders-2", "").await.is(201);
    server.call("PUT", &format!("/streams/{}", "x".repeat(60)), "").await.is(201);
    server.call("PUT", &format!("/streams/{}", "x".repeat(61)), "").await.problem(400, "invalid_name");
}

#[tokio::test]
async fn streams_are_listed_in_pages() {
    let server = server().await;
    for name in ["b2", "a1", "b1", "b3"] {
        server.call("PUT", &format!("/streams/{name}"), "").await.is(201);
    }
    let names = |answer: &serde_json::Value| -> Vec<String> {
        let streams = answer["streams"].as_array().unwrap();
        streams.iter().map(|stream| stream["name"].as_str().unwrap().to_owned()).collect()
    };
    let page = server.get("/streams?prefix=b&limit=2").await.is(200).json();
    assert_eq!((names(&page), &page["next_start_after"]), (vec!["b1".into(), "b2".into()], &json!("b2")));
    let page = server.get("/streams?prefix=b&limit=2&start_after=b2").await.is(200).json();
    assert_eq!((names(&page), &page["next_start_after"]), (vec!["b3".into()], &json!(null)));
    assert_eq!(names(&server.get("/streams").await.json()).len(), 4);
    for wrong in ["limit=0", "limit=1001", "limit=x", "page=2"] {
        server.get(&format!("/streams?{wrong}")).await.problem(400, "invalid_parameter");
    }
}

#[tokio::test]
async fn without_a_leader_only_life_is_certain() {
    let (server, _leadership) = idle(true);
    server.get("/livez").await.is(200);
    let problem = server.get("/readyz").await.problem(503, "not_ready");
    assert_eq!(problem["detail"], "this server has not found its vault yet");
    for (answer, code) in [
        (server.get("/streams").await, "not_ready"),
        (server.get("/streams/s").await, "not_ready"),
        (server.get("/streams/s/messages").await, "not_ready"),
        (server.call("PUT", "/streams/s", "").await, "no_leader"),
        (server.post("/streams/s/messages", TEXT, "x").await, "no_leader"),
    ] {
        assert_eq!(answer.headers["retry-after"], "1");
        answer.problem(503, code);
    }
    assert_eq!(server.get("/status").await.is(200).json()["role"], "follower");
}

#[tokio::test]
async fn the_status_tells_what_there_is() {
    let server = server().await;
    server.append("x").await;
    server.get("/readyz").await.is(200);
    let status = server.get("/status").await.is(200).json();
    assert_eq!((&status["role"], &status["storage"]), (&json!("leader"), &json!("memory")));
    assert_eq!((&status["streams"], &status["prefix"]), (&json!(1), &json!("mv-")));
    assert!(status["term"].as_u64() > Some(0) && status["storage_requests"]["put_pages"].as_u64() > Some(0));
    assert_eq!(status["troubled"], json!([]));
    server.app.stopping.cancel();
    server.get("/readyz").await.problem(503, "not_ready");
    server.get("/livez").await.is(200);
    let welcome = server.get("/").await.is(200);
    assert!(
        welcome.body.starts_with(b"Message Vault")
            && welcome.headers["content-type"] == "text/plain; charset=utf-8"
    );
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems_too() {
    let server = server().await;
    server.get("/nothing").await.problem(404, "no_such_route");
    server.get("/streams/a/b/c").await.problem(404, "no_such_route");
    let answer = server.call("POST", "/streams/s", "").await;
    assert!(answer.headers["allow"].to_str().unwrap().contains("PUT"));
    answer.problem(405, "method_not_allowed");
    server.call("DELETE", "/streams/s/messages", "").await.problem(405, "method_not_allowed");
}
