//! Clients that stop in the middle, or are so slow that waiting for them would hurt the others.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use vault_tests::client::Client;
use vault_tests::message::Message;
use vault_tests::raw::{connect, is_closed, read_to_end};
use vault_tests::server::{Setup, temporary_directory};
use vault_tests::wait::until;

use crate::server;

/// What a server that is not hurt needs at most for an append.
const UNHARMED: Duration = Duration::from_secs(2);
/// The server ends connections that make no progress after 30 s.
const CUT_OFF: Duration = Duration::from_secs(50);

fn head(address: SocketAddr, length: usize) -> String {
    let head = "POST /streams/s/messages HTTP/1.1\r\nContent-Type: text/plain\r\n";
    format!("{head}Host: {address}\r\nContent-Length: {length}\r\n\r\n")
}

fn assert_unharmed(client: &Client, stream: &str) {
    let started = Instant::now();
    let appended = client.append_text(stream, "from another client");
    let page = client.get(&format!("/streams/{stream}/messages?from={}", appended.first_offset)).expect(200);
    assert_eq!(page.messages()[0].message.text(), "from another client");
    let took = started.elapsed();
    assert!(took < UNHARMED, "others waited for {took:?}");
}

#[test]
fn a_client_that_stops_in_the_middle_of_a_body() {
    let (server, _directory) = server();
    let client = server.client();
    client.append_text("s", "before");
    for sent in [0, 1, 999] {
        let mut socket = connect(server.address());
        socket.write_all(head(server.address(), 1_000).as_bytes()).expect("the server reads");
        socket.write_all(&vec![b'x'; sent]).expect("the server reads");
        drop(socket);
    }
    // One that says that it has ended, and waits for an answer all the same.
    let mut socket = connect(server.address());
    socket.write_all(head(server.address(), 1_000).as_bytes()).expect("the server reads");
    socket.shutdown(std::net::Shutdown::Write).expect("it is connected");
    let answer = read_to_end(&mut socket);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert_unharmed(&client, "s");
    assert_eq!(client.read_all("s").len(), 2, "nothing of half a body is stored");
}

#[test]
fn a_client_that_sends_a_byte_a_second_is_cut_off() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).with(["--idle-timeout", "8s"]).start();
    let client = server.client();
    client.append_text("s", "before");
    let mut in_body = connect(server.address());
    in_body.write_all(head(server.address(), 1_000).as_bytes()).expect("the server reads");
    let mut in_head = connect(server.address());
    in_head.write_all(b"POST /streams/s/messages HTTP/1.1\r\nX-Slow: ").expect("the server reads");

    let (mut body_open, mut head_open) = (true, true);
    let end = Instant::now() + CUT_OFF;
    while body_open || head_open {
        assert!(Instant::now() < end, "still open: body {body_open}, head {head_open}");
        assert_unharmed(&client, "others");
        for (socket, open) in [(&mut in_body, &mut body_open), (&mut in_head, &mut head_open)] {
            *open = *open && socket.write_all(b"x").is_ok() && !is_closed(socket);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(client.read_all("s").len(), 1, "nothing of the slow body is stored");
}

/// Asks for the whole stream and reads none of it.
fn reader_that_does_not_drain(address: SocketAddr, accept: &str) -> TcpStream {
    let mut socket = connect(address);
    let target = "/streams/big/messages?from=0&limit=1000000000&max_bytes=1000000000";
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("the server reads");
    socket
}

#[test]
fn readers_that_do_not_drain_hurt_nobody_and_are_cut_off() {
    const MESSAGES: usize = 64;
    let (server, _directory) = server();
    let client = server.client();
    for _ in 0..MESSAGES {
        client.append("big", &[Message::value("x".repeat(1_000_000))]);
    }
    let formats = ["application/x-ndjson", "application/vnd.messagevault.batches"];
    let mut stuck: Vec<_> =
        formats.iter().map(|accept| reader_that_does_not_drain(server.address(), accept)).collect();
    let mut slow = reader_that_does_not_drain(server.address(), formats[0]);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(40) {
        assert_unharmed(&client, "others");
        assert!(slow.read(&mut [0]).is_ok_and(|bytes| bytes <= 1), "a slow reader is served");
        std::thread::sleep(Duration::from_secs(1));
    }
    let page = client.get("/streams/big/messages?from=60").expect(200);
    assert!(!page.messages().is_empty(), "other readers of the same stream are served");
    for socket in &mut stuck {
        let got = read_to_end(socket).len();
        assert!(
            got < MESSAGES * 1_000_000,
            "a reader that took nothing for 40 s got everything: {got} bytes"
        );
    }
    drop(slow);
    let (_, most) = server.resident_bytes();
    assert!(most < 300 << 20, "{most} bytes of memory");
}

#[test]
fn connections_that_were_left_are_given_back() {
    let (server, _directory) = server();
    let client = server.client();
    let connections = || client.get("/status").expect(200).json()["connections"].as_u64().expect("a number");
    // The one that it was asked through when it started may still be among them.
    until("only this client is connected", UNHARMED, || (connections() == 1).then_some(()));
    let open: Vec<_> = (0..50).map(|_| connect(server.address())).collect();
    until("they are counted", UNHARMED, || (connections() == 51).then_some(()));
    drop(open);
    until("they are given back", UNHARMED, || (connections() == 1).then_some(()));
}
