//! Answers that go on at the tail.

#![expect(clippy::disallowed_methods, reason = "tests wait in real time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt;

use super::{JSON, LINES, Server, server};

pub(super) const S: &str = "/streams/s/messages";
pub(super) const EVENTS: &str = "text/event-stream";
/// Longer than it takes until a ping is due.
const SOON: Duration = Duration::from_secs(60);

/// An answer that is read while it comes.
pub(super) struct Coming {
    body: Body,
    text: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) id: Option<u64>,
    pub(super) data: Value,
}

impl Server {
    pub(super) async fn follow(&self, query: &str, accept: &str, headers: &[(&str, &str)]) -> Coming {
        let mut request = Request::builder().uri(format!("{S}?{query}")).header("accept", accept);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], accept);
        assert_eq!(response.headers()["cache-control"], "no-store");
        Coming { body: response.into_body(), text: String::new() }
    }
}

impl Coming {
    /// An answer that has come.
    pub(super) fn of(body: Bytes) -> Self {
        Self { body: body.into(), text: String::new() }
    }

    /// What comes up to the next mark, and `None` at an orderly end.
    pub(super) async fn until(&mut self, mark: &str) -> Option<String> {
        loop {
            if let Some(at) = self.text.find(mark) {
                let rest = self.text.split_off(at + mark.len());
                let mut found = std::mem::replace(&mut self.text, rest);
                found.truncate(at);
                return Some(found);
            }
            let frame = timeout(SOON, self.body.frame()).await.expect("something comes");
            let Some(frame) = frame else {
                assert_eq!(self.text, "", "it ends with a whole message");
                return None;
            };
            self.text += std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap();
        }
    }

    /// Why the body breaks off instead of going on.
    pub(super) async fn breaks_off(&mut self) -> String {
        let frame = timeout(SOON, self.body.frame()).await.expect("something comes");
        frame.expect("it does not end in order").unwrap_err().to_string()
    }

    pub(super) async fn line(&mut self) -> Option<Value> {
        Some(serde_json::from_str(&self.until("\n").await?).unwrap())
    }

    pub(super) async fn event(&mut self) -> Option<Event> {
        let text = self.until("\n\n").await?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        Some(Event {
            name: field("event: ").unwrap_or_default().to_owned(),
            id: field("id: ").map(|id| id.parse().unwrap()),
            data: serde_json::from_str(field("data: ").unwrap_or("null")).unwrap(),
        })
    }

    /// The offset of the next event, which must be a message.
    pub(super) async fn offset(&mut self) -> u64 {
        let event = self.event().await.unwrap();
        let offset = event.data["offset"].as_u64().unwrap_or_else(|| panic!("{event:?}"));
        assert_eq!((event.name.as_str(), event.id), ("", Some(offset + 1)));
        offset
    }

    pub(super) async fn greeting(&mut self) {
        assert_eq!(self.until("\n\n").await.unwrap(), "retry: 1000");
    }

    pub(super) async fn caught_up(&mut self, at: u64) {
        let wanted = Event { name: "caught-up".to_owned(), id: Some(at), data: json!({"next_offset": at}) };
        assert_eq!(self.event().await.unwrap(), wanted);
    }

    pub(super) async fn nothing(&mut self) {
        let found = timeout(Duration::from_millis(200), self.body.frame()).await;
        assert!(found.is_err(), "{found:?}");
    }
}

async fn numbered(count: u64) -> Server {
    let server = server().await;
    for n in 0..count {
        server.append(n.to_string()).await;
    }
    server
}

#[tokio::test]
async fn lines_go_on_at_the_tail() {
    let server = numbered(3).await;
    let mut all = server.follow("from=1&follow=true", LINES, &[]).await;
    let mut two = server.follow("from=2&follow=true&limit=2", LINES, &[]).await;
    let mut to = server.follow("from=latest&follow=true&to=5", LINES, &[]).await;
    for n in 3..6 {
        server.append(n.to_string()).await;
    }
    for n in 1..6 {
        assert_eq!(all.line().await.unwrap()["value"], n.to_string());
    }
    all.nothing().await;
    for (mut bounded, offsets) in [(two.take(), 2..4), (to.take(), 3..5)] {
        for n in offsets {
            assert_eq!(bounded.line().await.unwrap()["offset"], n);
        }
        assert!(bounded.line().await.is_none());
    }
}

