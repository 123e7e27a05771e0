//! As many connections as there may be: one more is told so, and those that are there do not notice.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use vault_tests::certificates::Certificates;
use vault_tests::client::Client;
use vault_tests::curl::curl;
use vault_tests::raw::{connect, read_to_end};
use vault_tests::replicas::free_port;
use vault_tests::server::{Setup, temporary_directory};
use vault_tests::wait::{LONG, until};

use crate::frames::preface;

const MOST: usize = 3;

/// All that somebody gets to hear who is one too many.
const TOLD: &str = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Type: text/plain\r\nContent-Length: 21\r\n\r\ntoo many connections\n";

/// Asks on a connection that stays open: whether it is served.
fn is_served(socket: &mut TcpStream) -> bool {
    let asked = socket.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut begun = [0; 12];
    let served = asked.is_ok() && socket.read_exact(&mut begun).is_ok() && &begun == b"HTTP/1.1 200";
    // What else is in the answer has come with its beginning, or comes before the next one.
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    while matches!(socket.read(&mut [0; 4_096]), Ok(1..)) {}
    socket.set_read_timeout(Some(LONG)).unwrap();
    served
}

/// A connection that is served, soon: whoever asked before may still be there.
fn one(address: SocketAddr) -> TcpStream {
    until("a connection is served", LONG, || {
        let mut socket = connect(address);
        is_served(&mut socket).then_some(socket)
    })
}

#[test]
fn one_more_is_told_so_and_the_others_are_served() {
    let directory = temporary_directory();
    let port = free_port();
    let internal = format!("127.0.0.1:{port}");
    let server = Setup::in_directory(directory.path())
        .with(["--max-connections", "3", "--internal-listen", internal.as_str()])
        .start();
    let watching = Client::new(internal.parse().unwrap());
    let mut open: Vec<_> = (0..MOST).map(|_| one(server.address())).collect();
    let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".as_slice();
    // Whoever says nothing, asks, or speaks HTTP/2 hears the same.
    for sent in [b"".as_slice(), request, &preface()] {
        let mut socket = connect(server.address());
        // It may be closed already.
        let _ = socket.write_all(sent);
        assert_eq!(String::from_utf8_lossy(&read_to_end(&mut socket)), TOLD, "to {} bytes", sent.len());
    }
    // The one that asks is counted, although it needs no room among them.
    assert_eq!(watching.get("/status").expect(200).json()["connections"], MOST + 1);
    assert!(open.iter_mut().all(is_served), "those that were there are served as before");
    drop(open.pop());
    open.push(one(server.address()));
}

#[test]
fn with_tls_one_more_is_closed_without_a_word() {
    let (certificates, directory) = (Certificates::new(), temporary_directory());
    let tls = |name: &str| certificates.path(name).into_os_string().into_string().unwrap();
    let server = Setup::in_directory(directory.path())
        .with(["--max-connections", "1", "--tls-cert", &tls("leaf"), "--tls-key", &tls("key")])
        .start();
    let url = format!("https://localhost:{}/livez", server.address().port());
    let ask = || curl(["--cacert", &tls("ca"), &url]);
    assert_eq!(until("it is served", LONG, || Some(ask()).filter(|answer| answer.status == 200)).status, 200);
    // A handshake that has begun counts.
    let held = until("the one connection is this one", LONG, || {
        let mut socket = connect(server.address());
        socket.write_all(&[0x16, 3, 1]).unwrap();
        // One that is too many is closed long before, and a handshake may take 10 s.
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let open = socket.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        open.then_some(socket)
    });
    let mut socket = connect(server.address());
    assert_eq!(read_to_end(&mut socket), b"");
    assert_eq!(ask().status, 0);
    drop(held);
    until("there is room again", LONG, || (ask().status == 200).then_some(()));
}

/// A connection of HTTP/2 that carries many requests is no way around the limit.
#[tokio::test]
async fn requests_that_share_connections_are_no_more_than_connections_may_be() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).with(["--max-connections", "3"]).start();
    let client = server.client();
    tokio::task::spawn_blocking(move || client.append_text("s", "hello")).await.unwrap();
    let get =
        |path: &str| ureq::http::Request::get(format!("http://{}{path}", server.address())).body(()).unwrap();
    let stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let (mut client, connection) = h2::client::Builder::new().handshake::<_, Bytes>(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut waiting = Vec::new();
    for _ in 0..MOST {
        client = client.ready().await.unwrap();
        waiting.push(client.send_request(get("/streams/s/messages?from=latest&wait=2"), true).unwrap().0);
    }
    let (answer, _) = client.send_request(get("/livez"), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    let mut body = answer.into_body();
    let problem: serde_json::Value = serde_json::from_slice(&body.data().await.unwrap().unwrap()).unwrap();
    assert_eq!(problem["code"], "overloaded");
    for answer in waiting {
        let mut body = answer.await.unwrap().into_body();
        while body.data().await.is_some() {}
    }
    // A request counts until its answer has been sent, which its client may know a moment earlier.
    let again = async {
        loop {
            let (answer, _) = client.send_request(get("/livez"), true).unwrap();
            if answer.await.unwrap().status() == 200 {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, again).await.unwrap();
    connection.abort();
}
