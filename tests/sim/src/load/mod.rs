//! What clients do meanwhile: they append in several ways, read in several ways, and put down what they saw.

mod reading;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use tokio::task::JoinSet;
use vault_client::simulated::{Network, Pieces};
use vault_client::{Client, Error, Message, Run, SideEffects, Timestamp};
use vault_tests::history::{Append, Event, Outcome, Reached};
use vault_tests::message;

use crate::chance::Dice;
use crate::network::{Listening, Seen, url};
use crate::world::World;

/// How long a message may be, where the stream is to be long.
const LONG_BYTES: u64 = 120_000;

/// A stream that is appended to and read.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Messages are long now and then, so that segments fill up.
    pub long: bool,
    /// Retention deletes what is older than this, if anything.
    pub retention_ms: Option<u64>,
}

impl Stream {
    /// Whether retention deletes what is old.
    #[must_use]
    pub fn is_trimmed(&self) -> bool {
        self.retention_ms.is_some()
    }
}

/// What all clients of a run share.
#[derive(Clone, Debug)]
pub struct Load {
    /// The world.
    pub world: World,
    /// Where the servers listen.
    pub listening: Listening,
    /// How many servers there are.
    pub servers: usize,
    /// Set when they are to come to an end.
    pub over: Arc<AtomicBool>,
    /// How far each stream is known to go.
    pub reached: Arc<Reached>,
}

/// What fills values up.
const PADDING: [u8; 4096] = [b'x'; 4096];

/// The id at the front of a value.
#[must_use]
pub fn id_of(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (id, padding) = value.split_at(end);
    // Compared in pieces: looking at each byte took a sixth of a run's time.
    let mut pieces = padding.get(1..).unwrap_or_default().chunks(PADDING.len());
    let damaged =
        if pieces.all(|piece| *piece == PADDING[..piece.len()]) { "" } else { " and what nobody wrote" };
    format!("{}{damaged}", String::from_utf8_lossy(id))
}

fn value(id: &str, stream: &Stream, dice: &mut Dice) -> String {
    let padding = if stream.long && dice.per_mille(300) { dice.below(LONG_BYTES) } else { dice.below(40) };
    format!("{id} {}", "x".repeat(usize::try_from(padding).expect("it is short")))
}

impl Load {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    async fn pause(&self, dice: &mut Dice, most_ms: u64) {
        tokio::time::sleep(Duration::from_millis(dice.below(most_ms))).await;
    }

    fn network(&self) -> Seen {
        Seen::from(&self.world.clients(), &self.listening)
    }

    /// A client that turns to these servers, in this order.
    fn client_of(&self, servers: impl Iterator<Item = usize>, retry_time: Duration) -> Client {
        let order = Ordered { network: self.network(), servers: servers.collect() };
        let urls = order.servers.iter().map(|server| url(*server)).collect();
        Client::simulated(Arc::new(order), urls, retry_time)
    }

    fn client(&self, dice: &mut Dice, retry_time: Duration) -> Client {
        let first = usize::try_from(dice.below(self.servers as u64)).expect("there are few servers");
        self.client_of((0..self.servers).map(|n| (first + n) % self.servers), retry_time)
    }

    fn record_append(&self, append: Append) {
        let Append { stream, messages, outcome, .. } = &append;
        if let Outcome::Acknowledged { first_offset } = outcome {
            self.reached.note(stream, first_offset + messages.len() as u64);
        }
        self.world.trace(format_args!("append to {stream} {}: {outcome:?}", messages[0]));
        self.world.record(Event::Append(append));
    }

