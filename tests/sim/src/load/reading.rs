//! Clients that read.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, StatusCode};
use vault_client::simulated::Network;
use vault_client::{Offset, ReadError, Received, Start, Timestamp};
use vault_tests::history::{Event, Placed, Read};

use super::{Load, Stream, collect, id_of};
use crate::chance::Dice;
use crate::network::Seen;
use crate::world::Place;

/// How many messages of a reader are put down at once.
const READ_AT_ONCE: usize = 200;

/// How long a follower may take to reach the end once nobody appends any more and nothing is wrong: a request whose
/// server died is given up after 20 s, and one to a stream whose rest retention deleted is answered after 15 s.
const CATCH_UP_MS: u64 = 45_000;

/// How long somebody who looks now and then waits for an answer.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);

fn placed(received: &Received) -> Placed {
    Placed { offset: received.offset().0, timestamp: received.timestamp().0, id: id_of(received.value()) }
}

/// What a reader has seen since it was last put down.
struct Part {
    begun_ms: u64,
    from: u64,
    messages: Vec<Placed>,
}

impl Part {
    fn next(&self) -> u64 {
        self.messages.last().map_or(self.from, |last| last.offset + 1)
    }
}

impl Load {
    /// Reads all that comes, from the beginning, until nobody appends any more, and has caught up then.
    pub async fn follow(self, name: String, stream: Stream, mut dice: Dice) {
        let client = self.client(&mut dice, Duration::from_secs(60));
        let reading = client.reader(&stream.name).follow().retry_time(None);
        let mut reader = if stream.is_trimmed() { reading.skip_deleted() } else { reading }.start();
        let mut part = Part { begun_ms: self.world.now_ms(), from: 0, messages: Vec::new() };
        loop {
            let next = tokio::time::timeout(Duration::from_secs(1), reader.next()).await;
            let message = match next {
                Ok(Some(Ok(message))) => Some(placed(&message)),
                Ok(Some(Err(error))) => {
                    self.world.complain(format!("{name} cannot read on: {error}"));
                    break;
                }
                Ok(None) => {
                    self.world.complain(format!("{name} came to an end"));
                    break;
                }
                Err(_) => None,
            };
            let gap = message.as_ref().is_some_and(|new| new.offset != part.next());
            if part.messages.len() >= READ_AT_ONCE || (gap && stream.is_trimmed()) {
                part = self.record_part(&name, &stream, part);
            }
            part.messages.extend(message);
            if gap && stream.is_trimmed() {
                // By now what was passed over must have been deleted.
                part = self.record_part(&name, &stream, part);
            }
            // What retention deleted before it was read does not come any more.
            let skipped = reader.end_offset().filter(|_| stream.is_trimmed() && reader.waits());
            let next = part.next().max(skipped.map_or(0, |end| end.0));
            if let Some((since_ms, end)) = self.reached.settled(&stream.name)
                && (next >= end || self.world.now_ms() > since_ms + CATCH_UP_MS)
            {
                // All that was acknowledged by then it must have seen.
                let end_offset = Some(next);
                let last = self.read_of(&name, &stream, since_ms, part);
                return self.record_read(Read { strong: true, end_offset, ..last });
            }
        }
        self.record_part(&name, &stream, part);
    }

    fn read_of(&self, reader: &str, stream: &Stream, begun_ms: u64, part: Part) -> Read {
        Read {
            stream: stream.name.clone(),
            reader: reader.to_owned(),
            begun_ms,
            ended_ms: self.world.now_ms(),
            from: Some(part.from),
            skips: stream.is_trimmed(),
            messages: part.messages,
            ..Read::default()
        }
    }

    /// Puts down what was read so far. Reading goes on behind it.
    fn record_part(&self, name: &str, stream: &Stream, part: Part) -> Part {
        let (from, begun_ms) = (part.next(), part.begun_ms);
        self.record_read(self.read_of(name, stream, begun_ms, part));
        Part { begun_ms: self.world.now_ms(), from, messages: Vec::new() }
    }

    fn record_read(&self, read: Read) {
        let Read { stream, reader, messages, .. } = &read;
        self.world.trace(format_args!("{reader} has read {} messages of {stream}", messages.len()));
        self.world.record(Event::Read(read));
    }

    /// Reads now and then: from an offset to the end, from a time on, and strongly.
    pub async fn look(self, name: String, stream: Stream, mut dice: Dice) {
        let network = self.network();
        let mut end = 0;
        while !self.is_over() {
            self.pause(&mut dice, 2_500).await;
            if dice.per_mille(500) {
                end = self.look_strongly(&network, &name, &stream, end, &mut dice).await;
            } else {
                // A dead server whose last words got lost would be waited for longer than most runs last.
                let looking = self.look_weakly(&name, &stream, end, &mut dice);
                let _ = tokio::time::timeout(LOOK_PATIENCE, looking).await;
            }
        }
    }

