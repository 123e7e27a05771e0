//! A producer that numbers its requests and sends each until it is answered, to whichever server takes it.
//!
//! Whatever happens meanwhile, the stream then holds each of its requests exactly once, in order, where the answer said.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::{Answer, Appended, Client, Unanswered};
use crate::message::{self, Message, Stored};

/// How soon a request is sent again.
const AGAIN: Duration = Duration::from_millis(5);

/// Every so often a request that was answered is sent again all the same.
const REPEAT_EVERY: usize = 7;

/// A producer and what it was told.
#[derive(Debug)]
pub struct Idempotent {
    name: String,
    patience: Duration,
    told: Vec<Appended>,
    /// How many answers did not come, or were refusals that may be tried again.
    attempts_lost: usize,
}

impl Idempotent {
    /// A producer that waits for an answer for so long before it sends the request again.
    #[must_use]
    pub fn new(name: &str, patience: Duration) -> Self {
        Self { name: name.to_owned(), patience, told: Vec::new(), attempts_lost: 0 }
    }

    /// How many requests were answered with success.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.told.len()
    }

    /// How many attempts had to be made again.
    #[must_use]
    pub fn attempts_lost(&self) -> usize {
        self.attempts_lost
    }

    /// Sends one request after the other until told to stop, each until it is stored: to these servers in turns.
    pub fn run(&mut self, servers: &[SocketAddr], stream: &str, stop: &AtomicBool) {
        let clients: Vec<_> =
            servers.iter().map(|address| Client::with_limit(*address, self.patience)).collect();
        for client in clients.iter().cycle() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let sequence = self.told.len();
            if let Some(appended) = self.stored(self.send(client, stream, sequence)) {
                self.told.push(appended);
            } else {
                self.attempts_lost += 1;
                std::thread::sleep(AGAIN);
                continue;
            }
            if sequence.is_multiple_of(REPEAT_EVERY)
                && let Some(appended) = self.stored(self.send(client, stream, sequence))
            {
                assert_eq!(appended, self.told[sequence], "request {sequence} of {} again", self.name);
            }
        }
    }

    fn send(&self, client: &Client, stream: &str, sequence: usize) -> Result<Answer, Unanswered> {
        let messages: Vec<_> =
            (0..count(sequence)).map(|index| Message::value(self.text(sequence, index))).collect();
        let sequence = sequence.to_string();
        let headers = [
            ("Content-Type", "application/json"),
            ("Producer-Id", self.name.as_str()),
            ("Producer-Epoch", "1"),
            ("Producer-Seq", &sequence),
        ];
        let path = format!("/streams/{stream}/messages");
        client.send("POST", &path, &headers, Some(&message::to_json(&messages)))
    }

    fn stored(&self, answer: Result<Answer, Unanswered>) -> Option<Appended> {
        let answer = answer.ok()?;
        if answer.status == 200 {
            return Some(answer.appended());
        }
        assert_eq!(answer.problem()["retryable"], true, "{} {}", self.name, answer.problem());
        None
    }

    fn text(&self, sequence: usize, index: usize) -> String {
        format!("{}/{sequence}/{index} {}", self.name, "x".repeat(sequence * 37 % 5_000))
    }
}

/// A request has one to three messages.
fn count(sequence: usize) -> usize {
    1 + sequence % 3
}

/// Panics unless the whole stream, `stored`, is what these producers were told it is, and nothing else; but for one more
/// request of each that may be stored without its answer having come.
pub fn check(stored: &[Stored], producers: &[Idempotent]) {
    let mut left: Vec<_> = stored.iter().map(|message| (message.offset, message.message.text())).collect();
    for producer in producers {
        let prefix = format!("{}/", producer.name);
        let theirs: Vec<_> = left.extract_if(.., |(_, text)| text.starts_with(&prefix)).collect();
        let mut expected = Vec::new();
        for (sequence, told) in producer.told.iter().enumerate() {
            for (offset, index) in (told.first_offset..told.next_offset).zip(0..) {
                expected.push((offset, producer.text(sequence, index)));
            }
            assert_eq!(told.next_offset - told.first_offset, count(sequence) as u64);
        }
        let unanswered = theirs.len().saturating_sub(expected.len());
        let sequence = producer.told.len();
        assert!(
            unanswered == 0 || unanswered == count(sequence),
            "{unanswered} messages too many of {prefix}"
        );
        for ((found_at, found), (offset, text)) in theirs.iter().zip(&expected) {
            assert_eq!((found_at, found), (offset, &text.as_str()), "of {prefix}");
        }
        assert!(theirs.len() >= expected.len(), "messages of {prefix} are lost");
        for ((_, found), index) in theirs[expected.len()..].iter().zip(0..) {
            assert_eq!(*found, producer.text(sequence, index));
        }
    }
    assert!(left.is_empty(), "messages that nobody sent: {left:?}");
}