    /// A producer whose requests are not numbered: each is sent until it is known to be stored, or may be.
    pub async fn produce_plainly(self, name: String, stream: Stream, mut dice: Dice) {
        let retry_time = Duration::from_millis(dice.between(1_000, 20_000));
        let client = self.client(&mut dice, retry_time);
        let mut known_end = None;
        let mut number = 0;
        while !self.is_over() {
            let messages: Vec<String> =
                (0..dice.between(1, 4)).map(|index| format!("{name}/{number}/{index}")).collect();
            number += 1;
            let values: Vec<String> = messages.iter().map(|id| value(id, &stream, &mut dice)).collect();
            let run = Run::of(values).expect("the messages are short");
            let expected = known_end.filter(|_| dice.per_mille(200));
            let begun_ms = self.world.now_ms();
            let outcome = match client.append(&stream.name, run, expected).await {
                Ok(appended) => {
                    if let Some(expected) = expected
                        && expected != appended.first_offset
                    {
                        let (expected, first) = (expected.0, appended.first_offset.0);
                        self.world.complain(format!("{name} was stored at {first} and not at {expected}"));
                    }
                    known_end = Some(appended.next_offset);
                    Outcome::Acknowledged { first_offset: appended.first_offset.0 }
                }
                Err(error) => {
                    self.expect_failure(&error, &["offset_mismatch"]);
                    failed(error.side_effects())
                }
            };
            let ended_ms = self.world.now_ms();
            let stream = stream.name.clone();
            self.record_append(Append { stream, session: None, begun_ms, ended_ms, messages, outcome });
            self.pause(&mut dice, 400).await;
        }
    }

    /// The client library's own producer: numbered requests, several at once, each stored once however often it is sent.
    pub async fn produce_in_batches(self, name: String, stream: Stream, mut dice: Dice) {
        let retry_time = Duration::from_millis(dice.between(5_000, 60_000));
        let client = self.client(&mut dice, retry_time);
        let mut session = 0;
        while !self.is_over() {
            let linger = Duration::from_millis(dice.below(20));
            let producer =
                client.producer(&stream.name).id(name.as_str()).linger(linger).retry_time(retry_time);
            let in_flight = usize::try_from(dice.between(1, 5)).expect("few");
            let producer = producer.requests_in_flight(in_flight).start().expect("its id is right");
            let stopped = Arc::new(AtomicBool::new(false));
            let mut number = 0;
            let mut receipts = Vec::new();
            while !self.is_over() && !stopped.load(Ordering::Relaxed) {
                let id = format!("{name}/{session}/{number}");
                let begun_ms = self.world.now_ms();
                let sent = producer.send(Message::new(value(&id, &stream, &mut dice))).await;
                let Ok(receipt) = sent else { break };
                let (load, stopped) = (self.clone(), Arc::clone(&stopped));
                let (of, session) = (stream.name.clone(), Some((format!("{name}/{session}"), number)));
                receipts.push(tokio::spawn(async move {
                    let outcome = match receipt.wait().await {
                        Ok(acknowledged) => Outcome::Acknowledged { first_offset: acknowledged.offset.0 },
                        Err(error) => {
                            stopped.store(true, Ordering::Relaxed);
                            failed(error.side_effects())
                        }
                    };
                    let ended_ms = load.world.now_ms();
                    let messages = vec![id];
                    load.record_append(Append { stream: of, session, begun_ms, ended_ms, messages, outcome });
                }));
                number += 1;
                self.pause(&mut dice, 60).await;
            }
            producer.close().await;
            for receipt in receipts {
                let _ = receipt.await;
            }
            session += 1;
        }
    }

