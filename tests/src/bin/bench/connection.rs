//! An HTTP/1.1 client that costs next to nothing, so that what is measured is the server: one kept connection, whole
//! requests in one write, answers looked at in a fixed buffer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// Longer than any answer takes, waiting reads included.
const LIMIT: Duration = Duration::from_secs(90);

/// A connection that is kept.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer has been received and not been used.
    start: usize,
    end: usize,
}

#[derive(Clone, Copy)]
enum Length {
    Bytes(u64),
    Chunked,
}

/// A GET of `target`.
pub(crate) fn get(target: &str, accept: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n").into_bytes()
}

/// A POST of `body`, which stands at the end of it.
pub(crate) fn post(target: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

impl Connection {
    /// Connects; `buffer_bytes` are received at once at most.
    pub(crate) fn open(address: SocketAddr, buffer_bytes: usize) -> anyhow::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, LIMIT)?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.set_write_timeout(Some(LIMIT))?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, buffer: vec![0; buffer_bytes], start: 0, end: 0 })
    }

    /// Sends a whole request and gives the body of the answer to `sink`. Any status but 2xx is an error.
    pub(crate) fn exchange(&mut self, request: &[u8], mut sink: impl FnMut(&[u8])) -> anyhow::Result<()> {
        self.send(request)?;
        let (status, length) = self.head()?;
        if !(200..300).contains(&status) {
            let mut said = Vec::new();
            self.body(length, &mut |bytes| said.extend_from_slice(bytes))?;
            bail!("status {status}: {}", String::from_utf8_lossy(&said));
        }
        self.body(length, &mut sink)
    }

    /// Sends a whole request.
    pub(crate) fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.socket.write_all(request).context("sending a request")
    }

    fn body(&mut self, length: Length, sink: &mut impl FnMut(&[u8])) -> anyhow::Result<()> {
        match length {
            Length::Bytes(bytes) => self.take(bytes, sink),
            Length::Chunked => loop {
                let line = self.until(b"\r\n")?;
                let bytes =
                    u64::from_str_radix(std::str::from_utf8(&line)?, 16).context("a chunk's length")?;
                self.take(bytes, sink)?;
                let end = self.until(b"\r\n")?;
                ensure!(end.is_empty(), "a chunk is longer than it says");
                if bytes == 0 {
                    return Ok(());
                }
            },
        }
    }

    fn head(&mut self) -> anyhow::Result<(u16, Length)> {
        let head = String::from_utf8(self.until(b"\r\n\r\n")?)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
        for line in head.lines().skip(1) {
            let (name, value) = line.split_once(':').context("no header")?;
            if name.eq_ignore_ascii_case("content-length") {
                return Ok((status, Length::Bytes(value.trim().parse()?)));
            }
            if name.eq_ignore_ascii_case("transfer-encoding") {
                return Ok((status, Length::Chunked));
            }
        }
        bail!("an answer without a length: {head}")
    }

    /// What comes before `mark`, which is passed over.
    fn until(&mut self, mark: &[u8]) -> anyhow::Result<Vec<u8>> {
        loop {
            let waiting = &self.buffer[self.start..self.end];
            if let Some(at) = waiting.windows(mark.len()).position(|bytes| bytes == mark) {
                let found = waiting[..at].to_vec();
                self.start += at + mark.len();
                return Ok(found);
            }
            self.receive()?;
        }
    }

    fn take(&mut self, mut left: u64, sink: &mut impl FnMut(&[u8])) -> anyhow::Result<()> {
        while left > 0 {
            if self.start == self.end {
                self.receive()?;
            }
            let waiting = self.end - self.start;
            let taken = usize::try_from(left).map_or(waiting, |left| left.min(waiting));
            sink(&self.buffer[self.start..self.start + taken]);
            self.start += taken;
            left -= taken as u64;
        }
        Ok(())
    }

    fn receive(&mut self) -> anyhow::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        ensure!(self.end < self.buffer.len(), "a line is longer than the buffer");
        let bytes = self.socket.read(&mut self.buffer[self.end..]).context("receiving an answer")?;
        ensure!(bytes > 0, "the connection ended inside an answer");
        self.end += bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What a client makes of `answer`, which comes in pieces of `piece` bytes.
    fn answered(answer: &'static [u8], piece: usize) -> anyhow::Result<Vec<u8>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.set_nodelay(true).unwrap();
            let _ = socket.read(&mut [0; 512]).unwrap();
            for piece in answer.chunks(piece) {
                socket.write_all(piece).unwrap();
            }
        });
        let mut body = Vec::new();
        let mut connection = Connection::open(address, 128).unwrap();
        let exchanged = connection.exchange(&get("/", "*/*"), |bytes| body.extend_from_slice(bytes));
        server.join().unwrap();
        exchanged.map(|()| body)
    }

    #[test]
    fn both_kinds_of_answers_are_read_whole() {
        let length: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";
        let chunked: &[u8] =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        for piece in [1, 7, 1_000] {
            for answer in [length, chunked] {
                assert_eq!(answered(answer, piece).unwrap(), b"hello world");
            }
        }
    }

    #[test]
    fn what_is_not_a_whole_answer_is_an_error() {
        for answer in [
            b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello" as &[u8],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\nno",
        ] {
            assert!(answered(answer, 1_000).is_err());
        }
    }
}
