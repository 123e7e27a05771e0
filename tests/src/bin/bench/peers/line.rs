//! The sockets: connections that block, and what a producer and a consumer do with them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::protocol::{Append, Found, Read};

/// Longer than any answer takes.
const LIMIT: Duration = Duration::from_secs(90);

/// What is received at once at most. It grows where something must be there as a whole that is longer.
const BUFFER_BYTES: usize = 256 << 10;

/// One connection, and what has come over it.
#[derive(Debug)]
pub(crate) struct Line {
    socket: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Line {
    /// Connects.
    pub(crate) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, LIMIT)?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.set_write_timeout(Some(LIMIT))?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0 })
    }

    /// Sends all of it.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.socket.write_all(bytes).context("sending")
    }

    /// What has come and was not taken.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Bytes at the front that need not come again.
    pub(crate) fn taken(&mut self, bytes: usize) {
        self.start += bytes;
        assert!(self.start <= self.end, "no more is taken than has come");
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Waits for more.
    pub(crate) fn receive(&mut self) -> anyhow::Result<()> {
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end > self.buffer.len() / 2 {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
        let bytes = self.socket.read(&mut self.buffer[self.end..]).context("receiving")?;
        ensure!(bytes > 0, "the connection was closed");
        self.end += bytes;
        Ok(())
    }
}

/// Microseconds up to then since the program measures: what messages carry as their time.
pub(crate) fn micros(at: Instant) -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(at.saturating_duration_since(*BEGAN).as_micros()).unwrap_or(u64::MAX)
}

/// Sends a request that was due then, and waits until all its messages are acknowledged.
pub(crate) fn append(
    line: &mut Line,
    producer: &mut dyn Append,
    first: u64,
    messages: usize,
    due: Instant,
) -> anyhow::Result<()> {
    line.send(producer.request(first, micros(due)))?;
    let mut send = Vec::new();
    let mut acknowledged = 0;
    loop {
        let answers = producer.answers(line.waiting(), &mut send)?;
        line.taken(answers.bytes);
        acknowledged += answers.messages;
        if !send.is_empty() {
            line.send(&send)?;
            send.clear();
        }
        ensure!(acknowledged <= messages, "{acknowledged} of {messages} messages were acknowledged");
        if acknowledged == messages {
            return Ok(());
        }
        if answers.bytes == 0 || line.waiting().is_empty() {
            line.receive()?;
        }
    }
}

/// Reads on a fresh connection until so many messages were found: how many there were up to the end of the batch.
pub(crate) fn read(
    address: SocketAddr,
    consumer: &mut dyn Read,
    wanted: u64,
    each: &mut dyn FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let mut line = Line::open(address)?;
    line.send(&consumer.begin())?;
    let (mut found, mut send) = (0, Vec::new());
    while found < wanted {
        let taken = consumer.take(line.waiting(), &mut send, &mut |it| match it {
            Found::Value(value) => {
                found += 1;
                each(value)
            }
            Found::Passed(messages) => {
                found += messages;
                Ok(())
            }
        })?;
        line.taken(taken);
        // Nobody asks for more once everything is there.
        if !send.is_empty() && found < wanted {
            line.send(&send)?;
        }
        send.clear();
        if found < wanted && (taken == 0 || line.waiting().is_empty()) {
            line.receive()?;
        }
    }
    Ok(found)
}
