//! Redis Streams: a message is an entry with one field, `v`, and an id that the server gives.

use anyhow::{Context, bail, ensure};

use super::{Answers, Append, Found, How, Read, decimal, line};
use crate::peers::value::{Template, value};

/// How many entries are asked for at once: 4 MiB of messages, so that what passes between two answers is little.
const PAGE_MESSAGES: usize = 4_000;

/// How long a consumer waits for a message, in ms, before it asks again.
const BLOCK_MS: &str = "60000";

/// A command, as RESP has it.
pub(crate) fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// One `XADD`, or a transaction of several: what is sent together is then written and synced once. Without `MULTI`,
/// Redis syncs after every 16 KiB that it has received.
#[derive(Debug)]
pub(crate) struct Appender {
    template: Template,
}

impl Appender {
    pub(crate) fn new(stream: &str, producer: u16, messages: usize) -> Self {
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        let value = value(producer);
        let one = command(&[b"XADD", stream.as_bytes(), b"*", b"v", &value]);
        let is_transaction = messages > 1;
        if is_transaction {
            bytes.extend_from_slice(&command(&[b"MULTI"]));
        }
        for _ in 0..messages {
            bytes.extend_from_slice(&one);
            values.push(bytes.len() - value.len() - 2);
        }
        if is_transaction {
            bytes.extend_from_slice(&command(&[b"EXEC"]));
        }
        Self { template: Template { bytes, values, producer } }
    }
}

impl Append for Appender {
    fn request(&mut self, first: u64, due_us: u64) -> &[u8] {
        self.template.stamp(first, due_us);
        &self.template.bytes
    }

    fn answers(&mut self, received: &[u8], _send: &mut Vec<u8>) -> anyhow::Result<Answers> {
        let mut answers = Answers { bytes: 0, messages: 0 };
        loop {
            let rest = &received[answers.bytes..];
            match rest.first() {
                // The transaction has begun, a command waits for its end.
                Some(b'+') => {
                    let Some((_, bytes)) = line(rest) else { break };
                    answers.bytes += bytes;
                }
                // It has come; its entries follow.
                Some(b'*') => {
                    let Some((entries, bytes)) = array(rest)? else { break };
                    ensure!(entries == Some(self.template.values.len()), "Redis has stored {entries:?}");
                    answers.bytes += bytes;
                }
                _ => {
                    let Some((id, bytes)) = bulk(rest)? else { break };
                    id.context("an entry without an id")?;
                    answers.bytes += bytes;
                    answers.messages += 1;
                }
            }
        }
        Ok(answers)
    }
}

/// Something, and the bytes that it takes.
type Taken<T> = (T, usize);

/// An entry's id and value.
type Entry<'a> = (&'a [u8], &'a [u8]);

/// A bulk string, or none, and the bytes that it takes.
fn bulk(received: &[u8]) -> anyhow::Result<Option<Taken<Option<&[u8]>>>> {
    let Some((head, bytes)) = line(received) else { return Ok(None) };
    match head.split_first() {
        Some((b'$', b"-1")) => Ok(Some((None, bytes))),
        Some((b'$', length)) => {
            let length = decimal(length)?;
            let Some(value) = received.get(bytes..bytes + length + 2) else { return Ok(None) };
            Ok(Some((Some(&value[..length]), bytes + length + 2)))
        }
        _ => bail!("Redis answers {:?}", String::from_utf8_lossy(head)),
    }
}

/// An array's length, or none.
fn array(received: &[u8]) -> anyhow::Result<Option<Taken<Option<usize>>>> {
    let Some((head, bytes)) = line(received) else { return Ok(None) };
    match head.split_first() {
        Some((b'*', b"-1")) => Ok(Some((None, bytes))),
        Some((b'*', length)) => Ok(Some((Some(decimal(length)?), bytes))),
        _ => bail!("Redis answers {:?}", String::from_utf8_lossy(head)),
    }
}

/// `XREAD` from one id to the next.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: String,
    how: How,
    last_id: Vec<u8>,
    /// Entries of the answer that are to come; `None` where its head is.
    left: Option<usize>,
}

impl Reader {
    pub(crate) fn new(stream: &str, how: How) -> Self {
        Self { stream: stream.to_owned(), how, last_id: b"0-0".to_vec(), left: None }
    }

    /// Array of streams, array of name and entries, the name, array of entries.
    fn head(received: &[u8]) -> anyhow::Result<Option<Taken<Option<usize>>>> {
        let Some((streams, mut at)) = array(received)? else { return Ok(None) };
        if streams.is_none() {
            return Ok(Some((None, at)));
        }
        let Some((_, bytes)) = array(&received[at..])? else { return Ok(None) };
        at += bytes;
        let Some((_, bytes)) = bulk(&received[at..])? else { return Ok(None) };
        at += bytes;
        let Some((entries, bytes)) = array(&received[at..])? else { return Ok(None) };
        Ok(Some((entries, at + bytes)))
    }

