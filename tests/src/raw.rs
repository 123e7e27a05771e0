//! Requests byte by byte, for clients that misbehave.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::wait::LONG;

/// A connection on which every read and write ends after a while.
#[must_use]
pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, LONG).expect("the server takes connections");
    socket.set_read_timeout(Some(LONG)).expect("a time limit that is not zero");
    socket.set_write_timeout(Some(LONG)).expect("a time limit that is not zero");
    socket.set_nodelay(true).expect("a TCP socket");
    socket
}

/// Sends `request` as it stands and reads all that comes until the server closes.
#[must_use]
pub fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut socket = connect(address);
    socket.write_all(request).expect("the server reads");
    String::from_utf8_lossy(&read_to_end(&mut socket)).into_owned()
}

/// A request for `target`, exactly as given: no library tidies it up.
#[must_use]
pub fn request(address: SocketAddr, method: &str, target: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    let head = format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    let answer = exchange(address, format!("{head}{body}").as_bytes());
    (status_of(&answer), answer)
}

/// The status in the first line of an answer.
#[must_use]
pub fn status_of(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("not an answer: {answer:?}"))
}

/// All that comes until the end of the connection, however it ends; panics when it does not end.
#[must_use]
pub fn read_to_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut out = Vec::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        match socket.read(&mut piece) {
            Ok(0) => return out,
            Ok(bytes) => out.extend_from_slice(&piece[..bytes]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the connection did not end: {}", String::from_utf8_lossy(&out));
            }
            Err(_) => return out,
        }
    }
}

/// Whether the other side has ended the connection, looked at without waiting long. What it sent is thrown away.
#[must_use]
pub fn is_closed(socket: &mut TcpStream) -> bool {
    socket.set_read_timeout(Some(Duration::from_millis(1))).expect("a time limit that is not zero");
    let mut piece = [0; 4096];
    match socket.read(&mut piece) {
        Ok(bytes) => bytes == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// Allows this process as many open files as the system lets it, and panics where that is not `files`.
pub fn allow_open_files(files: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    assert!(maximum >= files, "this test opens {files} files, {maximum} are allowed: raise `ulimit -Hn`");
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("a soft limit may be raised to the hard one");
}