impl Coming {
    fn take(&mut self) -> Self {
        Self { body: std::mem::take(&mut self.body), text: std::mem::take(&mut self.text) }
    }
}

#[tokio::test]
async fn an_event_stream_replays_says_so_once_and_goes_on() {
    let server = numbered(2).await;
    let mut events = server.follow("", EVENTS, &[]).await;
    events.greeting().await;
    assert_eq!((events.offset().await, events.offset().await), (0, 1));
    events.caught_up(2).await;
    for n in 2..50 {
        server.append(n.to_string()).await;
    }
    for n in 2..50 {
        assert_eq!(events.offset().await, n);
    }
    events.nothing().await;
}

#[tokio::test]
async fn an_empty_stream_is_followed_from_its_first_message() {
    let server = server().await;
    server.call("PUT", "/streams/s", "").await.is(201);
    let mut events = server.follow("", EVENTS, &[]).await;
    events.greeting().await;
    events.caught_up(0).await;
    let mut lines = server.follow("follow=true", LINES, &[]).await;
    lines.nothing().await;
    server.append("first").await;
    assert_eq!(events.offset().await, 0);
    assert_eq!(lines.line().await.unwrap()["value"], "first");
}

#[tokio::test]
async fn an_event_stream_goes_on_behind_the_last_event() {
    let server = numbered(5).await;
    for (query, id, first) in [("", "3", 3), ("from=0", "4", 4), ("since=0", "2", 2), ("from=latest", "0", 0)]
    {
        let mut events = server.follow(query, EVENTS, &[("last-event-id", id)]).await;
        events.greeting().await;
        assert_eq!(events.offset().await, first, "{query} {id}");
    }
    for (id, status, code) in [
        ("x", 400, "invalid_parameter"),
        ("-1", 400, "invalid_parameter"),
        ("", 400, "invalid_parameter"),
        ("6", 416, "beyond_tail"),
    ] {
        let request = Request::builder().uri(S).header("accept", EVENTS).header("last-event-id", id);
        server.send(request.body(Body::empty()).unwrap()).await.problem(status, code);
    }
    // Nobody else looks at it.
    let request = Request::builder().uri(S).header("accept", JSON).header("last-event-id", "x");
    server.send(request.body(Body::empty()).unwrap()).await.is(200);
    for query in ["follow=false", "wait=1", "max_bytes=5", "limit=5", "nonsense=1"] {
        server.get_as(&format!("{S}?{query}"), EVENTS).await.problem(400, "invalid_parameter");
    }
}

#[tokio::test]
async fn filters_hold_at_the_tail_too() {
    let server = server().await;
    let append = async |key: &str| {
        let message = json!({"messages": [{"key": key, "value": "v"}]});
        server.post(S, JSON, message.to_string()).await.is(200);
    };
    for key in ["a", "b", "a"] {
        append(key).await;
    }
    let mut events = server.follow("key=a", EVENTS, &[]).await;
    let mut two = server.follow("key=b&follow=true&limit=2", LINES, &[]).await;
    events.greeting().await;
    assert_eq!((events.offset().await, events.offset().await), (0, 2));
    events.caught_up(3).await;
    for key in ["b", "a", "b"] {
        append(key).await;
    }
    assert_eq!(events.offset().await, 4);
    assert_eq!(
        (&two.line().await.unwrap()["offset"], &two.line().await.unwrap()["offset"]),
        (&json!(1), &json!(3))
    );
    assert!(two.line().await.is_none(), "the limit counts what passes");
}

