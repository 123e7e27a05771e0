//! Headers of appends: digests, traces, and those that are given twice.

use serde_json::json;
use vault_format::limits::MAX_RUN_BYTES;
use vault_format::record::Message;

use super::{JSON, LINES, TEXT, server};
use crate::http::append::RECORDS;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

// Of `hello`, by md5sum, sha256sum and sha512sum.
const MD5: &str = "XUFAKrxLKna5cZ2REBfFkg==";
const SHA256: &str = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
const SHA512: &str =
    "sha-512=:m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw==:";

#[tokio::test]
async fn digests_are_checked_before_anything_is_stored() {
    let server = server().await;
    let both = format!("{SHA256}, {SHA512}");
    let unknown_too = format!("unixsum=:Aw==:, {SHA256};wanted");
    let rights = [
        ("Content-MD5", MD5),
        ("Repr-Digest", SHA256),
        ("Content-Digest", SHA512),
        ("Repr-Digest", &*both),
        ("Repr-Digest", &unknown_too),
    ];
    for right in rights {
        server.post_with(&[("content-type", TEXT), right], "hello").await.is(200);
    }
    for right in rights {
        let problem =
            server.post_with(&[("content-type", TEXT), right], "hellO").await.problem(400, "digest_mismatch");
        assert!(problem["detail"].as_str().unwrap().contains(&right.0.to_lowercase()), "{problem}");
    }
    // One that is right does not save one that lies.
    let lie = SHA512.replace("sha-512=:m3", "sha-512=:n3");
    for lies in [
        vec![("Content-MD5", MD5), ("Repr-Digest", &*lie)],
        vec![("Repr-Digest", SHA256), ("Content-Digest", &*lie)],
    ] {
        let headers = [&[("content-type", TEXT)], &lies[..]].concat();
        server.post_with(&headers, "hello").await.problem(400, "digest_mismatch");
    }
    for wrong in [
        ("Content-MD5", "x"),
        ("Content-MD5", "AA=="),
        ("Content-MD5", ""),
        ("Repr-Digest", "sha-256"),
        ("Repr-Digest", "sha-256=:AA==:"),
        ("Repr-Digest", "sha-256=\"AA==\""),
        ("Repr-Digest", "sha-256=(:AA==:)"),
        ("Content-Digest", "="),
        ("Content-Digest", "sha-512=:not base64:"),
    ] {
        server.post_with(&[("content-type", TEXT), wrong], "hello").await.problem(400, "invalid_parameter");
    }
    for unknown in
        [("Repr-Digest", "md5=:AA==:"), ("Content-Digest", "sha=:AA==:, crc32c=:AA==:"), ("Repr-Digest", "")]
    {
        server.post_with(&[("content-type", TEXT), unknown], "hello").await.problem(400, "unsupported");
    }
    assert_eq!(server.messages().await.len(), rights.len());
}

#[tokio::test]
async fn digests_of_settings_are_checked_too() {
    let server = server().await;
    for method in ["PUT", "PATCH"] {
        let request =
            axum::http::Request::builder().method(method).uri("/streams/s").header("content-md5", MD5);
        server.send(request.body("{}".into()).unwrap()).await.problem(400, "digest_mismatch");
    }
    server.get("/streams/s").await.problem(404, "stream_not_found");
}

#[tokio::test]
async fn a_header_that_is_given_twice_is_refused() {
    let server = server().await;
    for (twice, value) in [
        ("content-type", TEXT),
        ("content-md5", MD5),
        ("repr-digest", SHA256),
        ("content-digest", SHA256),
        ("producer-id", "p"),
        ("producer-epoch", "1"),
        ("producer-seq", "1"),
    ] {
        let headers = [("content-type", TEXT), (twice, value), (twice, value)];
        let problem = server.post_with(&headers, "hello").await.problem(400, "invalid_parameter");
        assert!(problem["detail"].as_str().unwrap().contains(twice), "{problem}");
    }
    let encodings = [("content-type", TEXT), ("content-encoding", "identity"), ("content-encoding", "gzip")];
    server.post_with(&encodings, "hello").await.problem(415, "unsupported_media_type");
    server.post_with(&[("content-type", TEXT), ("content-encoding", "Identity")], "hello").await.is(200);
}

#[tokio::test]
async fn a_trace_is_kept_with_every_message_that_has_none() {
    let server = server().await;
    let mut records = Vec::new();
    Message { attributes: 4, key: b"k", headers: &[("h", "v")], value: b"r" }.encode(0, &mut records);
    let json = r#"{"messages":[{"value":"a"},{"value":"b","headers":{"traceparent":"mine"}}]}"#;
    let event = r#"{"specversion":"1.0","id":"i","source":"/s","type":"t","traceparent":"of-the-event"}"#;
    for (kind, body) in [
        (TEXT, b"x".to_vec()),
        (LINES, b"1\n2\n".to_vec()),
        (RECORDS, records.clone()),
        (JSON, json.into()),
        ("application/cloudevents+json", event.into()),
    ] {
        let headers =
            [("content-type", kind), ("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")];
        server.post_with(&headers, body).await.is(200);
    }
    let found = server.messages().await;
    let trace = json!({"traceparent": PARENT, "tracestate": "a=1,b=2"});
    let kept: Vec<_> = found.iter().map(|message| message["headers"]["traceparent"] == PARENT).collect();
    assert_eq!(kept, [true, true, true, true, true, false, true]);
    assert_eq!(found[0]["headers"], trace);
    assert_eq!(found[3]["headers"]["h"], "v");
    assert_eq!(
        (&found[3]["attributes"], &found[3]["key"], &found[3]["value"]),
        (&json!(4), &json!("k"), &json!("r"))
    );
    assert_eq!(found[5]["headers"], json!({"traceparent": "mine"}));
    assert_eq!(found[6]["headers"]["ce_traceparent"], "of-the-event");

    server.post_with(&[("content-type", RECORDS), ("traceparent", "nonsense")], records).await.is(200);
    assert_eq!(server.messages().await[7]["headers"], json!({"h": "v"}));
}

#[tokio::test]
async fn nothing_is_refused_for_the_sake_of_a_trace() {
    let server = server().await;
    let traced = |kind| [("content-type", kind), ("traceparent", PARENT)];
    let many: Vec<_> = (0..64).map(|n| format!("\"h{n}\":\"\"")).collect();
    let full = format!(r#"{{"messages":[{{"value":"a","headers":{{{}}}}}]}}"#, many.join(","));
    server.post_with(&traced(JSON), full).await.is(200);
    let long =
        format!(r#"{{"messages":[{{"value":"a","headers":{{"h":"{}"}}}}]}}"#, "x".repeat((16 << 10) - 1));
    server.post_with(&traced(JSON), long).await.is(200);
    let run = |last: usize| {
        let mut records = Vec::new();
        for bytes in [1 << 20, 1 << 20, last] {
            Message { value: &vec![b'x'; bytes], ..Message::default() }.encode(0, &mut records);
        }
        records
    };
    let whole = (1..).map(|less| run((1 << 20) - less)).find(|run| run.len() <= MAX_RUN_BYTES).unwrap();
    assert_eq!(whole.len(), MAX_RUN_BYTES);
    server.post_with(&traced(RECORDS), whole).await.is(200);
    let found = server.get("/streams/s/messages?max_bytes=16777216").await.is(200).json();
    for message in found["messages"].as_array().unwrap() {
        assert!(message["headers"]["traceparent"].is_null(), "{}", message["offset"]);
    }
}
