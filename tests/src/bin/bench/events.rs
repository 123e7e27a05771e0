//! Consumers of event streams that cost next to nothing: one thread for all of them, and no more of an event is looked
//! at than its offset.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use tokio::net::TcpStream;

use crate::connection::get;

const BUFFER_BYTES: usize = 256 << 10;

/// What stands in front of an event's id. The messages of the benchmarks hold nothing like it.
const ID: &[u8] = b"id: ";

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

/// One consumer of an event stream.
#[derive(Debug)]
pub(crate) struct Events {
    socket: TcpStream,
    /// What was received and may go on.
    rest: Vec<u8>,
    /// The offset that must come next.
    next: u64,
}

impl Events {
    /// Follows a stream from `from` on.
    pub(crate) async fn open(address: SocketAddr, stream: &str, from: u64) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let request = get(&format!("/streams/{stream}/messages?from={from}"), "text/event-stream");
        socket.writable().await?;
        let sent = socket.try_write(&request)?;
        ensure!(sent == request.len(), "a fresh connection takes a request");
        Ok(Self { socket, rest: Vec::new(), next: from })
    }

    /// The offset behind the last message that came.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Waits for something to come, and names each message. They must follow each other.
    pub(crate) async fn receive(&mut self, arrived: impl FnMut(u64)) -> anyhow::Result<()> {
        self.socket.readable().await?;
        BUFFER.with_borrow_mut(|buffer| {
            let rest = self.rest.len();
            buffer[..rest].copy_from_slice(&self.rest);
            let received = match self.socket.try_read(&mut buffer[rest..]) {
                Ok(0) => anyhow::bail!("the event stream ended"),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let bytes = &buffer[..rest + received];
            let taken = self.take(bytes, arrived)?;
            self.rest.clear();
            self.rest.extend_from_slice(&bytes[taken..]);
            Ok(())
        })
    }

    /// Takes whole events as far as they go: how many bytes.
    fn take(&mut self, bytes: &[u8], mut arrived: impl FnMut(u64)) -> anyhow::Result<usize> {
        for at in memchr::memmem::find_iter(bytes, ID) {
            let number = &bytes[at + ID.len()..];
            let Some(end) = memchr::memchr(b'\n', number) else { return Ok(at) };
            let Some(field) = number.get(end + 1) else { return Ok(at) };
            if *field != b'd' {
                continue;
            }
            let id: u64 = std::str::from_utf8(&number[..end])?.parse().context("an event's id")?;
            ensure!(id == self.next + 1, "offset {} came where {} should come", id - 1, self.next);
            arrived(self.next);
            self.next = id;
        }
        Ok(bytes.len().saturating_sub(ID.len() - 1))
    }
}

#[cfg(test)]
mod tests {
    use vault_tests::server::{Setup, temporary_directory};

    use super::*;

    #[test]
    fn every_message_is_seen_once_and_in_order() {
        let directory = temporary_directory();
        let server = Setup::in_directory(directory.path()).start();
        let client = server.client();
        for n in 0..10 {
            client.append_text("s", &n.to_string());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut events = Events::open(server.address(), "s", 3).await.unwrap();
            let mut seen = Vec::new();
            while events.next() < 10 {
                events.receive(|offset| seen.push(offset)).await.unwrap();
            }
            assert_eq!(seen, (3..10).collect::<Vec<_>>());
            assert!(events.take(b"id: 12\ndata: {}\n\n", |_| {}).is_err(), "one is missing");
            // Cut anywhere.
            let text = b"id: 11\ndata: {}\n\nid: 12\nevent: ping\ndata: {}\n\nid: 12\ndata: {}\n\n";
            for cut in 0..text.len() {
                events.next = 10;
                let taken = events.take(&text[..cut], |_| {}).unwrap();
                events.take(&text[taken..], |_| {}).unwrap();
                assert_eq!(events.next(), 12, "cut at {cut}");
            }
        });
    }
}
