//! `/metrics`: that it counts what happened, asks nobody, and stays quick with as many streams as there may be.

use axum::http::Method;

use super::{LINES, Server, TEXT, server};
use crate::http::internal_router;
use crate::limits::MAX_STREAMS;
use crate::log::settings::SettingsPatch;

async fn scrape(server: &Server) -> String {
    let answer = server.get("/metrics").await.is(200);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// The value of one series, written as the text has it.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

#[track_caller]
fn expect(text: &str, series: &str, wanted: f64) {
    assert_eq!(value(text, series), Some(wanted), "{series} in\n{text}");
}

#[tokio::test]
async fn what_is_stored_is_counted_for_the_server_and_for_its_stream() {
    let server = server().await;
    server.append("one").await;
    server.post("/streams/s/messages", LINES, "1\n2\n3\n").await.is(200);
    server.post("/streams/other/messages", TEXT, "x").await.is(200);
    let text = scrape(&server).await;
    expect(&text, "messagevault_appends_total", 3.0);
    expect(&text, "messagevault_appended_messages_total", 5.0);
    expect(&text, "messagevault_batch_requests_count", 3.0);
    expect(&text, "messagevault_batch_messages_sum", 5.0);
    expect(&text, "messagevault_stream_appended_messages_total{stream=\"s\"}", 4.0);
    expect(&text, "messagevault_stream_appended_messages_total{stream=\"other\"}", 1.0);
    expect(&text, "messagevault_stream_next_offset{stream=\"s\"}", 4.0);
    expect(&text, "messagevault_stream_first_offset{stream=\"s\"}", 0.0);
    expect(&text, "messagevault_stream_condition{stream=\"s\",condition=\"open\"}", 1.0);
    expect(&text, "messagevault_commit_duration_seconds_count{backend=\"memory\"}", 3.0);
    expect(&text, "messagevault_leading", 1.0);
    expect(&text, "messagevault_terms_total", 1.0);
    assert!(value(&text, "messagevault_term").unwrap() > 1e9);
    assert!(value(&text, "messagevault_lease_age_seconds").unwrap() < 60.0);
    // Two puts of `s`: snapshot and one batch of a page each, then one page more.
    expect(&text, "messagevault_stream_appended_bytes_total{stream=\"s\"}", 1536.0);
    expect(&text, "messagevault_stream_stored_bytes{stream=\"s\"}", 1536.0);
    expect(&text, "messagevault_appended_bytes_total", 1536.0 + 1024.0);

    server.call("DELETE", "/streams/s", "").await.is(204);
    let text = scrape(&server).await;
    assert!(!text.contains("stream=\"s\""), "{text}");
    assert!(text.contains("stream=\"other\""));
    expect(&text, "messagevault_appends_total", 3.0);
}

#[tokio::test]
async fn refused_appends_count_by_code_and_requests_by_route() {
    let server = server().await;
    server.append("x").await;
    for _ in 0..2 {
        server.post("/streams/s/messages?expected_offset=9", TEXT, "x").await.problem(412, "offset_mismatch");
    }
    server.get("/streams/missing").await.is(404);
    server.get("/no/such/route").await.is(404);
    let request = |method: Method, uri: &str| {
        axum::http::Request::builder().method(method).uri(uri).body(axum::body::Body::empty()).unwrap()
    };
    server.send(request(Method::TRACE, "/streams")).await.is(405);
    let text = scrape(&server).await;
    expect(&text, "messagevault_appends_refused_total{code=\"offset_mismatch\"}", 2.0);
    expect(&text, "messagevault_appends_refused_total{code=\"queue_full\"}", 0.0);
    expect(&text, "messagevault_appends_refused_total{code=\"stream_not_found\"}", 0.0);
    let requests = |labels: &str| format!("messagevault_http_requests_total{{{labels}}}");
    let messages = "route=\"/streams/{stream}/messages\",method=\"POST\"";
    expect(&text, &requests(&format!("{messages},status=\"2xx\"")), 1.0);
    expect(&text, &requests(&format!("{messages},status=\"4xx\"")), 2.0);
    expect(&text, &requests("route=\"/streams/{stream}\",method=\"GET\",status=\"4xx\""), 1.0);
    expect(&text, &requests("route=\"none\",method=\"GET\",status=\"4xx\""), 1.0);
    expect(&text, &requests("route=\"/streams\",method=\"other\",status=\"4xx\""), 1.0);
    expect(&text, &format!("messagevault_http_request_duration_seconds_count{{{messages}}}"), 3.0);
}

#[tokio::test]
async fn reads_count_while_they_go_on_and_by_where_they_find_the_log() {
    let server = server().await;
    server.append("x").await;
    server.get("/streams/s/messages").await.is(200);
    let text = scrape(&server).await;
    expect(&text, "messagevault_read_lookups_total{found=\"recent\"}", 1.0);
    expect(&text, "messagevault_readers", 0.0);
    let request = axum::http::Request::get("/streams/s/messages?follow=true")
        .header("accept", LINES)
        .body(axum::body::Body::empty())
        .unwrap();
    let response = tower::ServiceExt::oneshot(server.router.clone(), request).await.unwrap();
    expect(&scrape(&server).await, "messagevault_readers", 1.0);
    drop(response);
    expect(&scrape(&server).await, "messagevault_readers", 0.0);
}

#[tokio::test]
async fn it_stands_on_the_internal_listener_too() {
    let server = server().await;
    let request = axum::http::Request::get("/metrics").body(axum::body::Body::empty()).unwrap();
    let internal = internal_router(server.app.clone());
    assert_eq!(tower::ServiceExt::oneshot(internal, request).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_thousand_streams_are_shown_at_once_and_storage_is_not_asked() {
    let server = server().await;
    for index in 0..MAX_STREAMS {
        let name = server.app.vault.name(&format!("stream-with-a-rather-long-name-{index:04}")).unwrap();
        let (_, stream) = server.app.vault.create(&name, SettingsPatch::default()).await.unwrap();
        stream.until_opened().await;
    }
    let before = server.app.storage.snapshot();
    let clock = &server.app.env.clock;
    let begun = clock.monotonic();
    let text = scrape(&server).await;
    let took = clock.monotonic() - begun;
    let asked = server.app.storage.snapshot().since(&before);
    // The leader goes on to show that it lives.
    let beats = crate::storage::operation::Operation::PutPages;
    assert_eq!(asked.total(), asked.get(beats), "{asked:?}");
    assert_eq!(text.matches("messagevault_stream_next_offset{").count(), MAX_STREAMS);
    assert!(text.len() < 1 << 20, "{} bytes", text.len());
    assert!(took.as_millis() < 500, "{took:?}");
}
