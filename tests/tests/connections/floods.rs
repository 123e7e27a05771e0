//! Floods of headers and parameters, and connections that never come to the point.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use vault_tests::certificates::Certificates;
use vault_tests::curl::curl;
use vault_tests::raw::{connect, exchange, read_to_end, status_of};
use vault_tests::server::{Server, Setup, temporary_directory};

fn get(address: SocketAddr, target: &str, headers: &str) -> u16 {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    status_of(&exchange(address, request.as_bytes()))
}

fn header_lines(count: usize, bytes: usize) -> String {
    (0..count).map(|index| format!("x-{index}: {}\r\n", "v".repeat(bytes))).collect()
}

fn assert_well(server: &Server) {
    let started = Instant::now();
    server.client().append_text("s", "still here");
    assert!(started.elapsed() < Duration::from_secs(2), "others waited for {:?}", started.elapsed());
}

#[test]
fn headers_have_limits_in_number_and_size() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let address = server.address();
    // Two of the hundred are those of every request.
    for (headers, status) in [
        (header_lines(98, 1), 200),
        (header_lines(99, 1), 431),
        (header_lines(10_000, 1), 431),
        (header_lines(1, 60_000), 200),
        (header_lines(1, 140_000), 431),
        (header_lines(90, 2_000), 431),
    ] {
        assert_eq!(get(address, "/livez", &headers), status, "{} bytes of headers", headers.len());
    }
    assert_well(&server);
}

#[test]
fn headers_have_limits_in_http2_too() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let url = format!("http://{}/livez", server.address());
    let ask = |bytes: usize| {
        let header = format!("x-flood: {}", "v".repeat(bytes));
        curl(["--http2-prior-knowledge", "--header", &header, &url])
    };
    assert_eq!(ask(50_000).status, 200);
    let refused = ask(70_000);
    assert!(refused.status == 431 || refused.status == 0, "{refused:?}");
    assert_well(&server);
}

#[test]
fn queries_have_a_limit_and_parameters_are_known_ones() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let address = server.address();
    server.client().append_text("s", "hello");
    let many = (0..5_000).map(|index| format!("p{index}=1&")).collect::<String>();
    let same = "limit=1&".repeat(5_000);
    for (query, statuses) in [
        (many.as_str(), [400].as_slice()),
        (&same, &[400]),
        (&"limit=1&".repeat(10_000), &[414, 431]),
        (&format!("from={}", "9".repeat(30_000)), &[400]),
        (&format!("from={}", "%41".repeat(10_000)), &[400]),
    ] {
        let status = get(address, &format!("/streams/s/messages?{query}"), "");
        assert!(statuses.contains(&status), "{} bytes of query: {status}", query.len());
    }
    assert_well(&server);
}

#[test]
fn whoever_begins_and_does_not_go_on_is_cut_off() {
    let (certificates, directory) = (Certificates::new(), temporary_directory());
    let setup = Setup::in_directory(directory.path()).with(["--idle-timeout", "2s"]);
    let server = setup.start();
    let tls = |name: &str| certificates.path(name).into_os_string().into_string().unwrap();
    let other = temporary_directory();
    let encrypted = Setup::in_directory(other.path())
        .with(["--idle-timeout", "2s", "--tls-cert", &tls("leaf"), "--tls-key", &tls("key")])
        .start();
    // Nothing; a beginning that may become HTTP/2; its preface and no more; half a head; half a handshake.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for (server, beginning, limit) in [
        (&server, b"".as_slice(), 10),
        (&server, b"PR", 10),
        (&server, preface, 20),
        (&server, b"GET /livez HTTP/1.1\r\nHost", 10),
        (&encrypted, b"", 10),
        (&encrypted, &[0x16, 3, 1, 2], 20),
    ] {
        let mut socket = connect(server.address());
        socket.write_all(beginning).unwrap();
        let started = Instant::now();
        drop(read_to_end(&mut socket));
        let took = started.elapsed();
        assert!(took < Duration::from_secs(limit), "{beginning:?}: open for {took:?}");
    }
    assert_well(&server);
}
