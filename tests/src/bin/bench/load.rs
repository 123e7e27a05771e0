//! Producers in a closed loop, and the check that what was acknowledged is there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use vault_format::batch::Batch;
use vault_format::header::Kind;
use vault_format::record::Message;

use crate::connection::{Connection, get, post};

/// The value of every message.
pub(crate) const MESSAGE_BYTES: usize = 1 << 10;

/// At the front of a request's first message: who sent it, and which of its requests it is.
const TAG_BYTES: usize = 16;

const BATCHES: &str = "application/vnd.messagevault.batches";

/// What of a stream is read at once for the check.
const CHECKED_AT_ONCE_BYTES: u64 = 64 << 20;

/// What producers send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Load {
    /// So many messages a request, as records of the storage format.
    Batches(usize),
    /// One message a request, as it is.
    Singles,
}

impl Load {
    pub(crate) fn messages(self) -> usize {
        match self {
            Self::Batches(messages) => messages,
            Self::Singles => 1,
        }
    }

    /// A request, and where in it the tag goes.
    pub(crate) fn request(self, stream: &str, producer: u64) -> (Vec<u8>, usize) {
        let target = format!("/streams/{stream}/messages");
        let value = noise(producer);
        match self {
            Self::Batches(messages) => {
                let mut body = Vec::new();
                let message = Message { value: &value, ..Message::default() };
                message.encode(0, &mut body);
                // The value comes last in a record.
                let before_tag = body.len() - MESSAGE_BYTES;
                for _ in 1..messages {
                    message.encode(0, &mut body);
                }
                let request = post(&target, "application/vnd.messagevault.records", &body);
                let tag = request.len() - body.len() + before_tag;
                (request, tag)
            }
            Self::Singles => {
                let request = post(&target, "application/octet-stream", &value);
                let tag = request.len() - value.len();
                (request, tag)
            }
        }
    }
}

/// Bytes that nothing on the way could shorten.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2) + 1;
    let mut bytes = Vec::with_capacity(MESSAGE_BYTES);
    while bytes.len() < MESSAGE_BYTES {
        state = xorshift(state);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// The next of a row of numbers that look random.
pub(crate) fn xorshift(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}

fn tag(producer: u64, sequence: u64) -> [u8; TAG_BYTES] {
    let mut tag = [0; TAG_BYTES];
    tag[..8].copy_from_slice(&producer.to_le_bytes());
    tag[8..].copy_from_slice(&sequence.to_le_bytes());
    tag
}

/// What producers were told.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) latencies: Vec<Duration>,
    /// The tag of the request at each offset that was acknowledged.
    acknowledged: HashMap<u64, [u8; TAG_BYTES]>,
    /// From the first request sent to the last answered.
    pub(crate) elapsed: Duration,
}

impl Outcome {
    pub(crate) fn requests(&self) -> u64 {
        self.latencies.len() as u64
    }
}

/// When producers stop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After so many requests each.
    Requests(u64),
}

/// `producers` connections, each of which sends its next request when the last one is answered.
pub(crate) fn run(
    address: SocketAddr,
    stream: &str,
    load: Load,
    producers: u64,
    until: Until,
) -> anyhow::Result<Outcome> {
    let mut ready = Vec::new();
    for producer in 0..producers {
        ready.push((producer, Connection::open(address, 4 << 10)?));
    }
    let started = Instant::now();
    let outcomes: Vec<anyhow::Result<Sent>> = std::thread::scope(|scope| {
        let producer = |(producer, connection)| {
            scope.spawn(move || produce(connection, stream, load, producer, started, until))
        };
        let running: Vec<_> = ready.into_iter().map(producer).collect();
        running.into_iter().map(|thread| thread.join().expect("a producer does not panic")).collect()
    });
    let mut all = Outcome { elapsed: started.elapsed(), ..Outcome::default() };
    for (producer, sent) in (0..).zip(outcomes) {
        for (sequence, (first_offset, latency)) in (0..).zip(sent?) {
            all.latencies.push(latency);
            let before = all.acknowledged.insert(first_offset, tag(producer, sequence));
            ensure!(before.is_none(), "two requests were given offset {first_offset}");
        }
    }
    Ok(all)
}

/// First offset and latency of every request.
type Sent = Vec<(u64, Duration)>;

