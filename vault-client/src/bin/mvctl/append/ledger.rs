//! What became of the messages that were sent, in the order of the input.

use std::collections::VecDeque;

use futures::FutureExt;
use serde_json::{Value, json};
use vault_client::{Acknowledged, Receipt, SendError, SideEffects};

struct Sent {
    line: u64,
    bytes: u64,
    receipt: Receipt,
}

/// Counts what was acknowledged and what was not. Requests are stored in order, so that what is acknowledged is the
/// beginning of the input.
#[derive(Default)]
pub(super) struct Ledger {
    waiting: VecDeque<Sent>,
    /// The line whose message is being handed to the producer.
    begun: Option<u64>,
    pub(super) acknowledged: u64,
    /// How long the acknowledged messages are, with their line ends.
    pub(super) acknowledged_bytes: u64,
    pub(super) not_stored: u64,
    pub(super) unknown: u64,
    first_offset: Option<u64>,
    last_offset: Option<u64>,
    /// The first line that was sent and not acknowledged.
    first_line_left: Option<u64>,
    last_line_unknown: Option<u64>,
    pub(super) failure: Option<SendError>,
}

impl Ledger {
    /// A line's message is about to be handed to the producer, which may not come to it.
    pub(super) fn begin(&mut self, line: u64) {
        self.begun = Some(line);
    }

    /// The producer has taken it.
    pub(super) fn sent(&mut self, line: u64, bytes: u64, receipt: Receipt) {
        self.begun = None;
        self.waiting.push_back(Sent { line, bytes, receipt });
    }

    /// It was not taken.
    pub(super) fn refused(&mut self, line: u64) {
        self.begun = None;
        self.not_stored += 1;
        self.left(line);
    }

    fn left(&mut self, line: u64) {
        self.first_line_left = Some(self.first_line_left.map_or(line, |first| first.min(line)));
    }

    /// Counts those whose outcome is known by now.
    pub(super) fn settle(&mut self) {
        while let Some(sent) = self.waiting.front() {
            let Some(outcome) = sent.receipt.wait().now_or_never() else { return };
            self.count(outcome);
        }
    }

    /// Waits until another outcome is known; for ever where none is waited for.
    pub(super) async fn settled(&mut self) {
        match self.waiting.front() {
            Some(sent) => {
                let outcome = sent.receipt.wait().await;
                self.count(outcome);
                self.settle();
            }
            None => std::future::pending().await,
        }
    }

    /// Waits until all outcomes are known.
    pub(super) async fn settle_all(&mut self) {
        while !self.waiting.is_empty() {
            self.settled().await;
        }
        if let Some(line) = self.begun {
            self.refused(line);
        }
    }

    fn count(&mut self, outcome: Result<Acknowledged, SendError>) {
        let Some(sent) = self.waiting.pop_front() else { return };
        match outcome {
            Ok(Acknowledged { offset, .. }) => {
                self.acknowledged += 1;
                self.acknowledged_bytes += sent.bytes;
                self.first_offset.get_or_insert(offset.0);
                self.last_offset = Some(offset.0);
            }
            Err(error) => {
                self.left(sent.line);
                match error.side_effects() {
                    SideEffects::None => self.not_stored += 1,
                    SideEffects::Possible => {
                        self.unknown += 1;
                        self.last_line_unknown = Some(sent.line);
                    }
                }
                self.failure.get_or_insert(error);
            }
        }
    }

    /// The line to go on at, where `next` is the one behind all that was sent.
    fn line_to_go_on_at(&self, next: u64) -> u64 {
        self.first_line_left.unwrap_or(next)
    }

    /// What became of the messages, for programs. `next` is the line behind all that was sent.
    pub(super) fn document(&self, next: u64) -> Value {
        json!({
            "acknowledged": self.acknowledged,
            "not_stored": self.not_stored,
            "unknown": self.unknown,
            "first_offset": self.first_offset,
            "last_offset": self.last_offset,
            "next_line": self.line_to_go_on_at(next),
        })
    }

    /// What was appended, in a sentence.
    pub(super) fn success(&self) -> String {
        format!("appended {}{}", messages(self.acknowledged), self.offsets())
    }

    /// What became of the messages when not all went well, in a sentence.
    pub(super) fn account(&self, next: u64) -> String {
        let mut text = format!(
            "{} acknowledged{}, {} not stored, {} may be stored or not; ",
            messages(self.acknowledged),
            self.offsets(),
            self.not_stored,
            self.unknown
        );
        let line = self.line_to_go_on_at(next);
        text.push_str(&match (self.last_line_unknown, self.last_offset) {
            (None, _) => format!("go on at line {line} of the input"),
            (Some(last), Some(offset)) => format!(
                "lines {line} to {last} of the input may be stored: read from offset {} on to find out where to go on",
                offset + 1
            ),
            (Some(last), None) => format!(
                "lines {line} to {last} of the input may be stored: read the end of the stream to find out where to go on"
            ),
        });
        text
    }

    fn offsets(&self) -> String {
        match (self.first_offset, self.last_offset) {
            (Some(first), Some(last)) if first == last => format!(", offset {first}"),
            (Some(first), Some(last)) => format!(", offsets {first} to {last}"),
            _ => String::new(),
        }
    }
}

fn messages(count: u64) -> String {
    match count {
        0 => "no messages".to_owned(),
        1 => "1 message".to_owned(),
        _ => format!("{count} messages"),
    }
}
