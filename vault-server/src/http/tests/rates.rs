//! `append_bytes_per_second`.

use serde_json::json;

use super::server;
use crate::http::append::RECORDS;
use crate::http::tests::Server;
use vault_format::record::Message;

const S: &str = "/streams/s/messages";

/// A request of almost 3 MiB of records.
fn full() -> Vec<u8> {
    let mut records = Vec::new();
    for _ in 0..3 {
        Message { value: &vec![b'x'; (1 << 20) - 32], ..Message::default() }.encode(0, &mut records);
    }
    records
}

async fn limit(server: &Server, bytes: &str) -> serde_json::Value {
    let body = format!(r#"{{"append_bytes_per_second":{bytes}}}"#);
    server.call("PATCH", "/streams/s", body).await.is(200).json()["settings"].clone()
}

#[tokio::test]
async fn what_comes_too_fast_is_told_when_to_come_again() {
    let server = server().await;
    let made =
        server.call("PUT", "/streams/s", r#"{"append_bytes_per_second":1048576}"#).await.is(201).json();
    assert_eq!(made["settings"]["append_bytes_per_second"], 1 << 20);
    server.call("PUT", "/streams/s", "").await.is(200);
    let other = server.call("PUT", "/streams/s", r#"{"append_bytes_per_second":null}"#).await;
    assert!(other.problem(409, "other_settings")["detail"].as_str().unwrap().contains("1048576"));

    // A refused condition gives back what it took.
    for _ in 0..3 {
        server.post(&format!("{S}?expected_offset=7"), RECORDS, full()).await.problem(412, "offset_mismatch");
    }
    server.post(S, RECORDS, full()).await.is(200);
    let refused = server.post(S, RECORDS, full()).await;
    let seconds: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((2..=3).contains(&seconds), "{seconds}");
    let problem = refused.problem(429, "rate_exceeded");
    assert_eq!((&problem["retryable"], &problem["side_effects"]), (&json!(true), &json!("none")));
    assert_eq!(server.get("/streams/s").await.json()["next_offset"], 3);
}

#[tokio::test]
async fn a_patch_takes_effect_at_once() {
    let server = server().await;
    server.append("x").await;
    assert_eq!(server.get("/streams/s").await.json()["settings"]["append_bytes_per_second"], json!(null));
    assert_eq!(limit(&server, "1024").await["append_bytes_per_second"], 1_024);
    server.post(S, RECORDS, full()).await.is(200);
    let refused = server.post(S, RECORDS, full()).await;
    let seconds: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3_000..=3_072).contains(&seconds), "{seconds}");
    // Other settings are left as they are, and the rate too where it is not named.
    server.call("PATCH", "/streams/s", r#"{"segment_bytes":4194304}"#).await.is(200);
    server.post(S, RECORDS, full()).await.problem(429, "rate_exceeded");
    let changed = limit(&server, "null").await;
    assert_eq!(changed["segment_bytes"], 4_194_304);
    assert_eq!(changed["append_bytes_per_second"], json!(null));
    for _ in 0..3 {
        server.post(S, RECORDS, full()).await.is(200);
    }
    for wrong in ["0", "1023", "1073741825", "-1", "1.5", "\"1024\""] {
        let body = format!(r#"{{"append_bytes_per_second":{wrong}}}"#);
        server.call("PATCH", "/streams/s", body).await.problem(400, "invalid_settings");
    }
}
