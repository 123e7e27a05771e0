//! Answers of HTTP/1.1, taken as they come.

use anyhow::{Context, bail, ensure};

/// An answer that may be more than what errors are worth reading.
const ERROR_BYTES: usize = 1_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Head,
    /// So many bytes of the body are to come.
    Length(u64),
    ChunkHead,
    /// So many bytes of the chunk are to come.
    Chunk(u64),
    ChunkEnd,
    LastEnd,
}

/// The answers on one connection.
#[derive(Debug)]
pub(crate) struct Answers {
    state: State,
}

impl Answers {
    /// Before the first one.
    pub(crate) fn new() -> Self {
        Self { state: State::Head }
    }

    /// Takes from the front of what was received, up to the end of an answer at most: how many bytes, and whether the
    /// answer ends there. Any status but 2xx is an error.
    pub(crate) fn take(
        &mut self,
        received: &[u8],
        body: &mut dyn FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<(usize, bool)> {
        let mut taken = 0;
        loop {
            let rest = &received[taken..];
            match self.state {
                State::Head => {
                    let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") else {
                        return Ok((taken, false));
                    };
                    self.state = head(&rest[..end], &rest[end + 4..])?;
                    taken += end + 4;
                }
                State::Length(0) => {
                    self.state = State::Head;
                    return Ok((taken, true));
                }
                State::Length(left) | State::Chunk(left) if left > 0 => {
                    let bytes = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    if bytes == 0 {
                        return Ok((taken, false));
                    }
                    body(&rest[..bytes])?;
                    taken += bytes;
                    let left = left - bytes as u64;
                    self.state = match self.state {
                        State::Length(_) => State::Length(left),
                        _ => State::Chunk(left),
                    };
                }
                State::Chunk(_) => self.state = State::ChunkEnd,
                State::Length(_) => bail!("a length is zero or more"),
                State::ChunkHead | State::ChunkEnd | State::LastEnd => {
                    let Some((line, bytes)) = super::line(rest) else { return Ok((taken, false)) };
                    taken += bytes;
                    match self.state {
                        State::ChunkHead => {
                            let text = std::str::from_utf8(line)?;
                            let length = u64::from_str_radix(text, 16).context("a chunk's length")?;
                            self.state = if length == 0 { State::LastEnd } else { State::Chunk(length) };
                        }
                        State::LastEnd => {
                            ensure!(line.is_empty(), "a trailer, which nobody asked for");
                            self.state = State::Head;
                            return Ok((taken, true));
                        }
                        _ => {
                            ensure!(line.is_empty(), "a chunk is longer than it says");
                            self.state = State::ChunkHead;
                        }
                    }
                }
            }
        }
    }
}

fn head(head: &[u8], behind: &[u8]) -> anyhow::Result<State> {
    let text = std::str::from_utf8(head)?;
    let mut status = text.split(' ').skip(1);
    let status: u16 = status.next().and_then(|status| status.parse().ok()).context("no status")?;
    let said = String::from_utf8_lossy(&behind[..behind.len().min(ERROR_BYTES)]);
    ensure!((200..300).contains(&status), "status {status}: {said}");
    for line in text.split("\r\n").skip(1) {
        let (name, value) = line.split_once(':').context("no header")?;
        if name.eq_ignore_ascii_case("content-length") {
            return Ok(State::Length(value.trim().parse()?));
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(State::ChunkHead);
        }
    }
    bail!("an answer without a length: {text}")
}
