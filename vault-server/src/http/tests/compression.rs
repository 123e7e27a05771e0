//! Streams with a codec, as clients see them: they do not, but for what is stored.

use serde_json::{Value, json};
use vault_format::batch::Batch;
use vault_format::codec::Codec;
use vault_format::header::{Header, Kind};

use super::read_following::{EVENTS, S};
use super::{Answer, JSON, LINES, Server, server};
use crate::http::read::parameters::BATCHES;

const CODECS: [&str; 2] = ["lz4", "zstd"];

async fn with_codec(codec: &str) -> Server {
    let server = server().await;
    let settings = json!({ "codec": codec }).to_string();
    let made = server.call("PUT", "/streams/s", settings).await.is(201).json();
    assert_eq!(made["settings"]["codec"], codec);
    server
}

/// Appends in requests of ten: messages of about 60 bytes, `from` on, with three keys in turn.
async fn append(server: &Server, from: u64, count: u64) {
    let all: Vec<Value> = (from..from + count)
        .map(|n| json!({"key": (n % 3).to_string(), "value": format!("{{\"order\":{n},\"city\":\"Lima\",\"status\":\"paid\"}}")}))
        .collect();
    for messages in all.chunks(10) {
        server.post(S, JSON, json!({ "messages": messages }).to_string()).await.is(200);
    }
}

fn headers(answer: &Answer) -> Vec<Header> {
    let mut rest = &answer.body[..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let header = Batch::decode(rest).unwrap().header;
        rest = &rest[usize::try_from(header.written_bytes()).unwrap()..];
        found.push(header);
    }
    found
}

