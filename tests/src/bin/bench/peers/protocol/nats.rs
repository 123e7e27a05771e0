//! NATS JetStream, in the text protocol of NATS: a publish with an inbox for its acknowledgement, an atomic batch
//! (from NATS 2.12 on) where there are many, and a pull consumer that needs no acknowledgements.

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::{Answers, Append, Found, How, Read, decimal, line};
use crate::peers::value::{Template, digits, value};

const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}\r\n";

/// What a server takes in one atomic batch at most.
const BATCH_MESSAGES: usize = 1_000;

/// How many messages a consumer asks for at once, and it asks again when half of them have come.
const PULLED_MESSAGES: u64 = 8_000;

/// How long a consumer waits for messages, in ns, before it asks again.
const EXPIRES_NS: u64 = 60_000_000_000;

/// What a server sends.
#[derive(Debug)]
enum Frame<'a> {
    /// Something that needs no answer.
    Nothing,
    Ping,
    /// The headers with their version, none where there are none, and the message.
    Message(&'a [u8], &'a [u8]),
}

/// The frame at the front of what was received, and its bytes. An error of the server's is one here.
fn frame(received: &[u8]) -> anyhow::Result<Option<(Frame<'_>, usize)>> {
    let Some((head, at)) = line(received) else { return Ok(None) };
    let mut words = head.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    match words.next() {
        Some(b"PING") => Ok(Some((Frame::Ping, at))),
        Some(b"INFO" | b"PONG" | b"+OK") => Ok(Some((Frame::Nothing, at))),
        Some(kind @ (b"MSG" | b"HMSG")) => {
            let last = words.next_back().context("a message without a length")?;
            let total = decimal(last)?;
            let headers = match kind {
                b"HMSG" => decimal(words.next_back().context("a message without its headers' length")?)?,
                _ => 0,
            };
            let Some(bytes) = received.get(at..at + total + 2) else { return Ok(None) };
            ensure!(headers <= total, "headers are longer than their message");
            Ok(Some((Frame::Message(&bytes[..headers], &bytes[headers..total]), at + total + 2)))
        }
        _ => bail!("NATS says {:?}", String::from_utf8_lossy(head)),
    }
}

/// A request to the server's API with the answer to an inbox.
pub(crate) fn request(subject: &str, inbox: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!("PUB {subject} {inbox} {}\r\n{body}\r\n", body.len()).into_bytes()
}

/// Asks for what comes to an inbox. Each inbox of a connection has a number of its own, or a name.
fn subscribe(inbox: &str, number: &str) -> String {
    format!("SUB {inbox} {number}\r\n")
}

/// What opens a connection, with answers to one inbox.
pub(crate) fn hello(inbox: &str) -> Vec<u8> {
    format!("{CONNECT}{}", subscribe(inbox, "1")).into_bytes()
}

/// The first answer in what was received, and the bytes up to its end.
pub(crate) fn answer(received: &[u8]) -> anyhow::Result<Option<(Value, usize)>> {
    let mut at = 0;
    while let Some((frame, bytes)) = frame(&received[at..])? {
        at += bytes;
        if let Frame::Message(headers, body) = frame {
            ensure!(headers.is_empty(), "NATS answers {:?}", String::from_utf8_lossy(headers));
            let answer: Value = serde_json::from_slice(body)?;
            ensure!(answer["error"].is_null(), "NATS answers {answer}");
            return Ok(Some((answer, at)));
        }
    }
    Ok(None)
}

/// Publishes that are acknowledged one by one, or atomic batches.
#[derive(Debug)]
pub(crate) struct Appender {
    template: Template,
    stream: String,
    inbox: String,
    is_batch: bool,
    /// Where the number of the batch stands.
    batch_ids: Vec<usize>,
    batch: u64,
}

