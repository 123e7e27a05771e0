//! The vault: records in one request; stored batches, or server-sent events, out.

use anyhow::{Context, bail, ensure};
use vault_format::batch::Batch;
use vault_format::header::{Header, Kind};
use vault_format::limits::HEADER_BYTES;
use vault_format::record::Message;

use super::{Answers, Append, Found, How, Read, http};
use crate::connection::{get, post};
use crate::peers::value::{Template, value};

/// Where a message's value begins in an event. The values hold no quote.
const VALUE: &[u8] = b"\"value\":\"";

/// One request at a time: as records where it has many messages, as it is where it has one.
#[derive(Debug)]
pub(crate) struct Appender {
    template: Template,
    http: http::Answers,
    answer: Vec<u8>,
}

impl Appender {
    pub(crate) fn new(stream: &str, producer: u16, messages: usize) -> Self {
        let target = format!("/streams/{stream}/messages");
        let value = value(producer);
        let (mut body, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..messages {
            if messages == 1 {
                body.extend_from_slice(&value);
            } else {
                // The value comes last in a record.
                Message { value: &value, ..Message::default() }.encode(0, &mut body);
            }
            ends.push(body.len());
        }
        let kind = if messages == 1 { "octet-stream" } else { "vnd.messagevault.records" };
        let bytes = post(&target, &format!("application/{kind}"), &body);
        let head = bytes.len() - body.len();
        let values = ends.into_iter().map(|end| head + end - value.len()).collect();
        let template = Template { bytes, values, producer };
        Self { template, http: http::Answers::new(), answer: Vec::new() }
    }
}

impl Append for Appender {
    fn request(&mut self, first: u64, due_us: u64) -> &[u8] {
        self.template.stamp(first, due_us);
        &self.template.bytes
    }

    /// What is refused for now is sent again when the server says so, as a client would.
    fn answers(&mut self, received: &[u8], send: &mut Vec<u8>) -> anyhow::Result<Answers> {
        let answer = &mut self.answer;
        let mut keep = |piece: &[u8]| -> anyhow::Result<()> {
            answer.extend_from_slice(piece);
            Ok(())
        };
        let (bytes, is_whole) = self.http.take(received, &mut keep)?;
        if !is_whole {
            return Ok(Answers { bytes, messages: 0 });
        }
        if let Some(time) = self.http.again_after() {
            self.answer.clear();
            std::thread::sleep(time);
            send.extend_from_slice(&self.template.bytes);
            return Ok(Answers { bytes, messages: 0 });
        }
        let answer: serde_json::Value = serde_json::from_slice(&self.answer)?;
        self.answer.clear();
        let number = |field: &str| answer[field].as_u64().with_context(|| format!("no {field} in {answer}"));
        let messages = usize::try_from(number("next_offset")? - number("first_offset")?)?;
        ensure!(messages == self.template.values.len(), "not all was taken: {answer}");
        Ok(Answers { bytes, messages })
    }
}

/// The whole stream in one request, or its events.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: String,
    how: How,
    http: http::Answers,
    /// What of the body was received and is not whole yet.
    rest: Vec<u8>,
    /// Bytes of a batch that nobody looks at and that are to come.
    passing: u64,
    next_offset: u64,
}

impl Reader {
    pub(crate) fn new(stream: &str, how: How) -> Self {
        let http = http::Answers::new();
        Self { stream: stream.to_owned(), how, http, rest: Vec::new(), passing: 0, next_offset: 0 }
    }
}

impl Read for Reader {
    fn begin(&mut self) -> Vec<u8> {
        let from = format!("/streams/{}/messages?from={}", self.stream, self.next_offset);
        match self.how {
            How::Follow => get(&from, "text/event-stream"),
            How::Skim | How::Whole => {
                let everything = format!("{from}&limit={0}&max_bytes={0}", u64::MAX);
                get(&everything, "application/vnd.messagevault.batches")
            }
        }
    }

