//! What producers and consumers of each system say and hear, apart from the sockets: so the same threads and the same
//! loops drive every system, and none is held up by a client that does more than it must.

pub(crate) mod http;
pub(crate) mod kafka;
pub(crate) mod nats;
pub(crate) mod redis;
pub(crate) mod vault;

/// How much was used of what was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Answers {
    /// Bytes that need not come again.
    pub(crate) bytes: usize,
    /// Messages that they acknowledge.
    pub(crate) messages: usize,
}

/// One producer's appends to one stream.
pub(crate) trait Append: Send {
    /// What is said once, before the first request; `is_fresh` where nothing was said on the connection yet.
    fn begin(&mut self, _is_fresh: bool) -> Vec<u8> {
        Vec::new()
    }

    /// A request with the messages from number `first` on, which were due then.
    fn request(&mut self, first: u64, due_us: u64) -> &[u8];

    /// Takes whole answers from the front of what was received. What must be said in return goes to `send`. Whatever
    /// is not an acknowledgement is an error.
    fn answers(&mut self, received: &[u8], send: &mut Vec<u8>) -> anyhow::Result<Answers>;
}

/// What a consumer came upon.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A message.
    Value(&'a [u8]),
    /// Messages that were not looked at.
    Passed(u64),
}

/// How a consumer reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    /// From the beginning, and nobody looks at the messages: what the system sends is the figure.
    Skim,
    /// From the beginning, every message, its checksums too.
    Whole,
    /// From the beginning, every message, and what comes as soon as it is there.
    Follow,
}

/// One consumer of one stream.
pub(crate) trait Read: Send {
    /// What is said first.
    fn begin(&mut self) -> Vec<u8>;

    /// Takes what is whole from the front of what was received: how many bytes that is. What must be said to get more
    /// goes to `send`.
    fn take(
        &mut self,
        received: &[u8],
        send: &mut Vec<u8>,
        found: &mut dyn FnMut(Found<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize>;
}

/// A line without its end, and the bytes that it takes with it.
fn line(received: &[u8]) -> Option<(&[u8], usize)> {
    let end = memchr::memmem::find(received, b"\r\n")?;
    Some((&received[..end], end + 2))
}

/// A decimal number.
fn decimal(digits: &[u8]) -> anyhow::Result<usize> {
    Ok(std::str::from_utf8(digits)?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a consumer finds in bytes that come in pieces of every length.
    pub(crate) fn found_in_pieces(make: &dyn Fn() -> Box<dyn Read>, bytes: &[u8]) -> Vec<String> {
        let mut all = None;
        for piece in 1..=bytes.len() {
            let (mut read, mut found, mut rest) = (make(), Vec::new(), Vec::new());
            read.begin();
            for piece in bytes.chunks(piece) {
                rest.extend_from_slice(piece);
                loop {
                    let taken = read.take(&rest, &mut Vec::new(), &mut |it| {
                        found.push(match it {
                            Found::Value(value) => String::from_utf8_lossy(value).into_owned(),
                            Found::Passed(messages) => format!("{messages} passed"),
                        });
                        Ok(())
                    });
                    let taken = taken.unwrap();
                    rest.drain(..taken);
                    if taken == 0 || rest.is_empty() {
                        break;
                    }
                }
            }
            assert!(rest.is_empty(), "{rest:?} is left of pieces of {piece}");
            assert_eq!(*all.get_or_insert_with(|| found.clone()), found, "in pieces of {piece}");
        }
        all.unwrap_or_default()
    }

    /// The same of a producer: how many messages were acknowledged.
    pub(crate) fn acknowledged_in_pieces(append: &mut dyn Append, bytes: &[u8]) -> anyhow::Result<usize> {
        let (mut messages, mut rest) = (0, Vec::new());
        for byte in bytes {
            rest.push(*byte);
            let answers = append.answers(&rest, &mut Vec::new())?;
            rest.drain(..answers.bytes);
            messages += answers.messages;
        }
        assert!(rest.is_empty(), "{rest:?} is left");
        Ok(messages)
    }
}
