//! What clients do meanwhile: they append in several ways, read in several ways, and put down what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use tokio::time::{sleep, timeout};
use vault_client::{Client, Error, Message, Offset, Received, Run, SideEffects, Start};
use vault_tests::chance::Dice;
use vault_tests::history::{Append, Event, Outcome, Placed, Reached, Read, Stored};

use crate::record::Record;

/// How many messages of a reader are put down at once.
const READ_AT_ONCE: usize = 500;

/// How long a follower may take to reach the end once nobody appends any more and nothing is wrong.
const CATCH_UP: Duration = Duration::from_secs(30);

/// How many messages a strong read may show: more than come between two.
const LOOKED_AT: u64 = 100_000;

/// How long one request may take of those that nobody sends again.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a client goes on to try.
const RETRY_TIME: Duration = Duration::from_secs(60);

/// How often a message is sent that shows whether appends go on.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// What all clients of a run share.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) record: Arc<Record>,
    /// The URLs of the servers, as clients reach them.
    pub(crate) urls: Vec<String>,
    /// Set when they are to come to an end.
    pub(crate) over: Arc<AtomicBool>,
    /// How far each stream is known to go.
    pub(crate) reached: Arc<Reached>,
    /// For requests without the client library.
    pub(crate) http: reqwest::Client,
}