    fn take(
        &mut self,
        received: &[u8],
        send: &mut Vec<u8>,
        found: &mut dyn FnMut(Found<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        let Self { how, http, rest, passing, next_offset, .. } = self;
        let before = *next_offset;
        let (bytes, is_whole) = http.take(received, &mut |piece| match how {
            How::Skim => skim(piece, rest, passing, next_offset, found),
            How::Whole => whole(piece, rest, next_offset, found),
            How::Follow => events(piece, rest, next_offset, found),
        })?;
        if is_whole {
            ensure!(self.http.again_after().is_none(), "a read is refused");
            ensure!(self.rest.is_empty(), "a batch is cut off");
            ensure!(self.how != How::Follow, "the events end");
            ensure!(self.next_offset > 0 || before > 0, "the stream is empty");
            send.extend_from_slice(&self.begin());
        }
        Ok(bytes)
    }
}

/// Looks at nothing but the headers.
fn skim(
    mut piece: &[u8],
    rest: &mut Vec<u8>,
    passing: &mut u64,
    next_offset: &mut u64,
    found: &mut dyn FnMut(Found<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    while !piece.is_empty() {
        if *passing > 0 {
            let bytes = usize::try_from(*passing).map_or(piece.len(), |left| left.min(piece.len()));
            *passing -= bytes as u64;
            piece = &piece[bytes..];
            continue;
        }
        let bytes = (HEADER_BYTES - rest.len()).min(piece.len());
        rest.extend_from_slice(&piece[..bytes]);
        piece = &piece[bytes..];
        if rest.len() < HEADER_BYTES {
            break;
        }
        let header = Header::decode(rest)?;
        rest.clear();
        *passing = header.written_bytes() - HEADER_BYTES as u64;
        if header.kind == Kind::Messages {
            *next_offset = header.next_offset().0;
            found(Found::Passed(u64::from(header.record_count)))?;
        }
    }
    Ok(())
}

/// Looks at every message, once a batch is there as a whole.
fn whole(
    mut piece: &[u8],
    rest: &mut Vec<u8>,
    next_offset: &mut u64,
    found: &mut dyn FnMut(Found<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    while !piece.is_empty() {
        let wanted = match rest.len() {
            0..HEADER_BYTES => HEADER_BYTES,
            _ => usize::try_from(Header::decode(rest)?.written_bytes())?,
        };
        let bytes = (wanted - rest.len()).min(piece.len());
        rest.extend_from_slice(&piece[..bytes]);
        piece = &piece[bytes..];
        if rest.len() < HEADER_BYTES || rest.len() as u64 != Header::decode(rest)?.written_bytes() {
            continue;
        }
        let batch = Batch::decode(rest)?;
        if batch.header.kind == Kind::Messages {
            ensure!(batch.header.base_offset.0 == *next_offset, "offset {next_offset} is missing");
            for record in batch.uncompressed()?.records() {
                found(Found::Value(record?.value))?;
            }
            *next_offset = batch.header.next_offset().0;
        }
        rest.clear();
    }
    Ok(())
}

/// Looks at every event that is there as a whole.
fn events(
    piece: &[u8],
    rest: &mut Vec<u8>,
    next_offset: &mut u64,
    found: &mut dyn FnMut(Found<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    rest.extend_from_slice(piece);
    let mut taken = 0;
    while let Some(end) = memchr::memmem::find(&rest[taken..], b"\n\n") {
        let event = &rest[taken..taken + end];
        taken += end + 2;
        let Some(at) = memchr::memmem::find(event, VALUE) else {
            ensure!(memchr::memmem::find(event, b"event: error").is_none(), "the events end with an error");
            continue;
        };
        let Some(id) = event.strip_prefix(b"id: ") else { bail!("an event without an id") };
        let id = super::decimal(id.split(|byte| *byte == b'\n').next().unwrap_or_default())? as u64;
        ensure!(id == *next_offset + 1, "the event {id} comes where {} should", *next_offset + 1);
        *next_offset = id;
        let value = &event[at + VALUE.len()..];
        let end = memchr::memchr(b'"', value).context("a value without an end")?;
        found(Found::Value(&value[..end]))?;
    }
    rest.drain(..taken);
    Ok(())
}

#[cfg(test)]
mod tests {
    use vault_tests::server::{Setup, temporary_directory};

    use super::super::tests::found_in_pieces;
    use super::*;
    use crate::connection::Connection;

    #[test]
    fn stored_batches_and_events_are_read_however_they_are_cut() {
        let directory = temporary_directory();
        let server = Setup::in_directory(directory.path()).start();
        for value in ["a", "", "c"] {
            server.client().append_text("s", value);
        }
        let mut body = Vec::new();
        let request = Reader::new("s", How::Whole).begin();
        let mut connection = Connection::open(server.address(), 64 << 10).unwrap();
        connection.exchange(&request, |bytes| body.extend_from_slice(bytes)).unwrap();
        let length =
            [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat();
        let mut chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in body.chunks(100) {
            chunked.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        for answer in [length, chunked] {
            let make = |how| move || -> Box<dyn Read> { Box::new(Reader::new("s", how)) };
            assert_eq!(found_in_pieces(&make(How::Whole), &answer), ["a", "", "c"]);
            assert_eq!(found_in_pieces(&make(How::Skim), &answer), ["1 passed", "1 passed", "1 passed"]);
        }
    }

    #[test]
    fn what_is_refused_for_now_is_sent_again() {
        let mut appender = Appender::new("s", 0, 1);
        let request = appender.request(7, 8).to_vec();
        let refused = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\ncontent-length: 2\r\n\r\nno";
        let mut send = Vec::new();
        let answers = appender.answers(refused, &mut send).unwrap();
        assert_eq!((answers.bytes, answers.messages), (refused.len(), 0));
        assert_eq!(send, request);
        let taken = b"HTTP/1.1 200 OK\r\ncontent-length: 34\r\n\r\n{\"first_offset\":0,\"next_offset\":1}";
        assert_eq!(appender.answers(taken, &mut send).unwrap().messages, 1);
        for status in
            ["429 Too Many Requests\r\ncontent-length: 0", "503 Service Unavailable\r\nretry-after: 0"]
        {
            let failed = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            assert!(appender.answers(failed.as_bytes(), &mut send).is_err(), "{status}");
        }
    }

    #[test]
    fn events_are_read_however_they_are_cut() {
        let event =
            |id: u64, value: &str| format!("id: {id}\ndata: {{\"offset\":0,\"value\":\"{value}\"}}\n\n");
        let text = format!("{}: nothing new\n\n{}", event(1, "a"), event(2, "b"));
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in text.as_bytes().chunks(7) {
            answer.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        let make = || -> Box<dyn Read> { Box::new(Reader::new("s", How::Follow)) };
        assert_eq!(found_in_pieces(&make, &answer), ["a", "b"]);
        let gap = [b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", event(2, "b").as_bytes()].concat();
        assert!(make().take(&gap, &mut Vec::new(), &mut |_| Ok(())).is_err(), "the first one is missing");
    }
}
