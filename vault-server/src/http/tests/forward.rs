//! Two servers on loopback sockets that share one storage.

#![expect(clippy::disallowed_methods, reason = "sockets go by the real time")]

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use vault_format::ids::Term;

use super::*;
use crate::election::standing::{Leader, Standing};
use crate::http::serve::{Listening, serve};

const SOON: Duration = Duration::from_secs(10);
const MARK: &str = "message-vault-forwarded";

/// A server with a socket of its own.
struct Peer {
    app: Arc<App>,
    url: String,
    client: reqwest::Client,
    stop: CancellationToken,
}

type Memory = Arc<MemoryStorage>;

fn memory() -> Memory {
    Arc::new(MemoryStorage::new(Env::real()))
}

/// A server that is told by `standing` who leads, or takes part in the election where there is none.
async fn peer(memory: &Memory, standing: Option<watch::Receiver<Standing>>) -> Peer {
    let env = Env::real();
    let storage: Arc<Counted<dyn Storage>> =
        Arc::new(Counted::new(Arc::clone(memory) as Arc<dyn Storage>, &env));
    let prefix = Prefix::new("mv-").unwrap();
    let options = Options::new(Duration::from_secs(5));
    let (vault, over) =
        Vault::new(Arc::clone(&storage) as Arc<dyn Storage>, env.clone(), prefix.clone(), options);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let settings = HttpSettings {
        auto_create: true,
        max_message_bytes: MAX_MESSAGE,
        append_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
        local_names_only: true,
        ..HttpSettings::new(url.clone(), "memory", &prefix, Access::for_everybody(env.clone()))
    };
    let candidacy = Candidacy { endpoint: url.clone(), vault_uid: None };
    let mut election = Election::new(vault.clone(), over, candidacy);
    let elected = standing.is_none();
    let standing = standing.unwrap_or_else(|| election.standing());
    let (app, stop) = (App::new(vault, env, storage, settings, standing), CancellationToken::new());
    if elected {
        let stopping = stop.clone();
        tokio::spawn(async move { election.run(&stopping).await });
    }
    tokio::spawn(serve(
        Arc::clone(&app),
        router(Arc::clone(&app)),
        Listening { listener, tls: None, max_connections: 100 },
    ));
    let client = reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap();
    Peer { app, url, client, stop }
}

/// One that leads, and one that follows it.
async fn pair() -> (Peer, Peer) {
    let memory = memory();
    let a = peer(&memory, None).await;
    a.app.vault.until_led(SOON).await;
    let b = peer(&memory, None).await;
    let mut standing = b.app.standing.clone();
    let follows = standing.wait_for(|standing| standing.listed && standing.leader.is_some());
    tokio::time::timeout(SOON, follows).await.unwrap().unwrap();
    (a, b)
}

fn led_by(endpoint: &str, term: u64) -> Standing {
    let leader = Leader { endpoint: endpoint.to_owned(), term: Term(term) };
    Standing { vault_uid: Some("v".to_owned()), listed: true, leader: Some(leader), trouble: None }
}

/// A server that believes what it is told of the leader, and who tells it.
async fn told(memory: &Memory, standing: Standing) -> (Peer, watch::Sender<Standing>) {
    let (sender, standing) = watch::channel(standing);
    (peer(memory, Some(standing)).await, sender)
}

/// An address at which nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

impl Peer {
    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("{}{path}", self.url))
    }

    async fn call(&self, method: &str, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        sent(self.request(method, path).body(body)).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    async fn post(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        sent(self.request("POST", path).header("content-type", content_type).body(body)).await
    }

    async fn append(&self, text: &str) -> u64 {
        let answer = self.post("/streams/s/messages", TEXT, text.to_owned()).await.is(200);
        answer.json()["first_offset"].as_u64().unwrap()
    }

    async fn values(&self) -> Vec<String> {
        self.get("/streams/s/messages?consistency=strong").await.is(200).values()
    }

    fn address(&self) -> SocketAddr {
        self.url.strip_prefix("http://").unwrap().parse().unwrap()
    }
}

async fn sent(request: reqwest::RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    Answer { status, headers, body: answer.bytes().await.unwrap() }
}

