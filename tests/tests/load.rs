//! Many clients at once: memory stays within its bound, and those who work are not held up by those who wait.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vault_tests::client::Client;
use vault_tests::message::Message;
use vault_tests::raw::{allow_open_files, connect};
use vault_tests::server::{Server, Setup, temporary_directory};
use vault_tests::wait::{LONG, alone};

/// What the server may hold, whatever its clients do.
const MEMORY: u64 = 300 << 20;

/// An append that nobody holds up, on a machine and a disk that are busy.
const SOON: Duration = Duration::from_secs(5);

/// The slowest of some appends.
fn slowest_append(client: &Client, stream: &str, appends: usize) -> Duration {
    let append = |_| {
        let started = Instant::now();
        client.append_text(stream, "work");
        started.elapsed()
    };
    (0..appends).map(append).max().unwrap_or_default()
}

fn assert_memory(server: &Server, when: &str) {
    let (now, most) = server.resident_bytes();
    assert!(most < MEMORY, "{when}: {} MiB now, {} MiB at most", now >> 20, most >> 20);
}

#[test]
fn ten_thousand_silent_connections_hold_nobody_up() {
    const CONNECTIONS: usize = 10_000;
    let _alone = alone();
    allow_open_files(CONNECTIONS as u64 + 1_000);
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let client = server.client();
    client.append_text("work", "before");
    let mut silent = Vec::new();
    // A burst longer than the kernel's queue of new connections would measure that queue.
    while silent.len() < CONNECTIONS {
        silent.extend((0..100).map(|_| connect(server.address())));
        let slowest = slowest_append(&client, "work", 1);
        assert!(slowest < SOON, "{slowest:?} with {} silent connections", silent.len());
    }
    let open = client.get("/status").expect(200).json()["connections"].as_u64().expect("a number");
    assert!(open > CONNECTIONS as u64 / 2, "the connections are there, not refused: {open}");
    let newcomer = slowest_append(&server.client(), "work", 5);
    assert!(newcomer < SOON, "a new client is served: {newcomer:?}");
    assert_memory(&server, "with 10,000 silent connections");
}

fn ask(address: SocketAddr, target: &str, accept: &str) -> TcpStream {
    let mut socket = connect(address);
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("the server reads");
    socket
}

/// Reads until `text` has come.
fn read_until(socket: &mut TcpStream, text: &str) {
    let mut got = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&got).contains(text) {
        let bytes = socket.read(&mut piece).expect("the reader is answered in time");
        assert!(bytes > 0, "the answer ended without {text}: {}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&piece[..bytes]);
    }
}

#[test]
fn memory_is_bounded_with_many_streams_and_readers_that_wait() {
    const STREAMS: usize = 100;
    const READERS: usize = 1_000;
    let _alone = alone();
    allow_open_files(READERS as u64 + 1_000);
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let client = server.client();
    let stream = |n: usize| format!("stream-{}", n % STREAMS);
    for n in 0..STREAMS {
        client.append("big", &[Message::value("x".repeat(1_000_000))]);
        client.append_text(&stream(n), "first");
    }
    let everything = "/streams/big/messages?from=0&limit=1000000000&max_bytes=1000000000";
    let stuck = ask(server.address(), everything, "application/vnd.messagevault.batches");
    let waiting = |n| {
        ask(server.address(), &format!("/streams/{}/messages?from=1&wait=60", stream(n)), "application/json")
    };
    let mut readers: Vec<_> = (0..READERS).map(waiting).collect();

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let client = server.client();
                let message = Message::value("y".repeat(100_000));
                while !done.load(Ordering::Relaxed) {
                    client.append("busy", std::slice::from_ref(&message));
                }
            });
        }
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            assert_memory(&server, "while readers wait and producers append");
            std::thread::sleep(Duration::from_millis(100));
        }
        done.store(true, Ordering::Relaxed);
    });
    for n in 0..STREAMS {
        client.append_text(&stream(n), "what they wait for");
    }
    let started = Instant::now();
    readers.iter_mut().for_each(|reader| read_until(reader, "what they wait for"));
    assert!(started.elapsed() < LONG, "every reader is answered soon");
    assert_memory(&server, "at the end");
    drop(stuck);
}
