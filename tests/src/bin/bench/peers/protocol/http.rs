//! Answers of HTTP/1.1, taken as they come.

use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// An answer that may be more than what errors are worth reading.
const ERROR_BYTES: usize = 1_000;

const TOO_MANY_REQUESTS: u16 = 429;

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
    /// What the last answer says where it refuses the request for now (429): after how long it may be sent again.
    again_after: Option<Duration>,
}

impl Answers {
    /// Before the first one.
    pub(crate) fn new() -> Self {
        Self { state: State::Head, again_after: None }
    }

    /// After how long the request is to be sent again, where the answer that was just taken refuses it for now.
    pub(crate) fn again_after(&mut self) -> Option<Duration> {
        self.again_after.take()
    }

    /// Takes from the front of what was received, up to the end of an answer at most: how many bytes, and whether the
    /// answer ends there. Any status but 2xx, and 429 with a time to wait, is an error.
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
                    (self.state, self.again_after) = head(&rest[..end], &rest[end + 4..])?;
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

/// What comes behind the head, and how long to wait where it says so.
fn head(head: &[u8], behind: &[u8]) -> anyhow::Result<(State, Option<Duration>)> {
    let text = std::str::from_utf8(head)?;
    let mut status = text.split(' ').skip(1);
    let status: u16 = status.next().and_then(|status| status.parse().ok()).context("no status")?;
    let (mut state, mut again_after) = (None, None);
    for line in text.split("\r\n").skip(1) {
        let (name, value) = line.split_once(':').context("no header")?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            state = Some(State::Length(value.parse()?));
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            state = Some(State::ChunkHead);
        } else if name.eq_ignore_ascii_case("retry-after") && status == TOO_MANY_REQUESTS {
            again_after = Some(Duration::from_secs(value.parse()?));
        }
    }
    let said = String::from_utf8_lossy(&behind[..behind.len().min(ERROR_BYTES)]);
    ensure!((200..300).contains(&status) || again_after.is_some(), "status {status}: {said}");
    let state = state.with_context(|| format!("an answer without a length: {text}"))?;
    Ok((state, again_after))
}