#[tokio::test]
async fn what_changes_something_goes_through_the_follower() {
    let (a, b) = pair().await;
    let settings = json!({"segment_bytes": 64 << 20}).to_string();
    b.call("PUT", "/streams/s", settings.clone()).await.is(201);
    b.call("PUT", "/streams/s", settings).await.is(200);
    assert_eq!((b.append("one").await, b.append("two").await), (0, 1));
    let changed = json!({"segment_bytes": 128 << 20}).to_string();
    let answer = b.call("PATCH", "/streams/s", changed).await.is(200);
    assert_eq!(answer.json()["settings"]["segment_bytes"], 128 << 20);
    assert_eq!(a.values().await, ["one", "two"]);
    assert_eq!(b.values().await, ["one", "two"]);
    b.call("DELETE", "/streams/s", "").await.is(204);
    a.get("/streams/s").await.problem(404, "stream_not_found");
    b.get("/streams/s/messages?consistency=strong").await.problem(404, "stream_not_found");
    assert!(b.app.vault.term().is_none());
}

#[tokio::test]
async fn answers_come_back_as_the_leader_gave_them() {
    let (a, b) = pair().await;
    a.append("x").await;
    let requests = [
        ("POST", "/streams/s/messages?expected_offset=7", TEXT, "x"),
        ("POST", "/streams/s/messages?nonsense=1", TEXT, "x"),
        ("POST", "/streams/s/messages", "image/png", "x"),
        ("POST", "/streams/s/messages", JSON, "{\"messages\":[{\"value\":\"a\"},{\"value\":1}]}"),
        ("POST", "/streams/not%20a%20name/messages", TEXT, "x"),
        ("PUT", "/streams/s", JSON, "{\"segment_bytes\": 67108864}"),
        ("PUT", "/streams/s", JSON, "{\"segment_bytes\": 1}"),
        ("PATCH", "/streams/none", JSON, "{}"),
        ("DELETE", "/streams/none", TEXT, ""),
        ("POST", "/streams/s", TEXT, ""),
        ("GET", "/streams/s/messages?from=9&wait=1", TEXT, ""),
        ("GET", "/streams/s/messages?from=0&wait=1", TEXT, ""),
    ];
    for (method, path, content_type, body) in requests {
        let ask =
            |peer: &Peer| sent(peer.request(method, path).header("content-type", content_type).body(body));
        let (mut theirs, mut ours) = (ask(&a).await, ask(&b).await);
        theirs.headers.remove("date");
        ours.headers.remove("date");
        assert_eq!((ours.status, &ours.headers, &ours.body), (theirs.status, &theirs.headers, &theirs.body));
    }
}

#[tokio::test]
async fn a_waiting_read_is_answered_as_soon_as_the_leader_knows() {
    let (a, b) = pair().await;
    a.append("first").await;
    for offset in 1..6 {
        let request = b.request("GET", &format!("/streams/s/messages?from={offset}&wait=9"));
        let waiting = tokio::spawn(sent(request));
        tokio::time::sleep(Duration::from_millis(150 + 37 * offset)).await;
        a.append("next").await;
        let appended = Instant::now();
        assert_eq!(waiting.await.unwrap().is(200).values(), ["next"]);
        assert!(appended.elapsed() < Duration::from_millis(200), "{:?}", appended.elapsed());
    }
}

#[tokio::test]
async fn a_marked_request_is_for_that_term_and_goes_no_further() {
    let (a, b) = pair().await;
    a.append("x").await;
    let term = a.app.vault.term().unwrap().0;
    let marked = |peer: &Peer, path: &str, mark: String| {
        let request = peer.request("POST", path).header("content-type", TEXT).header(MARK, mark);
        sent(request.body("marked"))
    };
    for (peer, mark) in [(&a, term + 1), (&a, term - 1), (&b, term), (&b, term + 1)] {
        let refused = marked(peer, "/streams/s/messages", mark.to_string()).await;
        assert_eq!(refused.problem(503, "no_leader")["side_effects"], "none");
        let read = peer.request("GET", "/streams/s/messages?from=1&wait=1").header(MARK, mark);
        sent(read).await.problem(503, "no_leader");
    }
    for malformed in ["", "x", "-1", "1.5", "18446744073709551616"] {
        for peer in [&a, &b] {
            let refused = marked(peer, "/streams/s/messages", malformed.to_owned()).await;
            refused.problem(400, "invalid_parameter");
        }
    }
    assert_eq!(a.values().await, ["x"]);
    marked(&a, "/streams/s/messages", term.to_string()).await.is(200);
    assert_eq!(a.values().await, ["x", "marked"]);
}