impl Appender {
    /// `is_atomic`: what is sent together is stored together, and synced once. Where nothing is synced, messages
    /// that are acknowledged one by one are faster.
    pub(crate) fn new(stream: &str, producer: u16, messages: usize, is_atomic: bool) -> Self {
        let inbox = format!("_INBOX.{stream}.{producer}");
        let is_batch = is_atomic && (2..=BATCH_MESSAGES).contains(&messages);
        let value = value(producer);
        let (mut bytes, mut values, mut batch_ids) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=messages {
            if is_batch {
                let commit = if number == messages { "Nats-Batch-Commit: 1\r\n" } else { "" };
                let reply = if number == messages { format!("{inbox} ") } else { String::new() };
                let id = format!("NATS/1.0\r\nNats-Batch-Id: {producer}-{:08}", 0);
                let headers = format!("{id}\r\nNats-Batch-Sequence: {number}\r\n{commit}\r\n");
                let (length, total) = (headers.len(), headers.len() + value.len());
                bytes.extend_from_slice(format!("HPUB {stream} {reply}{length} {total}\r\n").as_bytes());
                batch_ids.push(bytes.len() + id.len() - 8);
                bytes.extend_from_slice(headers.as_bytes());
            } else {
                bytes.extend_from_slice(format!("PUB {stream} {inbox} {}\r\n", value.len()).as_bytes());
            }
            values.push(bytes.len());
            bytes.extend_from_slice(&value);
            bytes.extend_from_slice(b"\r\n");
        }
        let (template, stream) = (Template { bytes, values, producer }, stream.to_owned());
        Self { template, stream, inbox, is_batch, batch_ids, batch: 0 }
    }
}

impl Append for Appender {
    fn begin(&mut self, is_fresh: bool) -> Vec<u8> {
        // Who connects twice loses what was subscribed to before.
        let connect = if is_fresh { CONNECT } else { "" };
        format!("{connect}{}", subscribe(&self.inbox, &self.stream)).into_bytes()
    }

    fn request(&mut self, first: u64, due_us: u64) -> &[u8] {
        self.template.stamp(first, due_us);
        self.batch += 1;
        for at in &self.batch_ids {
            digits(&mut self.template.bytes[*at..at + 8], self.batch);
        }
        &self.template.bytes
    }

    fn answers(&mut self, received: &[u8], send: &mut Vec<u8>) -> anyhow::Result<Answers> {
        let mut answers = Answers { bytes: 0, messages: 0 };
        while let Some((frame, bytes)) = frame(&received[answers.bytes..])? {
            answers.bytes += bytes;
            match frame {
                Frame::Nothing => {}
                Frame::Ping => send.extend_from_slice(b"PONG\r\n"),
                Frame::Message(headers, body) => {
                    let said = String::from_utf8_lossy(if headers.is_empty() { body } else { headers });
                    let answer: Value =
                        serde_json::from_slice(body).with_context(|| format!("NATS: {said}"))?;
                    ensure!(answer["error"].is_null() && answer["seq"].is_u64(), "NATS answers {answer}");
                    let wanted = self.template.values.len();
                    let stored = if self.is_batch { answer["count"].as_u64() } else { Some(1) };
                    let stored = usize::try_from(stored.context("a batch without a count")?)?;
                    ensure!(!self.is_batch || stored == wanted, "not all was taken: {answer}");
                    answers.messages += stored;
                }
            }
        }
        Ok(answers)
    }
}

/// A pull consumer that asks for more in time.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: String,
    consumer: String,
    how: How,
    is_made: bool,
    /// Messages that were asked for and are to come.
    left: u64,
}

impl Reader {
    /// `consumer` names it; no two of a stream have the same name.
    pub(crate) fn new(stream: &str, consumer: String, how: How) -> Self {
        Self { stream: stream.to_owned(), consumer, how, is_made: false, left: 0 }
    }

    fn inbox(&self) -> String {
        format!("_INBOX.{}.{}", self.stream, self.consumer)
    }

    fn pull(&mut self) -> Vec<u8> {
        self.left += PULLED_MESSAGES;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream, self.consumer);
        request(&subject, &self.inbox(), &json!({ "batch": PULLED_MESSAGES, "expires": EXPIRES_NS }))
    }
}

