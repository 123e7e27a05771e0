//! Requests whose length two readers could see differently: none of them carries a second request past a server, or past
//! a follower to the leader.

use std::io::{Read, Write};
use std::net::SocketAddr;

use vault_tests::client::Client;
use vault_tests::raw::{connect, exchange, read_to_end};
use vault_tests::replicas::{Replicas, free_port};
use vault_tests::server::{Setup, temporary_directory};

use crate::frames::{
    DATA, END_HEADERS, END_STREAM, GO_AWAY, HEADERS, RESET, fields, frame, preface, taken_apart,
};

const APPEND: &str = "/streams/s/messages";

/// A request that must never be carried out: where it is, its message is in the stream.
const HIDDEN: &str = "POST /streams/s/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
    Content-Length: 8\r\n\r\nsmuggled";

/// All that comes back for what is sent, each answer by its status, until the server closes.
fn statuses(address: SocketAddr, sent: &str) -> Vec<u16> {
    let mut socket = connect(address);
    // It may be refused, and reset, before all is sent. The other direction stays open as well: a server may drop what it
    // has not begun to answer when its client ends the connection.
    let _ = socket.write_all(sent.as_bytes());
    let answers = String::from_utf8_lossy(&read_to_end(&mut socket)).into_owned();
    let heads = answers.split("HTTP/1.1 ").skip(1);
    heads.map(|head| head.split(' ').next().unwrap().parse().unwrap()).collect()
}

fn texts(client: &Client) -> Vec<String> {
    client.read_all("s").iter().map(|stored| stored.message.text().to_owned()).collect()
}

/// A leader and a follower that both answer, and a stream that holds one message.
fn pair() -> (Replicas, [SocketAddr; 2], tempfile::TempDir) {
    let directory = temporary_directory();
    let setup = || {
        let address = format!("127.0.0.1:{}", free_port());
        // So that a connection ends on which nothing more comes.
        Setup::at(directory.path(), &address).with(["--idle-timeout", "1s"])
    };
    let replicas = Replicas::start([setup(), setup()]);
    let (leader, follower) = replicas.settled();
    replicas.client(leader).append_text("s", "before");
    let addresses = replicas.addresses();
    (replicas, [addresses[leader], addresses[follower]], directory)
}

/// A POST with these header lines in the place of a Content-Length, each behind it with its line end.
fn post(lines: &str, rest: &str) -> String {
    format!("POST {APPEND} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n{lines}\r\n{rest}")
}