#[tokio::test]
async fn two_servers_that_take_each_other_for_the_leader_do_not_go_in_circles() {
    let memory = memory();
    let (a, tell_a) = told(&memory, Standing::default()).await;
    let (b, _tell_b) = told(&memory, led_by(&a.url, 7)).await;
    tell_a.send_replace(led_by(&b.url, 7));
    for peer in [&a, &b] {
        let refused = peer.post("/streams/s/messages", TEXT, "x").await;
        assert_eq!(refused.problem(503, "no_leader")["side_effects"], "none");
    }
    // Nor does one go to itself.
    tell_a.send_replace(led_by(&a.url, 7));
    a.post("/streams/s/messages", TEXT, "x").await.problem(503, "no_leader");
}

#[tokio::test]
async fn where_the_leader_refuses_connections_nothing_has_happened() {
    let memory = memory();
    let (b, _tell) = told(&memory, led_by(&nobody().await, 7)).await;
    for body in ["x".to_owned(), "x".repeat(3 << 20)] {
        let refused = b.post("/streams/s/messages", JSON, body).await;
        assert_eq!(refused.headers["retry-after"], "1");
        let problem = refused.problem(503, "no_leader");
        assert_eq!((&problem["side_effects"], &problem["retryable"]), (&json!("none"), &json!(true)));
    }
}

#[tokio::test]
async fn a_leader_that_is_silent_until_somebody_else_leads_may_have_done_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let memory = memory();
    let (b, tell) = told(&memory, led_by(&silent, 7)).await;
    for standing in [led_by("http://127.0.0.1:1", 8), Standing { leader: None, ..led_by("", 0) }] {
        tell.send_replace(led_by(&silent, 7));
        let waiting = tokio::spawn(sent(
            b.request("POST", "/streams/s/messages").header("content-type", TEXT).body("x"),
        ));
        let connection = tokio::time::timeout(SOON, listener.accept()).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!waiting.is_finished(), "it leads as far as anybody knows");
        tell.send_replace(standing);
        let deposed = Instant::now();
        let problem = waiting.await.unwrap().problem(503, "no_leader");
        assert_eq!(problem["side_effects"], "possible");
        assert!(deposed.elapsed() < Duration::from_millis(2_500), "{:?}", deposed.elapsed());
        drop(connection);
    }
}

#[tokio::test]
async fn a_leader_that_hangs_up_may_have_done_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (b, _tell) = {
        let url = format!("http://{}", listener.local_addr().unwrap());
        told(&memory(), led_by(&url, 7)).await
    };
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.read_u8().await.unwrap();
    });
    let problem = b.call("PUT", "/streams/s", "").await.problem(503, "no_leader");
    assert_eq!(problem["side_effects"], "possible");
}

#[tokio::test]
async fn reads_need_no_leader() {
    let memory = memory();
    let a = peer(&memory, None).await;
    a.app.vault.until_led(SOON).await;
    a.append("one").await;
    let no_leader = Standing { leader: None, ..led_by("", 0) };
    for standing in [no_leader, led_by(&nobody().await, 7)] {
        let (b, _tell) = told(&memory, standing).await;
        assert_eq!(b.get("/streams/s/messages").await.is(200).values(), ["one"]);
        assert_eq!(b.get("/streams/s").await.is(200).json()["next_offset"], 1);
        b.get("/streams/none").await.problem(404, "stream_not_found");
        b.get("/streams/s/messages?from=2").await.problem(416, "beyond_tail");
        b.post("/streams/s/messages", TEXT, "x").await.problem(503, "no_leader");
        b.get("/readyz").await.is(200);
    }
}