impl Read for Reader {
    fn begin(&mut self) -> Vec<u8> {
        let Self { stream, consumer, .. } = &*self;
        let made = request(
            &format!("$JS.API.CONSUMER.CREATE.{stream}.{consumer}"),
            &self.inbox(),
            &json!({ "stream_name": stream, "config": {
                "name": consumer, "deliver_policy": "all", "ack_policy": "none", "replay_policy": "instant",
                "mem_storage": true, "num_replicas": 1, "max_waiting": 8, "inactive_threshold": EXPIRES_NS,
            }}),
        );
        [hello(&self.inbox()), made].concat()
    }

    fn take(
        &mut self,
        received: &[u8],
        send: &mut Vec<u8>,
        found: &mut dyn FnMut(Found<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        let mut taken = 0;
        while let Some((frame, bytes)) = frame(&received[taken..])? {
            taken += bytes;
            match frame {
                Frame::Nothing => {}
                Frame::Ping => send.extend_from_slice(b"PONG\r\n"),
                Frame::Message(_, body) if !self.is_made => {
                    let made: Value = serde_json::from_slice(body)?;
                    ensure!(made["error"].is_null(), "NATS makes no consumer: {made}");
                    self.is_made = true;
                    send.extend_from_slice(&self.pull());
                }
                Frame::Message(headers, _) if headers.starts_with(b"NATS/1.0 ") => {
                    // What was asked for has expired.
                    ensure!(headers.starts_with(b"NATS/1.0 408"), "{}", String::from_utf8_lossy(headers));
                    self.left = 0;
                    send.extend_from_slice(&self.pull());
                }
                Frame::Message(_, body) => {
                    found(if self.how == How::Skim { Found::Passed(1) } else { Found::Value(body) })?;
                    self.left -= 1;
                    if self.left == PULLED_MESSAGES / 2 {
                        send.extend_from_slice(&self.pull());
                    }
                }
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{acknowledged_in_pieces, found_in_pieces};
    use super::*;

    #[test]
    fn messages_are_read_however_they_are_cut() {
        let answers = "INFO {}\r\nMSG _INBOX.s.c 1 12\r\n{\"name\":\"c\"}\r\nMSG s 1 4\r\na\r\nb\r\nPING\r\n\
                       MSG s 1 $JS.ACK.s.c.1 1\r\nc\r\nHMSG s 1 $JS.ACK.s.c.2 24 25\r\nNATS/1.0\r\nA: 1234567\r\n\r\nd\r\n\
                       HMSG _INBOX.s.c 1 32 32\r\nNATS/1.0 408 Request Timeout\r\n\r\n\r\n";
        let make = || -> Box<dyn Read> { Box::new(Reader::new("s", "c".to_owned(), How::Whole)) };
        assert_eq!(found_in_pieces(&make, answers.as_bytes()), ["a\r\nb", "c", "d"]);
    }

    #[test]
    fn a_batch_is_acknowledged_as_a_whole_and_other_messages_one_by_one() {
        let ack = |body: &str| format!("MSG _INBOX.s.1 1 {}\r\n{body}\r\n", body.len());
        let one = ack("{\"stream\":\"s\",\"seq\":7}");
        let all = ack("{\"stream\":\"s\",\"seq\":9,\"batch\":\"1-1\",\"count\":3}");
        let error = ack("{\"error\":{\"code\":503,\"description\":\"no room\"},\"stream\":\"s\",\"seq\":0}");
        let mut single = Appender::new("s", 1, 1, true);
        assert_eq!(acknowledged_in_pieces(&mut single, format!("+OK\r\n{one}{one}").as_bytes()).unwrap(), 2);
        let mut batch = Appender::new("s", 1, 3, true);
        assert_eq!(acknowledged_in_pieces(&mut batch, all.as_bytes()).unwrap(), 3);
        assert!(acknowledged_in_pieces(&mut batch, one.as_bytes()).is_err(), "an answer without a count");
        assert!(acknowledged_in_pieces(&mut single, error.as_bytes()).is_err());
        assert!(acknowledged_in_pieces(&mut single, b"-ERR 'Stale Connection'\r\n").is_err());
        let text = String::from_utf8(batch.request(0, 0).to_vec()).unwrap();
        assert_eq!(text.matches("Nats-Batch-Id: 1-00000001\r\n").count(), 3);
        assert_eq!(text.matches(" _INBOX.s.1 ").count(), 1, "the last one alone is answered");
    }
}
