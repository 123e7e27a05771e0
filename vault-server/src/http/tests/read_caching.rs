//! Answers that never change, and those that do.

use axum::body::Body;
use axum::http::Request;

use super::{Answer, JSON, LINES, Server, TEXT, server};
use crate::http::read::parameters::BATCHES;
use crate::storage::operation::Operation;

const S: &str = "/streams/s/messages";
const FOREVER: &str = "private, max-age=31536000, immutable";

async fn ask(server: &Server, method: &str, query: &str, accept: &str, known: &str) -> Answer {
    let request = Request::builder().method(method).uri(format!("{S}?{query}")).header("accept", accept);
    server.send(request.header("if-none-match", known).body(Body::empty()).unwrap()).await
}

fn tag(answer: &Answer) -> &str {
    answer.headers["etag"].to_str().unwrap()
}

async fn numbered(count: u64) -> Server {
    let server = server().await;
    for n in 0..count {
        server.append(n.to_string()).await;
    }
    server
}

#[tokio::test]
async fn a_closed_range_is_the_same_bytes_and_known_by_its_tag() {
    let server = numbered(6).await;
    let queries = [
        "from=0&to=6",
        "from=2&to=4",
        "from=1&to=5&limit=2",
        "from=1&to=5&max_bytes=1",
        "from=3&to=3",
        "from=0&to=6&header.a=b",
        "from=4&to=2",
        "from=0&clamp=true&to=2",
    ];
    let mut first = Vec::new();
    for query in queries {
        for accept in [JSON, LINES, BATCHES] {
            if accept == BATCHES && query.contains("header") {
                continue;
            }
            let answer = ask(&server, "GET", query, accept, "\"other\"").await.is(200);
            assert_eq!(answer.headers["cache-control"], FOREVER, "{query} {accept}");
            assert_eq!(answer.headers["vary"], "accept");
            assert!(!answer.headers.contains_key("message-vault-end-offset"), "{query}");
            first.push((query, accept, answer));
        }
    }
    let mut tags: Vec<_> = first.iter().map(|(_, _, answer)| tag(answer).to_owned()).collect();
    tags.sort();
    tags.dedup();
    // What clamps and what does not is the same range.
    assert_eq!(tags.len(), first.len(), "every answer has a tag of its own");

    for n in 6..9 {
        server.append(n.to_string()).await;
    }
    for (query, accept, before) in &first {
        let now = ask(&server, "GET", query, accept, "\"other\"").await.is(200);
        assert_eq!((&now.headers, &now.body), (&before.headers, &before.body), "{query} {accept}");
        let head = ask(&server, "HEAD", query, accept, "\"other\"").await.is(200);
        assert!(head.body.is_empty() && tag(&head) == tag(before));
        for known in [tag(before).to_owned(), "*".to_owned(), format!("\"x\" , W/{}", tag(before))] {
            let unchanged = ask(&server, "GET", query, accept, &known).await.is(304);
            assert!(unchanged.body.is_empty() && tag(&unchanged) == tag(before), "{query} {known}");
            assert_eq!(unchanged.headers["cache-control"], FOREVER);
        }
    }
}

#[tokio::test]
async fn whoever_has_it_is_told_so_without_a_look_at_the_blocks() {
    let server = numbered(3).await;
    let known = tag(&ask(&server, "GET", "from=0&to=3", JSON, "").await.is(200)).to_owned();
    let before = server.app.storage.snapshot();
    ask(&server, "GET", "from=0&to=3", JSON, &known).await.is(304);
    assert_eq!(server.app.storage.snapshot().since(&before).get(Operation::Read), 0);
}

#[tokio::test]
async fn what_may_change_is_not_kept() {
    let server = numbered(3).await;
    for query in
        ["", "from=0", "from=0&to=4", "from=latest&to=3", "from=earliest&to=3", "since=0&to=3", "from=3"]
    {
        let answer = ask(&server, "GET", query, JSON, "*").await.is(200);
        assert_eq!(answer.headers["cache-control"], "no-store", "{query}");
        assert!(!answer.headers.contains_key("etag"), "{query}");
    }
    // Another stream of the same name is another stream.
    let before = tag(&ask(&server, "GET", "from=0&to=1", JSON, "").await.is(200)).to_owned();
    server.call("DELETE", "/streams/s", "").await.is(204);
    server.append("new").await;
    let after = ask(&server, "GET", "from=0&to=1", JSON, &before).await.is(200);
    assert_ne!(tag(&after), before);
}

/// Where an answer ends by its bytes must not depend on how far into its block the tail is, nor on whether what is read
/// is still in memory.
#[tokio::test]
async fn a_range_that_is_cut_by_bytes_is_cut_at_the_same_place_later() {
    let server = server().await;
    server.call("PUT", "/streams/s", r#"{"segment_bytes":8388608}"#).await.is(201);
    let mut next = 0;
    let mut seen: Vec<(String, &str, Answer)> = Vec::new();
    for round in 0..9_u32 {
        let line = format!("\"{}\"\n", "x".repeat(1_000));
        let body = line.repeat(1_500 + 10 * round as usize);
        let answer = server.post(S, LINES, body).await.is(200);
        next = answer.json()["next_offset"].as_u64().unwrap();
        server.post(S, TEXT, "y".repeat(900_000)).await.is(200);
        next += 1;
        for (query, accept, before) in &seen {
            let now = ask(&server, "GET", query, accept, "").await.is(200);
            assert!(now.headers == before.headers && now.body == before.body, "{query} {accept} {round}");
        }
        for max_bytes in [1_000_000, 4_194_304, 6_000_000, 9_000_000, 16_000_000] {
            for accept in [JSON, LINES, BATCHES] {
                let from = if max_bytes == 9_000_000 { next / 3 } else { 10 };
                let query = format!("from={from}&to={}&limit=100000&max_bytes={max_bytes}", next - 3);
                let answer = ask(&server, "GET", &query, accept, "").await.is(200);
                assert!(answer.headers.contains_key("etag"), "{query}");
                // Bodies of many megabytes, compared again and again: a few of them will do.
                if seen.len() < 60 {
                    seen.push((query, accept, answer));
                }
            }
        }
    }
    assert!(next > 10_000);
}