#[test]
fn a_length_that_can_be_read_in_two_ways_is_refused_and_the_connection_closed() {
    let (_replicas, addresses, _directory) = pair();
    let chunked = |lines: &str| post(lines, &format!("0\r\n\r\n{HIDDEN}"));
    let sized = |lines: &str| post(lines, &format!("hello{HIDDEN}"));
    for request in [
        sized("Content-Length: 5\r\nContent-Length: 153\r\n"),
        sized("Content-Length: 5, 153\r\n"),
        sized("Content-Length: 5, 5\r\n"),
        sized("Content-Length: +5\r\n"),
        sized("Content-Length: -5\r\n"),
        sized("Content-Length: 5 5\r\n"),
        sized("Content-Length: 0x5\r\n"),
        sized("Content-Length: 18446744073709551621\r\n"),
        sized("Content-Length: 18446744073709551615\r\n"),
        sized("Content-Length : 5\r\n"),
        sized("Content-Length\t: 5\r\n"),
        sized("Content-Length: \r\n"),
        sized("X: y\r\n Content-Length: 5\r\n"),
        sized("X: y\r\n\tfolded\r\nContent-Length: 5\r\n"),
        sized("X: a\rContent-Length: 153\r\nContent-Length: 5\r\n"),
        sized("X: \0\r\nContent-Length: 5\r\n"),
        chunked("Transfer-Encoding: xchunked\r\n"),
        chunked("Transfer-Encoding: chunked, identity\r\n"),
        chunked("Transfer-Encoding: identity\r\n"),
        chunked("Transfer-Encoding: gzip\r\n"),
        chunked("Transfer-Encoding: \u{b}chunked\r\n"),
        chunked("Transfer-Encoding : chunked\r\n"),
        chunked("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        chunked("Transfer-Encoding: identity, chunked, identity\r\nContent-Length: 5\r\n"),
        chunked("Transfer-Encoding: chunked\r\n").replacen("HTTP/1.1", "HTTP/1.0", 1),
        post("Transfer-Encoding: chunked\r\n", &format!("5;\r\nhello\r\n-1\r\n\r\n{HIDDEN}")),
        post("Transfer-Encoding: chunked\r\n", &format!("0x5\r\nhello\r\n0\r\n\r\n{HIDDEN}")),
        post("Transfer-Encoding: chunked\r\n", &format!("5\r\nhelloworld\r\n0\r\n\r\n{HIDDEN}")),
        post("Transfer-Encoding: chunked\r\n", &format!("10000000000000005\r\nhello\r\n0\r\n\r\n{HIDDEN}")),
        post("Transfer-Encoding: chunked\r\n", &format!("5;a\nb\r\nhello\r\n0\r\n\r\n{HIDDEN}")),
        post("Transfer-Encoding: chunked\r\n", &format!("5\nhello\n0\n\n{HIDDEN}")),
        post("Transfer-Encoding: chunked\r\n", &format!("{}{HIDDEN}", "1;x=y\r\nh\r\n".repeat(20_000))),
    ] {
        for address in addresses {
            let got = statuses(address, &request);
            // A follower that has begun to hand it on can only say that the leader did not answer.
            let refused = got.len() == 1 && (400..=503).contains(&got[0]);
            assert!(refused || got.is_empty(), "{got:?} for {:.400}", request.escape_debug().to_string());
        }
    }
    for address in addresses {
        assert_eq!(texts(&Client::new(address)), ["before"], "nothing is stored");
    }
}

#[test]
fn where_both_lengths_are_given_chunks_count_and_the_connection_is_closed() {
    let (_replicas, addresses, _directory) = pair();
    let both = [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    ];
    let mut expected = vec!["before".to_owned()];
    for (index, (address, lines)) in
        addresses.iter().flat_map(|address| both.map(|lines| (*address, lines))).enumerate()
    {
        let got = statuses(address, &post(lines, &format!("6\r\nhello{index}\r\n0\r\n\r\n{HIDDEN}")));
        assert_eq!(got, [200], "{lines}");
        expected.push(format!("hello{index}"));
    }
    for address in addresses {
        assert_eq!(texts(&Client::new(address)), expected);
    }
}

#[test]
fn what_chunks_carry_besides_the_body_does_not_travel() {
    let (_replicas, addresses, _directory) = pair();
    let mut expected = vec!["before".to_owned()];
    for (index, address) in addresses.into_iter().enumerate() {
        let chunks = format!(
            "5;name=\"value\"\r\nhello\r\n1\r\n{index}\r\n0\r\nContent-Length: 9\r\nX-Trailer: 1\r\n\r\n"
        );
        let again = format!(
            "{}{}",
            post("Transfer-Encoding: chunked\r\n", &chunks),
            post("Connection: close\r\nContent-Length: 5\r\n", "again")
        );
        let answers = exchange(address, again.as_bytes());
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
        expected.extend([format!("hello{index}"), "again".to_owned()]);
    }
    for address in addresses {
        assert_eq!(texts(&Client::new(address)), expected);
    }
}

/// A follower hands such reads on without their bodies.
#[test]
fn the_body_of_a_read_is_nobodys_request() {
    let (_replicas, addresses, _directory) = pair();
    for target in
        ["messages?from=1&wait=1", "messages?from=0&follow=true&limit=1", "messages?from=0", "access"]
    {
        for address in addresses {
            let accept = if target.contains("follow") { "application/x-ndjson" } else { "application/json" };
            let length = HIDDEN.len();
            let head = format!("GET /streams/s/{target} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n");
            let read = format!("{head}Content-Length: {length}\r\n\r\n{HIDDEN}");
            let got = statuses(address, &read);
            assert!(got.len() <= 1, "{target}: {got:?}");
            // What comes next on the follower's connections is taken for what it is.
            let client = Client::new(address);
            for _ in 0..3 {
                assert_eq!(client.get("/streams/s/messages?from=0&wait=1").expect(200).messages().len(), 1);
            }
        }
    }
    for address in addresses {
        assert_eq!(texts(&Client::new(address)), ["before"]);
    }
}

/// Whether a stream or the connection is ended, or a request answered with 400 (RFC 7541, appendix A, 12).
fn is_refused(came: &[u8]) -> bool {
    let says_so = |(kind, _, payload): &(u8, u32, &[u8])| match *kind {
        RESET | GO_AWAY => true,
        HEADERS => payload.contains(&0x8c),
        _ => false,
    };
    taken_apart(came).iter().any(says_so)
}

#[test]
fn http2_carries_nothing_into_a_request_of_http1() {
    let (_replicas, addresses, _directory) = pair();
    let good = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", APPEND),
        (":authority", "localhost"),
        ("content-type", "text/plain"),
    ];
    let hostile: &[(&str, &[(&str, &str)])] = &[
        ("a line end in a value", &[("x", "y\r\ncontent-length: 0\r\n\r\nGET / HTTP/1.1")]),
        ("a line end in a name", &[("x: y\r\nz", "1")]),
        ("a colon in a name", &[("x: y", "1")]),
        ("a name in capitals", &[("X-Capital", "1")]),
        ("transfer-encoding", &[("transfer-encoding", "chunked")]),
        ("connection", &[("connection", "content-length")]),
        ("less than is sent", &[("content-length", "3")]),
        ("more than is sent", &[("content-length", "9")]),
        ("no length", &[("content-length", "5, 5")]),
        ("two lengths", &[("content-length", "5"), ("content-length", "3")]),
        ("a line end in the path", &[(":path", "/streams/s/messages HTTP/1.1\r\nx: y")]),
        ("a space in the path", &[(":path", "/streams/s/messages HTTP/1.1")]),
        ("a path twice", &[(":path", "/streams")]),
        ("a line end in the method", &[(":method", "POST / HTTP/1.1\r\nx")]),
        ("a line end in the authority", &[(":authority", "localhost\r\nx: y")]),
    ];
    for address in addresses {
        for (what, more) in hostile {
            let kept = good
                .iter()
                .filter(|(name, _)| *what == "a path twice" || more.iter().all(|(other, _)| other != name));
            // Pseudo fields come first.
            let mut all: Vec<_> = kept.chain(*more).copied().collect();
            all.sort_by_key(|(name, _)| !name.starts_with(':'));
            let mut sent = preface();
            sent.extend(frame(HEADERS, END_HEADERS, 1, &fields(&all)));
            sent.extend(frame(DATA, END_STREAM, 1, b"hello"));
            let mut socket = connect(address);
            socket.write_all(&sent).unwrap();
            // It stays open for writing: a server that meets the end first may close without a word.
            let mut came = Vec::new();
            let mut piece = [0; 4_096];
            while !is_refused(&came)
                && let Ok(read @ 1..) = socket.read(&mut piece)
            {
                came.extend(&piece[..read]);
            }
            assert!(is_refused(&came), "{what}: {:?}", taken_apart(&came));
        }
        assert_eq!(texts(&Client::new(address)), ["before"]);
    }
}