fn produce(
    mut connection: Connection,
    stream: &str,
    load: Load,
    producer: u64,
    started: Instant,
    until: Until,
) -> anyhow::Result<Sent> {
    let (mut request, at) = load.request(stream, producer);
    let mut sent = Sent::new();
    let mut answer = Vec::new();
    for sequence in 0.. {
        let done = match until {
            Until::Elapsed(duration) => started.elapsed() >= duration,
            Until::Requests(requests) => sequence >= requests,
        };
        if done {
            break;
        }
        request[at..at + TAG_BYTES].copy_from_slice(&tag(producer, sequence));
        answer.clear();
        let before = Instant::now();
        connection.exchange(&request, |bytes| answer.extend_from_slice(bytes))?;
        let latency = before.elapsed();
        let answer: serde_json::Value = serde_json::from_slice(&answer)?;
        let number = |field: &str| answer[field].as_u64().with_context(|| format!("no {field} in {answer}"));
        let first_offset = number("first_offset")?;
        ensure!(
            number("next_offset")? == first_offset + load.messages() as u64,
            "not all was taken: {answer}"
        );
        sent.push((first_offset, latency));
    }
    Ok(sent)
}

/// Reads the whole stream raw and finds every acknowledged request at its offset, whole. The stream holds nothing
/// else, but for `others` messages.
pub(crate) fn check(
    address: SocketAddr,
    stream: &str,
    load: Load,
    outcome: &Outcome,
    others: u64,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(address, 256 << 10)?;
    let wanted = outcome.requests() * load.messages() as u64 + others;
    let (mut next, mut found) = (0, 0);
    while next < wanted {
        let limit = u64::MAX;
        let target =
            format!("/streams/{stream}/messages?from={next}&limit={limit}&max_bytes={CHECKED_AT_ONCE_BYTES}");
        let mut body = Vec::new();
        connection.exchange(&get(&target, BATCHES), |bytes| body.extend_from_slice(bytes))?;
        let mut rest = body.as_slice();
        let before = next;
        while !rest.is_empty() {
            let batch = Batch::decode(rest)?;
            ensure!(batch.header.base_offset.0 == next, "offset {next} is missing in what was read");
            if batch.header.kind == Kind::Messages {
                for record in batch.uncompressed()?.records() {
                    let value = record?.value;
                    if let Some(tag) = outcome.acknowledged.get(&next) {
                        ensure!(value.starts_with(tag), "another request stands at offset {next}");
                        found += 1;
                    }
                    ensure!(value.len() == MESSAGE_BYTES, "the message at {next} has {} bytes", value.len());
                    next += 1;
                }
            }
            rest =
                rest.get(usize::try_from(batch.header.written_bytes())?..).context("a batch is cut off")?;
        }
        ensure!(next > before, "the stream ends at {next}, but {wanted} messages were acknowledged");
    }
    ensure!(next == wanted, "{next} messages are there, {wanted} were acknowledged");
    ensure!(found == outcome.requests(), "{found} of {} requests are there", outcome.requests());
    Ok(())
}

/// Appends `bytes` of messages in large requests.
pub(crate) fn fill(address: SocketAddr, stream: &str, bytes: u64) -> anyhow::Result<()> {
    const PRODUCERS: u64 = 3;
    const MESSAGES: usize = 2_000;
    let requests = bytes.div_ceil(PRODUCERS * (MESSAGES * MESSAGE_BYTES) as u64);
    run(address, stream, Load::Batches(MESSAGES), PRODUCERS, Until::Requests(requests)).map(drop)
}

#[cfg(test)]
mod tests {
    use vault_tests::server::{Setup, temporary_directory};

    use super::*;

    #[test]
    fn what_was_acknowledged_is_looked_for_where_it_belongs() {
        let directory = temporary_directory();
        let server = Setup::in_directory(directory.path()).start();
        let address = server.address();
        for (stream, load) in [("batches", Load::Batches(7)), ("singles", Load::Singles)] {
            let outcome = run(address, stream, load, 4, Until::Requests(9)).unwrap();
            assert_eq!(outcome.requests(), 4 * 9);
            check(address, stream, load, &outcome, 0).unwrap();
            let checked = |change: fn(&mut Outcome)| {
                let mut changed = Outcome { latencies: outcome.latencies.clone(), ..Outcome::default() };
                changed.acknowledged = outcome.acknowledged.clone();
                change(&mut changed);
                check(address, stream, load, &changed, 0).map_err(|error| error.to_string())
            };
            assert!(checked(|_| {}).is_ok());
            let lost = checked(|outcome| outcome.latencies.push(Duration::ZERO)).unwrap_err();
            assert!(lost.contains("beyond the tail") || lost.contains("the stream ends"), "{lost}");
            let other =
                checked(|outcome| *outcome.acknowledged.get_mut(&0).unwrap() = tag(8, 8)).unwrap_err();
            assert!(other.contains("another request stands at offset 0"), "{other}");
            let surplus = checked(|outcome| outcome.latencies.truncate(4 * 9 - 1)).unwrap_err();
            assert!(surplus.contains("messages are there"), "{surplus}");
        }
    }
}