#[tokio::test]
async fn the_setting_is_one_of_three_words() {
    let server = server().await;
    let made = server.call("PUT", "/streams/s", "").await.is(201).json();
    assert_eq!(made["settings"]["codec"], "none");
    server.call("PUT", "/streams/s", r#"{"codec":"none"}"#).await.is(200);
    server.call("PUT", "/streams/s", r#"{"codec":"zstd"}"#).await.problem(409, "other_settings");
    for wrong in [r#"{"codec":"gzip"}"#, r#"{"codec":"ZSTD"}"#, r#"{"codec":""}"#] {
        for method in ["PUT", "PATCH"] {
            let problem = server.call(method, "/streams/s", wrong).await.problem(400, "invalid_settings");
            let detail = problem["detail"].as_str().unwrap();
            assert!(["none", "lz4", "zstd"].iter().all(|codec| detail.contains(codec)), "{detail}");
        }
    }
    for wrong in [r#"{"codec":null}"#, r#"{"codec":1}"#] {
        server.call("PATCH", "/streams/s", wrong).await.problem(400, "invalid_settings");
    }
    for codec in ["zstd", "lz4", "none"] {
        let settings = json!({ "codec": codec }).to_string();
        let changed = server.call("PATCH", "/streams/s", settings).await.is(200).json();
        assert_eq!(changed["settings"]["codec"], codec);
        server.call("PATCH", "/streams/s", "{}").await.is(200);
        assert_eq!(server.get("/streams/s").await.is(200).json()["settings"]["codec"], codec);
    }
    let document = server.get("/openapi.json").await.is(200).json();
    for schema in ["Settings", "SettingsPatch"] {
        let words = &document["components"]["schemas"][schema]["properties"]["codec"]["enum"];
        assert_eq!(*words, json!(["none", "lz4", "zstd"]), "{schema}");
    }
}

#[tokio::test]
async fn a_change_holds_from_the_next_batch_on() {
    let server = server().await;
    for (n, codec) in ["none", "zstd", "lz4", "none"].into_iter().enumerate() {
        server.call("PUT", "/streams/s", "").await;
        server.call("PATCH", "/streams/s", json!({ "codec": codec }).to_string()).await.is(200);
        append(&server, 10 * n as u64, 10).await;
    }
    let stored = server.get_as(S, BATCHES).await.is(200);
    let codecs: Vec<_> =
        headers(&stored).iter().filter(|it| it.kind == Kind::Messages).map(|it| it.codec).collect();
    assert_eq!(codecs, [Codec::None, Codec::Zstd, Codec::Lz4, Codec::None]);
    assert_eq!(server.get(S).await.is(200).values().len(), 40);
}

#[tokio::test]
async fn every_way_of_reading_shows_what_was_appended() {
    let plain = with_codec("none").await;
    append(&plain, 0, 100).await;
    let expected = plain.get(S).await.is(200).values();
    for codec in CODECS {
        let server = with_codec(codec).await;
        append(&server, 0, 100).await;
        assert_eq!(server.get(S).await.is(200).values(), expected, "{codec}");
        for (query, range) in [
            ("from=13&limit=4", 13..17),
            ("from=7&to=33", 7..33),
            ("from=95", 95..100),
            ("max_bytes=1", 0..1),
            ("from=29&max_bytes=1", 29..30),
            ("from=8&limit=1000&to=12", 8..12),
        ] {
            let answer = server.get(&format!("{S}?{query}")).await.is(200);
            assert_eq!(answer.values(), expected[range.clone()], "{codec}, {query}");
            assert_eq!(answer.offset("next"), range.end as u64);
            let lines = server.get_as(&format!("{S}?{query}"), LINES).await.is(200);
            assert_eq!(lines.body.iter().filter(|byte| **byte == b'\n').count(), range.len(), "{query}");
        }
        let filtered = server.get(&format!("{S}?key=1&from=50&limit=5")).await.is(200);
        let passing: Vec<_> = (50..100).filter(|n| n % 3 == 1).take(5).map(|n| expected[n].clone()).collect();
        assert_eq!(filtered.values(), passing, "{codec}");

        let raw = server.get_as(S, BATCHES).await.is(200);
        let messages: Vec<_> = headers(&raw).into_iter().filter(|it| it.kind == Kind::Messages).collect();
        let code = codec.parse::<Codec>().unwrap();
        assert!(messages.len() == 10 && messages.iter().all(|it| it.codec == code && it.total_bytes == 512));
    }
}

#[tokio::test]
async fn followers_are_sent_messages() {
    for codec in CODECS {
        let server = with_codec(codec).await;
        append(&server, 0, 25).await;
        let mut events = server.follow("from=3", EVENTS, &[]).await;
        let mut passing = server.follow("from=0&key=2", EVENTS, &[]).await;
        let mut lines = server.follow("from=20&follow=true&limit=20", LINES, &[]).await;
        events.greeting().await;
        for offset in 3..25 {
            assert_eq!(events.offset().await, offset, "{codec}");
        }
        events.caught_up(25).await;
        append(&server, 25, 15).await;
        for offset in 25..40 {
            assert_eq!(events.offset().await, offset, "{codec}");
        }
        for offset in 20..40 {
            assert_eq!(lines.line().await.unwrap()["offset"], offset);
        }
        assert_eq!(lines.line().await, None);
        passing.greeting().await;
        for offset in (0..25).filter(|n| n % 3 == 2) {
            assert_eq!(passing.offset().await, offset, "{codec}");
        }
    }
}

/// A document is limited by what it will hold, however short that is where it is stored.
#[tokio::test]
async fn a_document_is_as_long_as_was_asked_for() {
    for codec in CODECS {
        let server = with_codec(codec).await;
        let value = "x".repeat(500_000);
        for _ in 0..30 {
            server.append(value.clone()).await;
        }
        let stored = server.get("/streams/s").await.json()["bytes"].as_u64().unwrap();
        assert!(stored < 150_000, "{stored} bytes are stored of 15 MB");
        for (max_bytes, messages) in [(1, 1), (1_100_000, 2), (4_194_304, 8), (16_777_216, 30)] {
            let answer = server.get(&format!("{S}?max_bytes={max_bytes}")).await.is(200);
            assert_eq!(answer.values().len(), messages, "{codec}, {max_bytes}");
        }
        let mut next = 0;
        while next < 30 {
            let answer = server.get(&format!("{S}?from={next}")).await.is(200);
            assert!(answer.values().iter().all(|found| *found == value));
            assert!(answer.body.len() < 4_400_000 && answer.offset("next") > next);
            next = answer.offset("next");
        }
        // Lines are not kept by whoever reads them.
        let lines = server.get_as(&format!("{S}?max_bytes=1000000"), LINES).await.is(200);
        assert_eq!(lines.body.iter().filter(|byte| **byte == b'\n').count(), 30);
    }
}

/// A filtered read ends when it has looked at much, also where that stands in few stored bytes.
#[tokio::test]
async fn a_filtered_read_counts_what_it_looks_at() {
    let server = with_codec("zstd").await;
    let value = "x".repeat(1 << 20);
    for _ in 0..70 {
        server.append(value.clone()).await;
    }
    let answer = server.get(&format!("{S}?key=none")).await.is(200);
    assert_eq!(answer.values().len(), 0);
    let next = answer.offset("next");
    assert!((60..70).contains(&next), "{next}");
}