    /// A producer that numbers its requests itself and soon loses patience: it sends the same one again, to any server, until
    /// it knows that it is stored.
    pub async fn produce_impatiently(self, name: String, stream: Stream, mut dice: Dice) {
        let network = self.network();
        let patience = dice.between(20, 3_000);
        let (mut epoch, mut sequence) = (0, 0);
        let mut number = 0;
        'next: while !self.is_over() {
            let messages: Vec<String> =
                (0..dice.between(1, 3)).map(|index| format!("{name}/{number}/{index}")).collect();
            number += 1;
            let body: Vec<message::Message> =
                messages.iter().map(|id| message::Message::value(value(id, &stream, &mut dice))).collect();
            let body = Bytes::from(message::to_json(&body));
            let begun_ms = self.world.now_ms();
            let record = |outcome| {
                let (stream, messages) = (stream.name.clone(), messages.clone());
                let ended_ms = self.world.now_ms();
                self.record_append(Append { stream, session: None, begun_ms, ended_ms, messages, outcome });
            };
            let mut may_be_done = false;
            loop {
                let request = Request::post(format!("/streams/{}/messages", stream.name))
                    .header("content-type", "application/json")
                    .header("producer-id", name.as_str())
                    .header("producer-epoch", epoch.to_string())
                    .header("producer-seq", sequence.to_string())
                    .body(body.clone())
                    .expect("the request is right");
                let server = usize::try_from(dice.below(self.servers as u64)).expect("few");
                let limit = Duration::from_millis(dice.between(patience / 2, patience));
                match tokio::time::timeout(limit, ask(&network, server, request)).await {
                    Ok(Ok((StatusCode::OK, body))) => {
                        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                        let first_offset = answer["first_offset"].as_u64();
                        let first_offset = first_offset.expect("the answer names an offset");
                        record(Outcome::Acknowledged { first_offset });
                        sequence += 1;
                        break;
                    }
                    Ok(Ok((status, body))) => {
                        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                        may_be_done |= problem["side_effects"] != "none";
                        if problem["retryable"] != true {
                            self.world.complain(format!(
                                "{name} was refused for good at number {sequence} of epoch {epoch}: {status} {problem}"
                            ));
                            record(failed(if may_be_done {
                                SideEffects::Possible
                            } else {
                                SideEffects::None
                            }));
                            (epoch, sequence) = (epoch + 1, 0);
                            continue 'next;
                        }
                    }
                    Ok(Err(side_effects)) => may_be_done |= side_effects == SideEffects::Possible,
                    Err(_) => may_be_done = true,
                }
                self.pause(&mut dice, 300).await;
            }
            self.pause(&mut dice, 300).await;
        }
    }

    /// What fails must have a good reason.
    fn expect_failure(&self, error: &Error, codes: &[&str]) {
        if !error.is_retryable() && !error.code().is_some_and(|code| codes.contains(&code)) {
            self.world.complain(format!("refused for good: {error}"));
        }
    }

    /// Appends a message through one server again and again, not waiting for one before the next is sent.
    pub async fn probe(self, server: usize, stream: Stream) {
        let client = self.client_of(std::iter::once(server), Duration::ZERO);
        let mut probes = JoinSet::new();
        for number in 0_u64.. {
            if self.is_over() {
                break;
            }
            let (load, client, stream) = (self.clone(), client.clone(), stream.name.clone());
            probes.spawn(async move {
                let id = format!("probe/{server}/{stream}/{number}");
                let begun_ms = load.world.now_ms();
                let run = Run::of([id.clone()]).expect("it is short");
                let outcome = match client.append(&stream, run, None).await {
                    Ok(appended) => Outcome::Acknowledged { first_offset: appended.first_offset.0 },
                    Err(error) => failed(error.side_effects()),
                };
                let (ended_ms, messages) = (load.world.now_ms(), vec![id]);
                load.record_append(Append { stream, session: None, begun_ms, ended_ms, messages, outcome });
            });
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        while probes.join_next().await.is_some() {}
    }

    /// Creates a stream.
    pub async fn create(&self, stream: &Stream, settings: &vault_client::Settings) -> Result<(), Error> {
        let client = self.client_of(0..self.servers, Duration::from_secs(60));
        client.create_stream(&stream.name, settings).await.map(|_| ())
    }
}

fn failed(side_effects: SideEffects) -> Outcome {
    match side_effects {
        SideEffects::None => Outcome::Refused,
        SideEffects::Possible => Outcome::Unknown,
    }
}

/// A network in which servers have other numbers.
#[derive(Debug)]
struct Ordered {
    network: Seen,
    servers: Vec<usize>,
}

impl Network for Ordered {
    fn send(
        &self,
        server: usize,
        request: Request<Bytes>,
    ) -> futures::future::BoxFuture<'static, Result<Response<Pieces>, (String, SideEffects)>> {
        self.network.send(self.servers[server], request)
    }

    fn now(&self) -> Timestamp {
        self.network.now()
    }
}

async fn collect(mut pieces: Pieces) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece?);
    }
    Ok(body)
}

async fn ask(
    network: &Seen,
    server: usize,
    request: Request<Bytes>,
) -> Result<(StatusCode, Vec<u8>), SideEffects> {
    let answer = network.send(server, request).await.map_err(|(_, side_effects)| side_effects)?;
    let status = answer.status();
    let body = collect(answer.into_body()).await.map_err(|_| SideEffects::Possible)?;
    Ok((status, body))
}
