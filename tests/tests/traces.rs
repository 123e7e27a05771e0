//! Traces, as a real OpenTelemetry Collector gets them. Run `tests/install-collector` and `tests/install-azurite` once before.

use std::time::{Duration, Instant};

use vault_tests::azurite::Azurite;
use vault_tests::client::Client;
use vault_tests::collector::{Collector, Span};
use vault_tests::replicas::{Replicas, free_port, on_azurite};
use vault_tests::server::{Setup, temporary_directory};
use vault_tests::wait::{LONG, until};

const CALLER: &str = "b7ad6b7169203331";

fn parent(trace: &str) -> String {
    format!("00-{trace}-{CALLER}-01")
}

fn post(client: &Client, trace: &str, body: &str) {
    let headers = [("content-type", "text/plain"), ("traceparent", &*parent(trace))];
    let answer = client.send("POST", "/streams/orders/messages", &headers, Some(body.as_bytes()));
    answer.expect("an answer").expect(200);
}

/// The one span with this name and parent.
fn child<'s>(spans: &'s [Span], parent: &str, name: &str) -> &'s Span {
    let found: Vec<_> = spans.iter().filter(|span| span.parent == parent && span.name == name).collect();
    assert_eq!(found.len(), 1, "`{name}` under {parent} in {spans:#?}");
    found[0]
}

#[test]
fn an_append_is_traced_from_its_caller_through_forwarding_to_the_call_of_storage() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const NAME: &str = "POST /streams/{stream}/messages";
    let (azurite, collector) = (Azurite::shared(), Collector::start());
    let setup = |_| collector.asked(on_azurite(&azurite, "traced-", free_port()));
    let replicas = Replicas::start([0, 1].map(setup));
    let (_, follower) = replicas.settled();
    let client = replicas.client(follower);
    client.append_text("orders", "the first makes the segment");
    post(&client, TRACE, "hello");

    let whole = |spans: &[Span]| {
        let has = |name: &str, count| spans.iter().filter(|span| span.name == name).count() >= count;
        has(NAME, 2) && has("put_pages", 1) && has("forward", 1) && has("commit", 1)
    };
    let spans = collector.trace(TRACE, whole);
    let at_follower = child(&spans, CALLER, NAME);
    let forward = child(&spans, &at_follower.id, "forward");
    let at_leader = child(&spans, &forward.id, NAME);
    let commit = child(&spans, &at_leader.id, "commit");
    let put = child(&spans, &commit.id, "put_pages");
    assert_eq!(
        [at_follower, forward, at_leader, commit, put].map(|span| span.kind),
        ["server", "client", "server", "internal", "client"]
    );
    assert!(spans.iter().all(|span| span.service == "message-vault" && !span.failed), "{spans:#?}");
    assert_eq!(at_leader.attribute("http.response.status_code").as_deref(), Some("200"));
    assert_eq!(at_leader.attribute("url.path").as_deref(), Some("/streams/orders/messages"));
    assert_eq!(commit.attribute("messagevault.requests").as_deref(), Some("1"));
    // What is kept with the message is what its producer sent, wherever it came in.
    let read = client.get("/streams/orders/messages?from=1").expect(200).json();
    assert_eq!(read["messages"][0]["headers"]["traceparent"], parent(TRACE));
}

#[test]
fn requests_that_share_a_put_are_linked_and_a_replay_has_its_reads() {
    let (directory, collector) = (temporary_directory(), Collector::start());
    let mut server = collector.asked(Setup::in_directory(directory.path())).start();
    let client = server.client();
    client.append_text("orders", &"x".repeat(200_000));
    let trace = |n: usize| format!("{n:032x}");
    let ids: Vec<usize> = (1..=24).collect();
    std::thread::scope(|scope| {
        for n in &ids {
            let client = server.client();
            scope.spawn(move || post(&client, &trace(*n), "hello"));
        }
    });
    let headers = [("accept", "application/json"), ("traceparent", &*parent(&trace(99)))];
    client.send("GET", "/streams/orders/messages?to=1", &headers, None).expect("an answer").expect(200);
    assert!(server.stop(LONG).success());

    // The server has sent everything; the collector writes it down soon.
    let replayed = collector.trace(&trace(99), |spans| !spans.is_empty());
    let replay = child(&replayed, CALLER, "GET /streams/{stream}/messages");
    assert_eq!(replay.attribute("http.response.status_code").as_deref(), Some("200"));
    let commits = until("each request is named by the put that it was in", LONG, || {
        let mut spans = collector.spans();
        spans.retain(|span| span.name == "commit" && span.trace.starts_with("000"));
        let named: usize = spans.iter().map(|commit| 1 + commit.links.len()).sum();
        (named == ids.len()).then_some(spans)
    });
    for commit in &commits {
        let requests = commit.attribute("messagevault.requests").expect("it says how many");
        assert_eq!(requests, (1 + commit.links.len()).to_string());
    }
}

#[test]
fn a_cold_replay_has_its_calls_of_storage_and_what_is_not_sampled_is_not_sent() {
    let (directory, collector) = (temporary_directory(), Collector::start());
    let mut server = collector.asked(Setup::in_directory(directory.path())).start();
    let client = server.client();
    for _ in 0..8 {
        client.append_text("orders", &"x".repeat(900_000));
    }
    assert!(server.stop(LONG).success());
    server.restart();
    let client = server.client();
    let (sampled, not) = ("0".repeat(30) + "07", "0".repeat(30) + "08");
    for parent in [parent(&sampled), parent(&not).replace("-01", "-00")] {
        let headers = [("accept", "application/vnd.messagevault.batches"), ("traceparent", &*parent)];
        let path = "/streams/orders/messages?limit=8&max_bytes=100000000";
        client.send("GET", path, &headers, None).expect("an answer").expect(200);
    }
    assert!(server.stop(LONG).success());
    let has = |spans: &[Span], name: &str| spans.iter().any(|span| span.name == name);
    let whole = |spans: &[Span]| has(spans, "GET /streams/{stream}/messages") && has(spans, "read");
    let replay = collector.trace(&sampled, whole);
    let answer = child(&replay, CALLER, "GET /streams/{stream}/messages");
    assert!(replay.iter().any(|span| span.name == "read" && span.parent == answer.id), "{replay:#?}");
    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.trace != not), "{spans:#?}");
    assert!(spans.iter().all(|span| !span.name.contains("livez") && !span.name.contains("readyz")));
}

#[test]
fn a_collector_that_is_away_holds_up_nobody() {
    let directory = temporary_directory();
    let gone = format!("http://127.0.0.1:{}", free_port());
    let setup = Setup::in_directory(directory.path()).environment("OTEL_EXPORTER_OTLP_ENDPOINT", &gone);
    let mut server = setup.environment("OTEL_BSP_SCHEDULE_DELAY", "50").start();
    let client = server.client();
    let begun = Instant::now();
    for _ in 0..200 {
        client.append_text("orders", "hello");
    }
    assert!(begun.elapsed() < LONG / 2);
    assert!(server.stop(Duration::from_secs(15)).success(), "{}", server.log());
}

#[test]
fn what_the_environment_asks_for_and_cannot_be_done_ends_the_start() {
    let directory = temporary_directory();
    let setup = Setup::in_directory(directory.path())
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
        .environment("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let (code, log) = setup.run_to_end(LONG);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("OTEL_EXPORTER_OTLP_PROTOCOL is `grpc`"), "{log}");
}