    /// Array of id and fields, the id, array of names and values, the name, the value: id, value, bytes.
    fn entry(received: &[u8]) -> anyhow::Result<Option<Taken<Entry<'_>>>> {
        let Some((_, mut at)) = array(received)? else { return Ok(None) };
        let Some((id, bytes)) = bulk(&received[at..])? else { return Ok(None) };
        at += bytes;
        let Some((_, bytes)) = array(&received[at..])? else { return Ok(None) };
        at += bytes;
        let Some((_, bytes)) = bulk(&received[at..])? else { return Ok(None) };
        at += bytes;
        let Some((value, bytes)) = bulk(&received[at..])? else { return Ok(None) };
        Ok(Some(((id.context("an entry without an id")?, value.context("no value")?), at + bytes)))
    }
}

impl Read for Reader {
    fn begin(&mut self) -> Vec<u8> {
        let count = PAGE_MESSAGES.to_string();
        let mut words: Vec<&[u8]> = vec![b"XREAD", b"COUNT", count.as_bytes()];
        if self.how == How::Follow {
            words.extend([b"BLOCK" as &[u8], BLOCK_MS.as_bytes()]);
        }
        words.extend([b"STREAMS" as &[u8], self.stream.as_bytes(), &self.last_id]);
        command(&words)
    }

    fn take(
        &mut self,
        received: &[u8],
        send: &mut Vec<u8>,
        found: &mut dyn FnMut(Found<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        let mut taken = 0;
        loop {
            let rest = &received[taken..];
            match self.left {
                None => {
                    let Some((entries, bytes)) = Self::head(rest)? else { return Ok(taken) };
                    ensure!(entries.is_some() || self.how == How::Follow, "the stream ends early");
                    taken += bytes;
                    self.left = Some(entries.unwrap_or(0));
                }
                Some(0) => {
                    self.left = None;
                    send.extend_from_slice(&self.begin());
                    return Ok(taken);
                }
                Some(left) => {
                    let Some(((id, value), bytes)) = Self::entry(rest)? else { return Ok(taken) };
                    if left == 1 {
                        self.last_id = id.to_vec();
                    }
                    self.left = Some(left - 1);
                    taken += bytes;
                    found(if self.how == How::Skim { Found::Passed(1) } else { Found::Value(value) })?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{acknowledged_in_pieces, found_in_pieces};
    use super::*;

    #[test]
    fn entries_are_read_however_they_are_cut() {
        let entry = |id: &str, value: &str| {
            let length = value.len();
            format!("*2\r\n$3\r\n{id}\r\n*2\r\n$1\r\nv\r\n${length}\r\n{value}\r\n")
        };
        let one = format!("*1\r\n*2\r\n$1\r\ns\r\n*1\r\n{}", entry("1-0", "a\r\nb"));
        let two = format!("*1\r\n*2\r\n$1\r\ns\r\n*2\r\n{}{}", entry("1-1", "c"), entry("2-0", ""));
        let answers = format!("{one}*-1\r\n{two}");
        let make = || -> Box<dyn Read> { Box::new(Reader::new("s", How::Follow)) };
        assert_eq!(found_in_pieces(&make, answers.as_bytes()), ["a\r\nb", "c", ""]);
        let mut reader = Reader::new("s", How::Whole);
        let mut send = Vec::new();
        reader.take(two.as_bytes(), &mut send, &mut |_| Ok(())).unwrap();
        assert!(
            send.ends_with(b"$7\r\nSTREAMS\r\n$1\r\ns\r\n$3\r\n2-0\r\n"),
            "it goes on behind the last one"
        );
        assert!(reader.take(b"*-1\r\n", &mut send, &mut |_| Ok(())).is_err(), "the end came early");
    }

    #[test]
    fn what_is_sent_together_is_stored_together() {
        let mut one = Appender::new("s", 1, 1);
        assert_eq!(acknowledged_in_pieces(&mut one, b"$3\r\n1-0\r\n").unwrap(), 1);
        let mut two = Appender::new("s", 1, 2);
        let text = String::from_utf8(two.request(0, 0).to_vec()).unwrap();
        assert!(text.starts_with("*1\r\n$5\r\nMULTI\r\n*5\r\n"), "{text}");
        assert!(text.ends_with("\r\n*1\r\n$4\r\nEXEC\r\n"), "{text}");
        let queued = "+OK\r\n+QUEUED\r\n+QUEUED\r\n";
        let mut acknowledged =
            |rest: &str| acknowledged_in_pieces(&mut two, format!("{queued}{rest}").as_bytes());
        assert_eq!(acknowledged("").unwrap(), 0, "nothing is stored yet");
        assert_eq!(acknowledged("*2\r\n$3\r\n1-0\r\n$3\r\n1-1\r\n").unwrap(), 2);
        assert!(acknowledged("*-1\r\n").is_err());
        assert!(acknowledged("*1\r\n$3\r\n1-0\r\n").is_err());
        let full = "-EXECABORT Transaction discarded because of previous errors.\r\n";
        assert!(acknowledged(full).unwrap_err().to_string().contains("EXECABORT"));
    }
}
