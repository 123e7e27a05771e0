//! How answers end that go on at the tail: the caller may not any more, nothing is left, the stream breaks.

#![expect(clippy::disallowed_methods, reason = "tests wait by the runtime's clock")]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::Request;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use vault_format::ids::{Offset, Position};

use super::read_following::{Coming, EVENTS, Event, S};
use super::{LINES, Server, TEXT, on_runtime_clock, server};
use crate::access::Access;
use crate::limits::{LOOK_AT_FILES_EVERY, PING_EVERY};
use crate::log::error::StreamFault;

const CAME: &str = "the token of somebody who may";

/// An access file that grants somebody who has the token this, and an administrator everything.
fn granting(grants: &str) -> String {
    let sha256 = |token: &str| {
        let digest = Sha256::digest(token);
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let somebody = format!("- name: somebody\n  sha256: {}\n  grants: [{grants}]\n", sha256(CAME));
    let admin = format!("- name: admin\n  sha256: {}\n  grants: [\"all:admin\"]\n", sha256("admin"));
    format!("tokens:\n{admin}{}", if grants.is_empty() { "" } else { &somebody })
}

/// The first event that is neither a message nor a sign of life.
async fn last(events: &mut Coming) -> Event {
    loop {
        let event = events.event().await.expect("it ends with an error");
        if event.name == "error" {
            return event;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_no_longer_read_is_told_and_followed_no_further() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.yaml");
    for (taken, code) in [("", "unauthenticated"), ("\"other:admin\"", "forbidden")] {
        std::fs::write(&path, granting("\"s:read\"")).unwrap();
        let server = on_runtime_clock(|env| Access::from_files(vec![path.clone()], env).unwrap()).await;
        let access = Arc::clone(&server.app.settings.access);
        tokio::spawn(async move { access.run(&CancellationToken::new()).await });
        let append = async |text: &'static str| {
            server
                .post_with(&[("content-type", TEXT), ("authorization", "Bearer admin")], text)
                .await
                .is(200);
        };
        append("first").await;
        let bearer = format!("Bearer {CAME}");
        let headers = [("authorization", bearer.as_str())];
        let mut events = server.follow("", EVENTS, &headers).await;
        let mut filtered = server.follow("header.a=b", EVENTS, &headers).await;
        let mut lines = server.follow("follow=true", LINES, &headers).await;
        let mut stays = server.follow("follow=true", LINES, &[("authorization", "Bearer admin")]).await;
        events.greeting().await;
        assert_eq!(events.offset().await, 0);
        assert_eq!(lines.line().await.unwrap()["value"], "first");
        // Whoever still may goes on, however often that is asked.
        sleep(PING_EVERY * 4).await;
        append("second").await;
        assert_eq!(lines.line().await.unwrap()["value"], "second");

        std::fs::write(&path, granting(taken)).unwrap();
        let revoked = Instant::now();
        let (one, two, end) = tokio::join!(last(&mut events), last(&mut filtered), lines.line());
        for (mut events, error) in [(events, one), (filtered, two)] {
            assert_eq!((error.id, &error.data["code"]), (None, &json!(code)));
            assert!(events.event().await.is_none());
        }
        assert!(end.is_none(), "lines end between two messages");
        assert!(revoked.elapsed() <= 3 * LOOK_AT_FILES_EVERY + PING_EVERY, "{:?}", revoked.elapsed());
        append("third").await;
        for text in ["first", "second", "third"] {
            assert_eq!(stays.line().await.unwrap()["value"], text);
        }
    }
}

#[tokio::test]
async fn an_event_stream_with_nothing_left_tells_its_client_not_to_come_again() {
    let server = server().await;
    for key in ["a", "b", "a", "b"] {
        let message = json!({"messages": [{"key": key, "value": "v"}]}).to_string();
        server.post(S, super::JSON, message).await.is(200);
    }
    // Each comes again with the last id that it saw, as an EventSource does, until it is told not to.
    for (query, wanted) in [("to=3", vec![0, 1, 2]), ("to=4&key=a", vec![0, 2]), ("to=4&key=none", vec![])] {
        let (mut id, mut came, mut times) = (None::<u64>, Vec::new(), 0);
        loop {
            let text = id.map(|id| id.to_string());
            let headers: Vec<_> = text.iter().map(|id| ("last-event-id", id.as_str())).collect();
            let mut request = Request::builder().uri(format!("{S}?{query}")).header("accept", EVENTS);
            for (name, value) in &headers {
                request = request.header(*name, *value);
            }
            let answer = server.send(request.body("".into()).unwrap()).await;
            if answer.status == 204 {
                assert!(answer.body.is_empty() && !answer.headers.contains_key("content-type"));
                assert_eq!(answer.headers["cache-control"], "no-store");
                break;
            }
            let mut events = Coming::of(answer.is(200).body);
            while let Some(event) = events.event().await {
                came.extend(event.data["offset"].as_u64());
                id = event.id.or(id);
            }
            times += 1;
            assert!(times < 3, "{query} {id:?}");
        }
        assert_eq!((came, times), (wanted, 1), "{query}");
    }
    for query in ["to=0", "from=4&to=4", "from=3&to=2", "from=latest&to=1"] {
        let answer = server.get_as(&format!("{S}?{query}"), EVENTS).await;
        assert_eq!(answer.status, 204, "{query}");
    }
    // Lines have nobody who comes again by himself.
    assert!(server.get_as(&format!("{S}?follow=true&to=0"), LINES).await.is(200).body.is_empty());
    let refused = server.get_as(&format!("{S}?limit=1"), EVENTS).await.problem(400, "invalid_parameter");
    assert!(refused["detail"].as_str().unwrap().contains("`limit`"));
}

/// What the log says while this lives.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Said {
    fn count(&self, text: &str) -> usize {
        self.text().matches(text).count()
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Server {
    fn spoil(&self) {
        let fault = StreamFault::Corrupt {
            segment: Offset(0),
            position: Position(512),
            detail: "a test says so".to_owned(),
        };
        let stream = self.app.vault.stream(&self.app.vault.name("s").unwrap()).unwrap();
        stream.record(fault);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_told_once_and_not_for_everybody() {
    let said = Said::default();
    let writer = said.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(log);
    let server = on_runtime_clock(Access::for_everybody).await;
    server.append("first").await;
    let mut followers = Vec::new();
    for _ in 0..5 {
        let mut events = server.follow("from=latest", EVENTS, &[]).await;
        events.greeting().await;
        events.caught_up(1).await;
        followers.push(events);
    }
    server.spoil();
    for events in &mut followers {
        assert_eq!(last(events).await.data["code"], "corrupt");
    }
    assert_eq!((said.count("ERROR"), said.count("WARN")), (1, 1), "{}", said.text());
}

/// Lines have no signs of life with which the end could come.
#[tokio::test(start_paused = true)]
async fn who_follows_in_lines_is_told_as_soon_as_the_stream_breaks() {
    let server = on_runtime_clock(Access::for_everybody).await;
    server.append("first").await;
    let mut lines = server.follow("follow=true", LINES, &[]).await;
    assert_eq!(lines.line().await.unwrap()["value"], "first");
    let breaking = async {
        // By then it waits at the tip.
        sleep(Duration::from_secs(1)).await;
        server.spoil();
    };
    let (why, ()) = tokio::join!(lines.breaks_off(), breaking);
    assert!(why.contains("a test says so"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_again_where_nobody_is_asked() {
    let server = on_runtime_clock(Access::for_everybody).await;
    server.append("first").await;
    let mut lines = server.follow("follow=true", LINES, &[]).await;
    assert_eq!(lines.line().await.unwrap()["value"], "first");
    sleep(Duration::from_secs(3_600)).await;
    server.append("second").await;
    assert_eq!(lines.line().await.unwrap()["value"], "second");
}
