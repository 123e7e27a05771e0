//! What producers were told, held against what is stored.
//!
//! A producer never sends a request twice. So a request that was answered is stored exactly once, at the offsets that
//! the answer named; one whose outcome is unknown, whole or not at all; one that was refused, not at all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::client::{Answer, Client, Unanswered};
use crate::message::{Message, Stored};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Stored { first_offset: u64 },
    Refused,
    Unknown,
}

/// Everything that one producer sent to a stream, in its order.
#[derive(Debug)]
pub struct Producer {
    name: String,
    random: u64,
    most_padding: usize,
    requests: Vec<(usize, Outcome)>,
}

impl Producer {
    /// A producer whose messages nobody else's can be taken for. Each is followed by up to `most_padding` bytes.
    #[must_use]
    pub fn new(name: &str, seed: u64, most_padding: usize) -> Self {
        Self { name: name.to_owned(), random: seed, most_padding, requests: Vec::new() }
    }

    /// Sends one request of one to five messages. The answer is for the caller to look at; it is on record already.
    pub fn send(&mut self, client: &Client, stream: &str) -> Result<Answer, Unanswered> {
        let count = 1 + self.draw(5);
        let request = self.requests.len();
        let messages: Vec<_> = (0..count).map(|index| self.message(request, index)).collect();
        let answer = client.try_append(stream, &messages);
        let outcome = match &answer {
            Ok(answer) if answer.status == 200 => {
                let appended = answer.appended();
                assert_eq!(
                    appended.next_offset - appended.first_offset,
                    count as u64,
                    "a run of this length"
                );
                Outcome::Stored { first_offset: appended.first_offset }
            }
            Ok(answer) if answer.problem()["side_effects"] == "none" => Outcome::Refused,
            Ok(_) | Err(_) => Outcome::Unknown,
        };
        self.requests.push((count, outcome));
        answer
    }

    /// Sends until told to stop or until an answer does not come. A refusal that may be tried again is followed by
    /// other messages.
    pub fn run(&mut self, client: &Client, stream: &str, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            match self.send(client, stream) {
                Err(_) => return,
                Ok(answer) => assert!(
                    answer.status == 200 || answer.problem()["retryable"] == true,
                    "{} {}",
                    answer.status,
                    String::from_utf8_lossy(&answer.body)
                ),
            }
        }
    }

    /// How many requests were answered with success.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.requests.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Stored { .. })).count()
    }

    /// How many requests were answered with that nothing was stored, nor will be.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.requests.iter().filter(|(_, outcome)| *outcome == Outcome::Refused).count()
    }

    fn message(&mut self, request: usize, index: usize) -> Message {
        let padding = if self.most_padding == 0 { 0 } else { self.draw(self.most_padding) };
        Message::new(self.name.as_str(), format!("{}/{request}/{index} {}", self.name, "x".repeat(padding)))
    }

    /// A number below `end`. Not fit for anything but tests.
    fn draw(&mut self, end: usize) -> usize {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).expect("31 bits fit") % end
    }
}

/// Panics unless the whole stream, `stored`, is what these producers were told it is, and nothing else.
pub fn check(stored: &[Stored], producers: &[Producer]) {
    let mut places: HashMap<&str, Vec<u64>> = HashMap::new();
    let mut earlier = None;
    for (offset, message) in (0..).zip(stored) {
        assert_eq!(message.offset, offset, "offsets have no gaps");
        assert!(earlier <= Some(message.timestamp), "time does not run backwards at {offset}");
        earlier = Some(message.timestamp);
        let id = message.message.text().split(' ').next().unwrap_or_default();
        places.entry(id).or_default().push(offset);
    }
    for Producer { name, requests, .. } in producers {
        let mut after = 0;
        for (request, (count, outcome)) in requests.iter().enumerate() {
            let found: Vec<u64> = (0..*count)
                .flat_map(|index| {
                    places.remove(format!("{name}/{request}/{index}").as_str()).unwrap_or_default()
                })
                .collect();
            let what = format!("request {request} of {name}, {outcome:?}, stands at {found:?}");
            let run = |first: u64| (first..first + *count as u64).collect::<Vec<_>>();
            match outcome {
                Outcome::Stored { first_offset } => assert_eq!(found, run(*first_offset), "{what}"),
                Outcome::Refused => assert!(found.is_empty(), "{what}"),
                Outcome::Unknown => assert!(found.is_empty() || found == run(found[0]), "{what}"),
            }
            if let (Some(first), Some(last)) = (found.first(), found.last()) {
                assert!(*first >= after, "{what}, behind a later one of the same producer");
                after = last + 1;
            }
        }
    }
    assert!(places.is_empty(), "messages that nobody sent: {places:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(texts: &[&str]) -> Vec<Stored> {
        let message = |(offset, text): (u64, &&str)| Stored {
            offset,
            timestamp: 7,
            message: Message::value(format!("{text} padding")),
        };
        (0..).zip(texts).map(message).collect()
    }

    fn producer(requests: &[(usize, Outcome)]) -> Producer {
        Producer { requests: requests.to_vec(), ..Producer::new("p", 1, 0) }
    }

    fn holds(texts: &[&str], requests: &[(usize, Outcome)]) -> bool {
        let (stored, producers) = (stored(texts), [producer(requests)]);
        std::panic::catch_unwind(|| check(&stored, &producers)).is_ok()
    }

    #[test]
    fn what_was_said_must_be_so() {
        let at = |first_offset| Outcome::Stored { first_offset };
        assert!(holds(&["p/0/0", "p/0/1", "p/1/0"], &[(2, at(0)), (1, at(2))]));
        assert!(!holds(&["p/0/0", "p/1/0"], &[(2, at(0)), (1, at(1))]), "lost");
        assert!(!holds(&["p/0/0", "p/0/0"], &[(1, at(0))]), "twice");
        assert!(!holds(&["p/1/0", "p/0/0"], &[(1, at(1)), (1, at(0))]), "out of order");
        assert!(!holds(&["p/0/0", "p/7/0"], &[(1, at(0))]), "made up");
    }

    #[test]
    fn unknown_is_all_or_nothing_and_refused_is_nothing() {
        let unknown = [(2, Outcome::Unknown)];
        assert!(holds(&[], &unknown) && holds(&["p/0/0", "p/0/1"], &unknown));
        assert!(!holds(&["p/0/0"], &unknown), "half of it");
        assert!(!holds(&["p/0/0", "p/0/1", "p/0/0", "p/0/1"], &unknown), "twice");
        assert!(!holds(&["p/0/0"], &[(1, Outcome::Refused)]));
    }
}
