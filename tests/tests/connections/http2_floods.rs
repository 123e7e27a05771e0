//! What clients of HTTP/2 may send without end and without cost to themselves: each of it ends the connection, and takes
//! neither memory nor time from others.

use std::io::Write;
use std::time::{Duration, Instant};

use vault_tests::raw::{connect, read_to_end};
use vault_tests::server::{Server, Setup, temporary_directory};

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GO_AWAY, HEADERS, PING, RESET, SETTINGS, fields, frame,
    preface, taken_apart,
};

/// The frames that are sent the time with this number.
type Frames = fn(u32) -> Vec<u8>;

/// More than a server without limits could hold of what is sent here.
const MEMORY: u64 = 200 << 20;

fn get() -> Vec<u8> {
    fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/livez"), (":authority", "localhost")])
}

/// Sends these frames until the server has had enough; how many bytes that took.
fn flood(
    server: &Server,
    first: &[u8],
    frames: impl Fn(u32) -> Vec<u8>,
    most_bytes: usize,
) -> (usize, Vec<u8>) {
    let mut socket = connect(server.address());
    socket.write_all(&preface()).unwrap();
    socket.write_all(first).unwrap();
    let mut reading = socket.try_clone().unwrap();
    let reader = std::thread::spawn(move || read_to_end(&mut reading));
    let mut sent = 0;
    let mut number = 0;
    let mut ended = false;
    while !ended && sent < most_bytes {
        let piece: Vec<u8> = (0..64)
            .flat_map(|_| {
                number += 1;
                frames(number)
            })
            .collect();
        ended = socket.write_all(&piece).is_err();
        sent += piece.len();
    }
    // What is refused may be answered before the refusal of what is still being sent breaks the connection.
    let _ = socket.shutdown(std::net::Shutdown::Both);
    (sent, reader.join().unwrap())
}

fn assert_well(server: &Server) {
    let started = Instant::now();
    server.client().append_text("s", "still here");
    assert!(started.elapsed() < Duration::from_secs(2), "others waited for {:?}", started.elapsed());
    let (_, most) = server.resident_bytes();
    assert!(most < MEMORY, "{most} bytes of memory");
}

/// The error that the server ended the connection with, as far as it was still read.
fn went_away(came: &[u8]) -> Option<u32> {
    let frames = taken_apart(came);
    let payload = frames.iter().find(|(kind, ..)| *kind == GO_AWAY)?.2;
    payload.get(4..8).map(|code| u32::from_be_bytes(code.try_into().unwrap()))
}

#[test]
fn requests_that_are_taken_back_at_once_end_the_connection() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let reset = |number: u32| {
        let stream = 2 * number - 1;
        let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get());
        bytes.extend(frame(RESET, 0, stream, &8_u32.to_be_bytes()));
        bytes
    };
    let (sent, came) = flood(&server, b"", reset, 64 << 20);
    assert!(sent < 64 << 20, "the connection is still open");
    const ENHANCE_YOUR_CALM: u32 = 11;
    assert!(matches!(went_away(&came), None | Some(ENHANCE_YOUR_CALM)), "{:?}", went_away(&came));
    assert_well(&server);
}

#[test]
fn headers_without_an_end_end_the_connection() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let begun = frame(HEADERS, 0, 1, &get());
    let field = vault_field(100);
    let (sent, _) = flood(&server, &begun, |_| frame(CONTINUATION, 0, 1, &field), 64 << 20);
    assert!(sent < 64 << 20, "the connection is still open");
    let (sent, _) = flood(&server, &begun, |_| frame(CONTINUATION, 0, 1, b""), 64 << 20);
    assert!(sent < 64 << 20, "the connection is still open");
    assert_well(&server);
}

fn vault_field(count: usize) -> Vec<u8> {
    let value = "v".repeat(100);
    fields(&vec![("x-flood", value.as_str()); count])
}

/// A table of 4 KiB in which one long field stands, and thousands of references to it in few bytes.
#[test]
fn headers_that_unfold_end_the_request() {
    let directory = temporary_directory();
    // So that a connection ends on which nothing more comes.
    let server = Setup::in_directory(directory.path()).with(["--idle-timeout", "1s"]).start();
    for (times, is_served) in [(10, true), (8_000, false)] {
        let mut block = get();
        // A literal that is put into the table (RFC 7541, 6.2.1), with a value of 3,900 bytes, and then indexed again and
        // again.
        block.extend([0x40, 1, b'x', 0x7f]);
        let length = 3_900 - 127;
        block.extend([u8::try_from(length % 128).unwrap() | 0x80, u8::try_from(length / 128).unwrap()]);
        block.extend(vec![b'v'; 3_900]);
        block.extend(vec![0xbe; times]);
        let mut sent = preface();
        sent.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
        let mut socket = connect(server.address());
        socket.write_all(&sent).unwrap();
        let came = read_to_end(&mut socket);
        let frames = taken_apart(&came);
        // 200 is one byte, 0x88.
        let served = frames.iter().any(|(kind, _, payload)| *kind == HEADERS && payload.contains(&0x88));
        assert_eq!(served, is_served, "{times} times: {frames:?}");
    }
    assert_well(&server);
}

#[test]
fn frames_that_ask_for_nothing_take_no_memory() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let all: [(&str, Frames); 3] = [
        ("pings", |number| frame(PING, 0, 0, &u64::from(number).to_be_bytes())),
        ("settings", |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
        ("empty data", |_| frame(DATA, 0, 1, b"")),
    ];
    for (what, frames) in all {
        let begun = frame(
            HEADERS,
            END_HEADERS,
            1,
            &fields(&[
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/streams/s/messages"),
                (":authority", "localhost"),
                ("content-type", "text/plain"),
            ]),
        );
        let (sent, _) = flood(&server, &begun, frames, 8 << 20);
        assert!(sent > 0, "{what}");
        assert_well(&server);
    }
}
