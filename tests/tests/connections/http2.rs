//! HTTP/2 without TLS, by prior knowledge, and what its clients may not do.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use ureq::http::{Request, StatusCode};
use vault_tests::curl::curl;
use vault_tests::message::Message;
use vault_tests::server::{Server, Setup, temporary_directory};

/// A server ends a connection on which a client takes nothing of an answer for 30 s.
const CUT_OFF: Duration = Duration::from_secs(50);

async fn connect(server: &Server) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    (client, tokio::spawn(connection))
}

fn get(server: &Server, path: &str) -> Request<()> {
    Request::get(format!("http://{}{path}", server.address())).body(()).unwrap()
}

#[test]
fn curl_speaks_it() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let url = format!("http://{}/streams/orders/messages", server.address());
    let append = ["--http2-prior-knowledge", "--header", "Content-Type: text/plain", "--data", "hello", &url];
    let (first, second) = (curl(append), curl(append));
    assert_eq!((first.status, first.version.as_str(), second.status), (200, "2", 200), "{first:?}");
    let read = curl(["--http2-prior-knowledge", &url]);
    assert!(read.body.contains("\"value\":\"hello\"") && read.body.contains("\"next_offset\":2"), "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_answer_ends_its_connection_and_hurts_no_other_request_until_then() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let value = "x".repeat(1 << 20);
    tokio::task::block_in_place(|| {
        for _ in 0..8 {
            server.client().append("s", &[Message::value(value.as_str()), Message::value(value.as_str())]);
        }
    });
    let (mut client, connection) = connect(&server).await;
    let path = "/streams/s/messages?max_bytes=16000000";
    let (answer, _) = client.send_request(get(&server, path), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    // Its window is never opened again. Others on the same connection are served.
    let started = Instant::now();
    let (other, _) = client.send_request(get(&server, "/livez"), true).unwrap();
    assert_eq!(other.await.unwrap().status(), StatusCode::OK);
    let ended = tokio::time::timeout(CUT_OFF, connection).await;
    assert!(ended.is_ok(), "the connection is cut off");
    assert!(started.elapsed() > Duration::from_secs(20), "not before it has stalled for a while");
    drop(answer);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).with(["--idle-timeout", "2s"]).start();
    let (mut client, connection) = connect(&server).await;
    let (answer, _) = client.send_request(get(&server, "/livez"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    let ended = tokio::time::timeout(Duration::from_secs(10), connection).await;
    assert!(matches!(ended, Ok(Ok(Ok(())))), "{ended:?}");
}

#[tokio::test]
async fn no_more_requests_at_once_than_are_allowed_on_a_connection() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    tokio::task::spawn_blocking({
        let client = server.client();
        move || client.append_text("s", "hello")
    })
    .await
    .unwrap();
    let (mut client, _connection) = connect(&server).await;
    let waiting = "/streams/s/messages?from=latest&wait=60";
    let mut answers = Vec::new();
    for _ in 0..128 {
        client = client.ready().await.unwrap();
        answers.push(client.send_request(get(&server, waiting), true).unwrap());
    }
    // The client holds the next one back, as it was asked to, or the server refuses it.
    let next = tokio::time::timeout(Duration::from_secs(1), async {
        let mut client = client.ready().await.unwrap();
        let (answer, _) = client.send_request(get(&server, "/livez"), true).unwrap();
        answer.await
    });
    let next = next.await;
    let refused = |error: &h2::Error| error.reason() == Some(h2::Reason::REFUSED_STREAM);
    assert!(next.is_err() || next.as_ref().is_ok_and(|next| next.as_ref().is_err_and(refused)), "{next:?}");
}