fn id_of(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// Most messages are short; some fill up a segment sooner.
fn value(id: &str, dice: &mut Dice) -> String {
    let padding = if dice.per_mille(20) { dice.below(50_000) } else { dice.below(400) };
    format!("{id} {}", "x".repeat(usize::try_from(padding).expect("it is short")))
}

fn placed(received: &Received) -> Placed {
    Placed { offset: received.offset().0, timestamp: received.timestamp().0, id: id_of(received.value()) }
}

/// Where reading goes on.
fn next_of(read: &Read) -> u64 {
    read.messages.last().map_or(read.from.unwrap_or(0), |last| last.offset + 1)
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn failed(side_effects: SideEffects) -> Outcome {
    match side_effects {
        SideEffects::None => Outcome::Refused,
        SideEffects::Possible => Outcome::Unknown,
    }
}

impl Load {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// A client that turns to this server first.
    fn client(&self, first: usize, retry_time: Duration) -> Client {
        let mut urls = self.urls.clone();
        urls.rotate_left(first % self.urls.len());
        let built = Client::builder(&urls.join(",")).retry_time(retry_time).build();
        built.expect("the URLs are right")
    }

    /// Creates a stream whose segments are soon full.
    pub(crate) async fn create(&self, stream: &str) -> Result<(), Error> {
        let settings = vault_client::Settings { segment_bytes: Some(4 << 20), ..Default::default() };
        self.client(0, RETRY_TIME).create_stream(stream, &settings).await.map(|_| ())
    }

    /// Sends each request once, to any server: what comes of it is what the answer says.
    pub(crate) async fn produce_plainly(self, stream: String, mut dice: Dice) {
        let clients: Vec<Client> =
            (0..self.urls.len()).map(|server| self.client_of(server, Duration::ZERO)).collect();
        let mut number = 0;
        while !self.is_over() {
            let messages: Vec<String> =
                (0..dice.between(1, 20)).map(|index| format!("plain/{stream}/{number}/{index}")).collect();
            number += 1;
            let values: Vec<String> = messages.iter().map(|id| value(id, &mut dice)).collect();
            let run = Run::of(values).expect("the messages are short");
            let client = &clients[dice.index(clients.len())];
            self.append(client, &stream, messages, run).await;
            sleep(Duration::from_millis(dice.below(20))).await;
        }
    }

    async fn append(&self, client: &Client, stream: &str, messages: Vec<String>, run: Run) {
        let begun_ms = self.record.now_ms();
        let outcome = match timeout(PATIENCE, client.append(stream, run, None)).await {
            Ok(Ok(appended)) => {
                self.reached.note(stream, appended.next_offset.0);
                Outcome::Acknowledged { first_offset: appended.first_offset.0 }
            }
            Ok(Err(error)) => {
                if !error.is_retryable() {
                    self.record.complain(format!("an append to {stream} is refused for good: {error}"));
                }
                failed(error.side_effects())
            }
            Err(_) => Outcome::Unknown,
        };
        let (ended_ms, stream) = (self.record.now_ms(), stream.to_owned());
        self.record.put(Event::Append(Append {
            stream,
            session: None,
            begun_ms,
            ended_ms,
            messages,
            outcome,
        }));
    }

    /// A client of one server alone.
    fn client_of(&self, server: usize, retry_time: Duration) -> Client {
        let built = Client::builder(&self.urls[server]).retry_time(retry_time).build();
        built.expect("the URL is right")
    }

    /// The client library's producer: numbered requests, several at once, each stored once however often it is sent.
    pub(crate) async fn produce_in_batches(self, stream: String, mut dice: Dice) {
        let client = self.client(dice.index(self.urls.len()), RETRY_TIME);
        let mut session = 0;
        while !self.is_over() {
            let producer = client.producer(&stream).id(format!("batches-{stream}")).retry_time(RETRY_TIME);
            let producer = producer.start().expect("its id is right");
            let stopped = Arc::new(AtomicBool::new(false));
            let mut receipts = tokio::task::JoinSet::new();
            for number in 0.. {
                if self.is_over() || stopped.load(Ordering::Relaxed) {
                    break;
                }
                let id = format!("batches/{stream}/{session}/{number}");
                let begun_ms = self.record.now_ms();
                let Ok(receipt) = producer.send(Message::new(value(&id, &mut dice))).await else { break };
                let (load, stopped, stream) = (self.clone(), Arc::clone(&stopped), stream.clone());
                receipts.spawn(async move {
                    let outcome = match receipt.wait().await {
                        Ok(acknowledged) => {
                            load.reached.note(&stream, acknowledged.offset.0 + 1);
                            Outcome::Acknowledged { first_offset: acknowledged.offset.0 }
                        }
                        Err(error) => {
                            stopped.store(true, Ordering::Relaxed);
                            failed(error.side_effects())
                        }
                    };
                    let session = Some((format!("batches/{stream}/{session}"), number));
                    let ended_ms = load.record.now_ms();
                    load.record.put(Event::Append(Append {
                        stream,
                        session,
                        begun_ms,
                        ended_ms,
                        messages: vec![id],
                        outcome,
                    }));
                });
                while receipts.try_join_next().is_some() {}
                if dice.per_mille(400) {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            producer.close().await;
            while receipts.join_next().await.is_some() {}
            session += 1;
        }
    }

    /// Appends a message through one server again and again, not waiting for one before the next is sent. What is on its way
    /// in the end is waited for: it may be stored after whoever reads then has read.
    pub(crate) async fn probe(self, server: usize, stream: String) {
        let client = self.client_of(server, Duration::ZERO);
        let mut sent = tokio::task::JoinSet::new();
        for number in 0_u64.. {
            if self.is_over() {
                break;
            }
            let (load, client, stream) = (self.clone(), client.clone(), stream.clone());
            sent.spawn(async move {
                let id = format!("probe/{server}/{stream}/{number}");
                let run = Run::of([id.clone()]).expect("it is short");
                load.append(&client, &stream, vec![id], run).await;
            });
            while sent.try_join_next().is_some() {}
            sleep(PROBE_EVERY).await;
        }
        while sent.join_next().await.is_some() {}
    }

    /// Reads all that comes, from the beginning, until nobody appends any more, and has caught up then.
    pub(crate) async fn follow(self, stream: String, first: usize) {
        let client = self.client(first, RETRY_TIME);
        let mut reader = client.reader(&stream).follow().retry_time(None).start();
        let mut part = self.part("a follower", &stream, 0);
        loop {
            match timeout(Duration::from_millis(200), reader.try_next()).await {
                Ok(Ok(Some(message))) => part.messages.push(placed(&message)),
                Ok(Ok(None)) => {
                    self.record.complain(format!("the follower of {stream} came to an end"));
                    break;
                }
                Ok(Err(error)) => {
                    self.record.complain(format!("the follower of {stream} cannot read on: {error}"));
                    break;
                }
                Err(_) => {}
            }
            let next = next_of(&part);
            if let Some((since_ms, end)) = self.reached.settled(&stream)
                && (next >= end || self.record.now_ms() > since_ms + ms(CATCH_UP))
            {
                // All that was acknowledged by then it must have seen.
                let last = Read { begun_ms: since_ms, end_offset: Some(next), strong: true, ..part };
                return self.put_read(last);
            }
            if part.messages.len() >= READ_AT_ONCE {
                let following = self.part("a follower", &stream, next);
                self.put_read(std::mem::replace(&mut part, following));
            }
        }
        self.put_read(part);
    }

    /// A read that begins now, at an offset.
    fn part(&self, reader: &str, stream: &str, from: u64) -> Read {
        let (stream, reader) = (stream.to_owned(), reader.to_owned());
        Read { stream, reader, begun_ms: self.record.now_ms(), from: Some(from), ..Read::default() }
    }

    /// Puts down a read that ends now.
    fn put_read(&self, read: Read) {
        self.record.put(Event::Read(Read { ended_ms: self.record.now_ms(), ..read }));
    }

    /// Reads strongly, through any server, near what was the end.
    pub(crate) async fn look(self, stream: String, mut dice: Dice) {
        let mut end = 0_u64;
        while !self.is_over() {
            sleep(Duration::from_millis(dice.below(500))).await;
            let from = end.saturating_sub(dice.below(30));
            let server = dice.index(self.urls.len());
            let path = format!(
                "{}/streams/{stream}/messages?consistency=strong&clamp=true&from={from}&limit={LOOKED_AT}",
                self.urls[server]
            );
            let part = self.part("a strong reader", &stream, from);
            let asked = async {
                let answer =
                    self.http.get(path).header("accept", "application/x-ndjson").send().await.ok()?;
                let answer = answer.error_for_status().ok()?;
                Some((answer.headers().clone(), answer.bytes().await.ok()?))
            };
            let Ok(Some((headers, body))) = timeout(PATIENCE, asked).await else { continue };
            let read = Read { server: Some(server), ..part.answered(&headers, &body, id_of) };
            end = end.max(read.end_offset.unwrap_or(end));
            self.reached.note(&stream, end);
            self.put_read(read);
        }
    }

    /// Puts down what is stored in the end, as each of the servers shows it.
    pub(crate) async fn read_all(&self, stream: &str) -> Result<(), String> {
        for server in 0..self.urls.len() {
            let client = self.client_of(server, RETRY_TIME);
            let mut part = self.part("the last reader", stream, 0);
            let mut reader = client.reader(stream).from(Start::Offset(Offset(0))).start();
            while let Some(message) = reader.try_next().await.map_err(|error| error.to_string())? {
                part.messages.push(placed(&message));
            }
            if server + 1 == self.urls.len() {
                // Whoever read before has read a part of it.
                let (stream, messages) = (stream.to_owned(), part.messages);
                self.record.put(Event::Stored(Stored { stream, messages }));
            } else {
                let end_offset = Some(next_of(&part));
                self.put_read(Read { server: Some(server), end_offset, strong: true, ..part });
            }
        }
        Ok(())
    }
}
