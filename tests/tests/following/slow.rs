//! Consumers that take nothing, or too little.

use std::io::Write;
use std::time::{Duration, Instant};

use vault_tests::message::Message;
use vault_tests::raw::{connect, read_to_end};

use crate::{Coming, EVENTS, server};

/// What a message needs at most to get to a consumer that takes it.
const UNHARMED: Duration = Duration::from_secs(2);

const MESSAGE_BYTES: usize = 1_000_000;

/// More than the system and the server hold for a connection.
const MESSAGES: u64 = 80;

/// A consumer that takes nothing is cut off after 30 s; one that lags behind what is kept for those at the tail reads
/// the log instead, and misses nothing.
#[test]
fn who_takes_nothing_is_cut_off_and_who_lags_misses_nothing() {
    let (server, _directory) = server();
    let client = server.client();
    client.append_text("s", "0");
    let address = server.address();
    let mut stuck: Vec<_> = ["", "key="]
        .map(|query| {
            let mut socket = connect(address);
            let request = format!(
                "GET /streams/s/messages?{query} HTTP/1.1\r\nHost: {address}\r\nAccept: {EVENTS}\r\n\r\n"
            );
            socket.write_all(request.as_bytes()).expect("the server reads");
            socket
        })
        .into();
    let mut quick = Coming::open(address, "", EVENTS, &[]);
    let mut lagging = Coming::open(address, "", EVENTS, &[]);
    for stream in [&mut quick, &mut lagging] {
        assert_eq!(stream.offset(), 0);
        stream.caught_up(1);
    }
    for n in 1..=MESSAGES {
        client.append("s", &[Message::value("x".repeat(MESSAGE_BYTES))]);
        let appended = Instant::now();
        assert_eq!(quick.offset(), n);
        assert!(appended.elapsed() < UNHARMED, "others waited for {:?}", appended.elapsed());
    }
    let filled = Instant::now();
    for n in 1..=MESSAGES {
        assert_eq!(lagging.offset(), n);
    }
    while filled.elapsed() < Duration::from_secs(36) {
        let next = client.append_text("s", "small").first_offset;
        let appended = Instant::now();
        let came = |stream: &mut Coming| loop {
            // Signs of life come as well.
            let event = stream.event().expect("it goes on");
            if event.name.is_empty() {
                break event.data["offset"].as_u64();
            }
        };
        assert_eq!((came(&mut quick), came(&mut lagging)), (Some(next), Some(next)));
        assert!(appended.elapsed() < UNHARMED, "others waited for {:?}", appended.elapsed());
        std::thread::sleep(Duration::from_secs(1));
    }
    for socket in &mut stuck {
        let got = read_to_end(socket).len();
        assert!(got < MESSAGE_BYTES * 70, "a consumer that took nothing got everything: {got} bytes");
    }
    let (_, most) = server.resident_bytes();
    assert!(most < 300 << 20, "{most} bytes of memory");
}