#[tokio::test]
async fn whoever_follows_is_told_how_it_ends() {
    let server = numbered(1).await;
    let mut events = server.follow("from=1", EVENTS, &[]).await;
    let mut filtered = server.follow("from=1&key=x", EVENTS, &[]).await;
    let mut lines = server.follow("from=1&follow=true", LINES, &[]).await;
    for events in [&mut events, &mut filtered] {
        events.greeting().await;
        events.caught_up(1).await;
    }
    lines.nothing().await;
    server.call("DELETE", "/streams/s", "").await.is(204);
    for events in [&mut events, &mut filtered] {
        let last = events.event().await.unwrap();
        assert_eq!(
            (last.name.as_str(), last.id, &last.data["code"]),
            ("error", None, &json!("stream_not_found"))
        );
        assert!(events.event().await.is_none());
    }
    assert!(lines.line().await.is_none());
}

#[tokio::test]
async fn whoever_follows_is_let_go_when_the_server_ends() {
    let server = numbered(1).await;
    let mut events = server.follow("from=latest", EVENTS, &[]).await;
    let mut lines = server.follow("from=latest&follow=true", LINES, &[]).await;
    events.greeting().await;
    events.caught_up(1).await;
    lines.nothing().await;
    server.app.stopping.cancel();
    assert!(events.event().await.is_none() && lines.line().await.is_none());
}

/// More is appended than is kept for those who follow, while one of them takes nothing.
#[tokio::test]
async fn who_lags_behind_what_is_kept_misses_nothing() {
    let server = numbered(1).await;
    let mut slow = server.follow("from=0", EVENTS, &[]).await;
    let mut quick = server.follow("from=latest", EVENTS, &[]).await;
    slow.greeting().await;
    assert_eq!(slow.offset().await, 0);
    slow.caught_up(1).await;
    quick.greeting().await;
    quick.caught_up(1).await;
    let body = json!({"messages": [{"value": "x".repeat(500_000)}, {"value": "y"}]}).to_string();
    for n in 0..30 {
        server.post(S, JSON, body.clone()).await.is(200);
        assert_eq!((quick.offset().await, quick.offset().await), (2 * n + 1, 2 * n + 2));
    }
    for n in 1..61 {
        assert_eq!(slow.offset().await, n);
    }
    server.append("z").await;
    assert_eq!((slow.offset().await, quick.offset().await), (61, 61));
}

/// Many join at any time, in the middle of pieces too, while messages come.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_joins_at_any_time_gets_every_message_once() {
    const FOLLOWERS: usize = 100;
    let server = Arc::new(numbered(1).await);
    let joined = Arc::new(AtomicUsize::new(0));
    let producer = tokio::spawn({
        let (server, joined) = (Arc::clone(&server), Arc::clone(&joined));
        async move {
            let mut next = 1;
            while joined.load(Ordering::SeqCst) < FOLLOWERS {
                assert_eq!(server.append(next.to_string()).await, next);
                next += 1;
            }
            server.append("last").await;
        }
    });
    let mut followers = Vec::new();
    for number in 0..FOLLOWERS {
        let (server, joined) = (Arc::clone(&server), Arc::clone(&joined));
        let accept = if number % 2 == 0 { EVENTS } else { LINES };
        followers.push(tokio::spawn(async move {
            let from = if number % 3 == 0 { "from=latest" } else { "from=earliest" };
            let follow = if accept == EVENTS { "" } else { "&follow=true" };
            let mut coming = server.follow(&format!("{from}{follow}"), accept, &[]).await;
            joined.fetch_add(1, Ordering::SeqCst);
            let mut expected = None;
            loop {
                let message = match accept {
                    EVENTS => coming.event().await.unwrap().data,
                    _ => coming.line().await.unwrap(),
                };
                // Greetings and the like are no messages.
                let Some(offset) = message["offset"].as_u64() else { continue };
                assert_eq!(offset, expected.unwrap_or(offset));
                expected = Some(offset + 1);
                if message["value"] == "last" {
                    return;
                }
                assert_eq!(message["value"], offset.to_string());
            }
        }));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    producer.await.unwrap();
    for follower in followers {
        timeout(SOON, follower).await.unwrap().unwrap();
    }
}