    async fn look_weakly(&self, name: &str, stream: &Stream, end: u64, dice: &mut Dice) {
        let begun_ms = self.world.now_ms();
        let client = self.client(dice, Duration::from_secs(5));
        let since = (!stream.is_trimmed() && dice.per_mille(400)).then(|| {
            let ago_ms = dice.below(20_000);
            self.world.wall_clock(Place::Clients).0 - ago_ms
        });
        let offset = since.is_none().then(|| dice.below(end + 1));
        let start = match (since, offset) {
            (Some(since), _) => Start::Time(Timestamp(since)),
            (None, offset) => Start::Offset(Offset(offset.unwrap_or(0))),
        };
        let reading = client.reader(&stream.name).from(start);
        let mut reader = if stream.is_trimmed() { reading.skip_deleted() } else { reading }.start();
        let mut part = Part { begun_ms, from: offset.unwrap_or(0), messages: Vec::new() };
        let mut whole = true;
        while let Some(next) = reader.next().await {
            match next {
                Ok(message) => {
                    let new = placed(&message);
                    let gap = new.offset != part.next();
                    if gap && stream.is_trimmed() {
                        part = self.record_part(name, stream, part);
                    }
                    part.messages.push(new);
                    if gap && stream.is_trimmed() {
                        part = self.record_part(name, stream, part);
                    }
                }
                Err(ReadError::Request(error)) => {
                    whole = false;
                    self.expect_failure(&error, &["beyond_tail"]);
                    break;
                }
                Err(error) => {
                    self.world.complain(format!("{name} cannot read: {error}"));
                    break;
                }
            }
        }
        self.world.trace(format_args!("{name} {start:?}: whole: {whole}"));
        let read = self.read_of(name, stream, begun_ms, part);
        let from = read.from.filter(|_| since.is_none());
        self.record_read(Read { since, from, ..read });
    }

    /// Reads the newest messages strongly. Answers where the stream ends.
    async fn look_strongly(
        &self,
        network: &Seen,
        name: &str,
        stream: &Stream,
        end: u64,
        dice: &mut Dice,
    ) -> u64 {
        let begun_ms = self.world.now_ms();
        let from = end.saturating_sub(dice.below(30));
        let path = format!("/streams/{}/messages?consistency=strong&clamp=true&from={from}", stream.name);
        let request = Request::get(path).header("accept", "application/x-ndjson");
        let request = request.body(Bytes::new()).expect("the request is right");
        let server = usize::try_from(dice.below(self.servers as u64)).expect("few");
        let asked = async {
            let (head, body) = network.send(server, request).await.ok()?.into_parts();
            Some((head.status, head.headers, collect(body).await.ok()?))
        };
        let Ok(Some((status, headers, body))) = tokio::time::timeout(LOOK_PATIENCE, asked).await else {
            return end;
        };
        self.world.trace(format_args!("{name} strongly from {from}: {status}"));
        if status != StatusCode::OK {
            return end;
        }
        let asked = self.read_of(name, stream, begun_ms, Part { begun_ms, from, messages: Vec::new() });
        let read = Read { server: Some(server), ..asked.answered(&headers, &body, id_of) };
        let end_offset = read.end_offset.unwrap_or(end);
        self.reached.note(&stream.name, end_offset);
        self.record_read(read);
        end_offset.max(end)
    }

    /// Reads the whole stream, puts that down, and says why not where something is in the way.
    pub async fn read_what_is_there(&self, reader: &str, stream: &Stream) -> Option<ReadError> {
        let begun_ms = self.world.now_ms();
        let client = self.client_of(0..self.servers, Duration::from_secs(30));
        let reading = client.reader(&stream.name);
        let mut messages = if stream.is_trimmed() { reading.skip_deleted() } else { reading }.start();
        let mut part = Part { begun_ms, from: 0, messages: Vec::new() };
        let mut error = None;
        while let Some(next) = messages.next().await {
            match next {
                Ok(message) => part.messages.push(placed(&message)),
                Err(failed) => error = Some(failed),
            }
            if error.is_some() {
                break;
            }
        }
        // Retention may have left nothing.
        let is_whole = error.is_none() && !(stream.is_trimmed() && part.messages.is_empty());
        // What retention deleted while it was read comes no more.
        let skipped = messages.end_offset().filter(|_| stream.is_trimmed()).map_or(0, |end| end.0);
        let end_offset = is_whole.then(|| part.next().max(skipped));
        let read = self.read_of(reader, stream, begun_ms, part);
        self.record_read(Read { strong: is_whole, end_offset, ..read });
        error
    }
}
