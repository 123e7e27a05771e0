//! What clients do meanwhile: they append in several ways, read in several ways, and put down what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use tokio::time::{sleep, timeout};
use vault_client::{Client, Error, Message, Offset, Received, Run, SideEffects, Start};
use vault_tests::chance::Dice;
use vault_tests::history::{Append, Event, Outcome, Placed, Read, Stored};
use vault_tests::message;

use crate::record::Record;

/// How many messages of a reader are put down at once.
const READ_AT_ONCE: usize = 500;

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
            Ok(Ok(appended)) => Outcome::Acknowledged { first_offset: appended.first_offset.0 },
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
                let (record, stopped, stream) =
                    (Arc::clone(&self.record), Arc::clone(&stopped), stream.clone());
                receipts.spawn(async move {
                    let outcome = match receipt.wait().await {
                        Ok(acknowledged) => Outcome::Acknowledged { first_offset: acknowledged.offset.0 },
                        Err(error) => {
                            stopped.store(true, Ordering::Relaxed);
                            failed(error.side_effects())
                        }
                    };
                    let session = Some((format!("batches/{stream}/{session}"), number));
                    let ended_ms = record.now_ms();
                    record.put(Event::Append(Append {
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

    /// Reads all that comes, from the beginning, until the run is over.
    pub(crate) async fn follow(self, stream: String, first: usize) {
        let client = self.client(first, RETRY_TIME);
        let mut reader = client.reader(&stream).follow().retry_time(None).start();
        let mut begun_ms = self.record.now_ms();
        let mut messages: Vec<Placed> = Vec::new();
        while !self.is_over() {
            match timeout(Duration::from_millis(200), reader.try_next()).await {
                Ok(Ok(Some(message))) => messages.push(placed(&message)),
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
            if messages.len() >= READ_AT_ONCE {
                self.put_read("a follower", &stream, begun_ms, std::mem::take(&mut messages), None, false);
                begun_ms = self.record.now_ms();
            }
        }
        self.put_read("a follower", &stream, begun_ms, messages, None, false);
    }

    fn put_read(
        &self,
        reader: &str,
        stream: &str,
        begun_ms: u64,
        messages: Vec<Placed>,
        end_offset: Option<u64>,
        strong: bool,
    ) {
        self.record.put(Event::Read(Read {
            stream: stream.to_owned(),
            reader: reader.to_owned(),
            begun_ms,
            ended_ms: self.record.now_ms(),
            messages,
            end_offset,
            strong,
            since: None,
        }));
    }

    /// Reads strongly, through any server, near what was the end.
    pub(crate) async fn look(self, stream: String, mut dice: Dice) {
        let mut end = 0_u64;
        while !self.is_over() {
            sleep(Duration::from_millis(dice.below(500))).await;
            let begun_ms = self.record.now_ms();
            let from = end.saturating_sub(dice.below(30));
            let url = &self.urls[dice.index(self.urls.len())];
            let path = format!("{url}/streams/{stream}/messages?consistency=strong&clamp=true&from={from}");
            let asked = async {
                let answer =
                    self.http.get(path).header("accept", "application/x-ndjson").send().await.ok()?;
                let answer = answer.error_for_status().ok()?;
                let end_offset = answer.headers().get("message-vault-end-offset").cloned();
                let end_offset: Option<u64> = end_offset.and_then(|value| value.to_str().ok()?.parse().ok());
                Some((end_offset, answer.bytes().await.ok()?))
            };
            let Ok(Some((end_offset, body))) = timeout(PATIENCE, asked).await else { continue };
            let messages = message::from_ndjson(&body).into_iter().map(|stored| Placed {
                offset: stored.offset,
                timestamp: stored.timestamp,
                id: id_of(&stored.message.value),
            });
            self.put_read("a strong reader", &stream, begun_ms, messages.collect(), end_offset, true);
            end = end.max(end_offset.unwrap_or(end));
        }
    }

    /// Puts down what is stored in the end, as each of the servers shows it.
    pub(crate) async fn read_all(&self, stream: &str) -> Result<(), String> {
        for server in 0..self.urls.len() {
            let client = self.client_of(server, RETRY_TIME);
            let begun_ms = self.record.now_ms();
            let mut reader = client.reader(stream).from(Start::Offset(Offset(0))).start();
            let mut messages = Vec::new();
            while let Some(message) = reader.try_next().await.map_err(|error| error.to_string())? {
                messages.push(placed(&message));
            }
            let end = Some(messages.len() as u64);
            if server + 1 == self.urls.len() {
                // Whoever read before has read a part of it.
                self.record.put(Event::Stored(Stored { stream: stream.to_owned(), messages }));
            } else {
                self.put_read("the last reader", stream, begun_ms, messages, end, true);
            }
        }
        Ok(())
    }
}