/// What such a server reads might be another vault's.
#[tokio::test]
async fn a_server_that_has_just_begun_reads_nothing_though_the_leader_is_silent() {
    let memory = memory();
    let a = peer(&memory, None).await;
    a.app.vault.until_led(SOON).await;
    a.append("one").await;
    let begun = Standing { listed: false, ..led_by(&nobody().await, 7) };
    let (b, tell) = told(&memory, begun.clone()).await;
    let ask = async |query: &str, accept: &str| {
        sent(b.request("GET", &format!("/streams/s/messages?{query}")).header("accept", accept)).await
    };
    for (query, accept) in [("", JSON), ("wait=1", JSON), ("follow=true&limit=1", LINES), ("to=1", EVENTS)] {
        ask(query, accept).await.problem(503, "not_ready");
    }
    tell.send_replace(Standing { listed: true, ..begun });
    for (query, accept) in [("", JSON), ("wait=1", JSON), ("follow=true&limit=1", LINES), ("to=1", EVENTS)] {
        let answer = ask(query, accept).await.is(200);
        assert!(String::from_utf8_lossy(&answer.body).contains("one"), "{query}");
    }
}

#[tokio::test]
async fn a_follower_lists_the_streams_itself() {
    let (a, b) = pair().await;
    for name in ["r", "s", "t"] {
        a.call("PUT", &format!("/streams/{name}"), "").await.is(201);
    }
    let listed = async || {
        let page = b.get("/streams").await.is(200).json();
        page["streams"].as_array().unwrap().len()
    };
    let started = Instant::now();
    while listed().await < 3 {
        assert!(started.elapsed() < Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_read_waits_at_the_follower_where_the_leader_is_gone() {
    let memory = memory();
    let a = peer(&memory, None).await;
    a.app.vault.until_led(SOON).await;
    a.append("0").await;
    // Somebody appends under a term that this follower does not know of yet.
    for (offset, gone) in [(1, nobody().await), (2, a.url.clone())] {
        let (b, _tell) = told(&memory, led_by(&gone, 7)).await;
        let path = format!("/streams/s/messages?from={offset}&wait=9");
        let waiting = tokio::spawn(sent(b.request("GET", &path)));
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(!waiting.is_finished());
        a.append("next").await;
        let appended = Instant::now();
        assert_eq!(waiting.await.unwrap().is(200).values(), ["next"]);
        assert!(appended.elapsed() < Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_strong_read_at_the_follower_sees_all_that_was_acknowledged() {
    let (a, b) = pair().await;
    let mut acknowledged = Vec::new();
    for n in 0..40 {
        let text = n.to_string();
        let by = if n % 3 == 0 { &b } else { &a };
        by.append(&text).await;
        acknowledged.push(text);
        assert_eq!(b.values().await, acknowledged);
    }
}

#[tokio::test]
async fn large_bodies_and_refused_ones_pass_the_follower() {
    let (a, b) = pair().await;
    let value = "v".repeat(1_000_000);
    let body = json!({"messages": [{"value": &value}, {"value": &value}, {"value": &value}]}).to_string();
    b.post("/streams/s/messages", JSON, body.clone()).await.is(200);
    // One whose length is not known.
    let pieces: Vec<_> =
        body.into_bytes().chunks(100_000).map(|piece| Ok::<_, String>(piece.to_vec())).collect();
    let stream = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    b.post("/streams/s/messages", JSON, stream).await.is(200);
    b.post("/streams/s/messages", TEXT, "v".repeat(2 << 20)).await.problem(413, "message_too_large");
    b.post("/streams/s/messages", JSON, "v".repeat(9 << 20)).await.problem(413, "request_too_large");
    b.append("small").await;
    assert_eq!(a.get("/streams/s").await.json()["next_offset"], 7);
    let read = b.get("/streams/s/messages?limit=6&max_bytes=8388608&wait=1").await.is(200);
    assert!(read.values().iter().all(|read| *read == value) && read.values().len() == 6);
}

/// What a leader is sent, and what a client gets, byte by byte.
#[tokio::test]
async fn what_is_about_one_connection_does_not_travel() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let leader = listener.local_addr().unwrap();
    let (b, _tell) = told(&memory(), led_by(&format!("http://{leader}"), 7)).await;
    let served = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"hello") {
            assert!(connection.read_buf(&mut request).await.unwrap() > 0);
        }
        let answer = "HTTP/1.1 201 Created\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
            X-Stays: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n";
        connection.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap().to_ascii_lowercase()
    });
    let mut client = TcpStream::connect(b.address()).await.unwrap();
    let request = "POST /streams/s/messages?expected_offset=0&key=a%2Fb HTTP/1.1\r\nHost: outside.localhost\r\n\
        Connection: close, X-Private\r\nX-Private: 1\r\nTE: trailers\r\nKeep-Alive: timeout=9\r\n\
        Proxy-Authorization: Basic x\r\nAuthorization: Bearer t\r\nX-Goes: 1\r\nContent-Type: text/plain\r\n\
        Content-Length: 5\r\n\r\nhello";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let (sent, answer) = (served.await.unwrap(), answer.to_ascii_lowercase());
    assert!(sent.starts_with("post /streams/s/messages?expected_offset=0&key=a%2fb http/1.1\r\n"), "{sent}");
    for there in ["authorization: bearer t", "x-goes: 1", "content-length: 5", &format!("{MARK}: 7")] {
        assert_eq!(sent.matches(&format!("\r\n{there}\r\n")).count(), 1, "{there} in {sent}");
    }
    assert!(sent.contains(&format!("host: {leader}")) && !sent.contains("outside"), "{sent}");
    for hop in ["x-private", "te:", "keep-alive", "proxy-authorization", "connection:"] {
        assert!(!sent.contains(&format!("\r\n{hop}")), "{hop} in {sent}");
    }
    assert!(answer.starts_with("http/1.1 201 created\r\n") && answer.contains("x-stays: 1"), "{answer}");
    assert!(
        !answer.contains("x-hop") && !answer.contains("keep-alive") && answer.contains("yes"),
        "{answer}"
    );
}

/// The body of a read is dropped, so that its length would promise the leader what never comes: the beginning of the next
/// request on the same connection, which is another client's.
#[tokio::test]
async fn a_read_that_is_handed_on_promises_no_body() {
    for (query, accept) in [("wait=9", JSON), ("follow=true", LINES), ("from=0", EVENTS)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let leader = format!("http://{}", listener.local_addr().unwrap());
        let (b, _tell) = told(&memory(), led_by(&leader, 7)).await;
        let asking = b.request("GET", &format!("/streams/s/messages?{query}")).header("accept", accept);
        let asked = tokio::spawn(sent(asking.body("DELETE /streams/s HTTP/1.1\r\n\r\n")));
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert!(connection.read_buf(&mut request).await.unwrap() > 0);
        }
        let request = String::from_utf8(request).unwrap().to_lowercase();
        assert!(request.starts_with("get /streams/s/messages?") && !request.contains("delete"), "{request}");
        assert!(!request.contains("content-length") && !request.contains("transfer-encoding"), "{request}");
        let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        connection.write_all(answer.as_bytes()).await.unwrap();
        asked.await.unwrap().is(200);
    }
}

#[tokio::test]
async fn the_status_of_both_names_the_leader() {
    let (a, b) = pair().await;
    for (peer, role) in [(&a, "leader"), (&b, "follower")] {
        let status = peer.get("/status").await.is(200).json();
        assert_eq!(status["role"], role);
        assert_eq!(status["leader"], json!({"endpoint": a.url, "term": a.app.vault.term().unwrap().0}));
        assert_eq!(status["vault_uid"], a.app.standing.borrow().vault_uid.clone().unwrap());
        assert_eq!(status["trouble"], json!(null));
    }
}

#[tokio::test]
async fn a_follower_that_ends_answers_who_waits_through_it() {
    let (a, b) = pair().await;
    a.append("one").await;
    let waiting = tokio::spawn(sent(b.request("GET", "/streams/s/messages?from=1&wait=9")));
    tokio::time::sleep(Duration::from_millis(300)).await;
    b.app.stopping.cancel();
    let ending = Instant::now();
    assert_eq!(waiting.await.unwrap().is(200).values(), Vec::<String>::new());
    assert!(ending.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn who_followed_leads_and_the_other_way_round() {
    let (a, b) = pair().await;
    a.append("one").await;
    b.append("two").await;
    let waiting = tokio::spawn(sent(b.request("GET", "/streams/s/messages?from=2&wait=9")));
    a.stop.cancel();
    b.app.vault.until_led(SOON).await;
    assert_eq!(b.append("three").await, 2);
    // What waits is answered, by whomever.
    let answer = waiting.await.unwrap().is(200).values();
    assert!(answer.is_empty() || answer == ["three"], "{answer:?}");
    assert_eq!(a.values().await, ["one", "two", "three"]);
    assert!(a.app.vault.term().is_none() && b.app.vault.term().is_some());
}

/// An event stream as it comes.
async fn followed(peer: &Peer, query: &str) -> reqwest::Response {
    let request = peer.request("GET", &format!("/streams/s/messages?{query}")).header("accept", EVENTS);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], EVENTS);
    answer
}

const EVENTS: &str = "text/event-stream";

/// Reads until `mark` has come, and answers all of it; the whole rest where it ends before.
async fn until(answer: &mut reqwest::Response, mark: &str) -> String {
    let mut text = String::new();
    while !text.contains(mark) {
        match tokio::time::timeout(SOON, answer.chunk()).await.unwrap().unwrap() {
            Some(piece) => text += std::str::from_utf8(&piece).unwrap(),
            None => return text,
        }
    }
    text
}

#[tokio::test]
async fn a_stream_is_followed_through_the_follower_until_somebody_else_leads() {
    let (a, b) = pair().await;
    a.append("one").await;
    let mut lines =
        b.request("GET", "/streams/s/messages?follow=true").header("accept", LINES).send().await.unwrap();
    let mut events = followed(&b, "").await;
    assert!(until(&mut events, "caught-up").await.contains("\"value\":\"one\""));
    until(&mut lines, "one").await;
    for text in ["two", "three"] {
        a.append(text).await;
        let appended = Instant::now();
        until(&mut events, text).await;
        until(&mut lines, text).await;
        assert!(appended.elapsed() < Duration::from_millis(200), "{:?}", appended.elapsed());
    }
    a.stop.cancel();
    // The leader says that it is none, and nobody is left hanging.
    assert!(until(&mut events, "no event").await.ends_with("\n\n"));
    assert_eq!(until(&mut lines, "no line").await, "");
    b.app.vault.until_led(SOON).await;
    let mut events = followed(&b, "from=2").await;
    until(&mut events, "caught-up").await;
    b.append("four").await;
    until(&mut events, "four").await;
}

#[tokio::test]
async fn a_stream_is_followed_in_storage_where_the_leader_is_gone() {
    let memory = memory();
    let a = peer(&memory, None).await;
    a.app.vault.until_led(SOON).await;
    a.append("0").await;
    let (b, _tell) = told(&memory, led_by(&nobody().await, 7)).await;
    let (mut all, mut some) = (followed(&b, "").await, followed(&b, "key=k").await);
    assert!(until(&mut all, "caught-up").await.contains("id: 1\ndata: {\"offset\":0,"));
    until(&mut some, "caught-up").await;
    for n in 1..4 {
        let body = json!({"messages": [{"value": format!("v{n}")}, {"key": "k", "value": format!("k{n}")}]});
        a.post("/streams/s/messages", JSON, body.to_string()).await.is(200);
        let appended = Instant::now();
        assert!(until(&mut all, &format!("k{n}")).await.contains(&format!("v{n}")));
        assert!(!until(&mut some, &format!("k{n}")).await.contains(&format!("v{n}")));
        assert!(appended.elapsed() < Duration::from_secs(1));
    }
    a.call("DELETE", "/streams/s", "").await.is(204);
    // One of them comes upon the deletion, and the other may only see that the stream was closed.
    let ends = [until(&mut all, "no event").await, until(&mut some, "no event").await];
    assert!(ends.iter().all(|end| end.contains("event: error\ndata: {\"type\":")), "{ends:?}");
    assert!(ends.iter().any(|end| end.contains("stream_not_found")), "{ends:?}");
}

#[tokio::test]
async fn the_follower_judges_for_which_page_a_browser_asks() {
    let (a, b) = pair().await;
    let from = |origin: &str, site: &str| {
        let request = b.request("POST", "/streams/s/messages").header("content-type", TEXT);
        sent(request.header("origin", origin).header("sec-fetch-site", site).body("x"))
    };
    from("http://evil.example", "cross-site").await.problem(403, "cross_site");
    a.get("/streams/s").await.problem(404, "stream_not_found");
    // To the leader this is neither its own address nor its own page.
    from(&b.url, "same-origin").await.is(200);
    assert_eq!(a.values().await, ["x"]);
}
