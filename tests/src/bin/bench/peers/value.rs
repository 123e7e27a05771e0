//! What every message says: who sent it, which of its messages it is, when it was due, and bytes that say whether it is intact.
//! And the check that a stream holds just what was acknowledged.
//!
//! Everything is text, so that no system has to escape or encode it.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

use crate::load::{MESSAGE_BYTES, xorshift};

/// Producer, number and time in hexadecimal digits, at the front of a value.
const TAG_BYTES: usize = 4 + 12 + 16;

const LETTERS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

/// The value that a producer sends, but for its tag: letters that nothing on the way could shorten by much.
pub(crate) fn value(producer: u16) -> Vec<u8> {
    let mut state = u64::from(producer).wrapping_mul(2) + 1;
    let letter = |_| {
        state = xorshift(state);
        LETTERS[usize::from(state.to_le_bytes()[4] & 63)]
    };
    (0..MESSAGE_BYTES).map(letter).collect()
}

/// Bytes of a request that were encoded before, and where its values are.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) bytes: Vec<u8>,
    /// Where each value begins.
    pub(crate) values: Vec<usize>,
    pub(crate) producer: u16,
}

impl Template {
    /// Gives every message its number, from `first` on, and its time.
    pub(crate) fn stamp(&mut self, first: u64, due_us: u64) {
        for (sequence, at) in (first..).zip(&self.values) {
            let tag = &mut self.bytes[*at..*at + TAG_BYTES];
            digits(&mut tag[..4], u64::from(self.producer));
            digits(&mut tag[4..16], sequence);
            digits(&mut tag[16..], due_us);
        }
    }
}

/// Writes a number in as many hexadecimal digits as there is room for.
pub(crate) fn digits(into: &mut [u8], mut number: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

fn number(digits: &[u8]) -> anyhow::Result<u64> {
    let text = std::str::from_utf8(digits)?;
    u64::from_str_radix(text, 16).with_context(|| format!("a message begins with {text:?}"))
}

/// When a message was due: it was sent then, or later where its producer was held up.
pub(crate) fn due_us(value: &[u8]) -> anyhow::Result<u64> {
    number(value.get(16..TAG_BYTES).context("a message is too short")?)
}

/// What of one producer must be in a stream: its acknowledged requests, in order.
#[derive(Debug)]
struct Sent {
    firsts: Vec<u64>,
    messages: u64,
    /// How many messages were found.
    found: u64,
    value: Vec<u8>,
}

/// Holds what a stream has against what was acknowledged: every message once, in its producer's order, intact, and
/// nothing else.
#[derive(Debug, Default)]
pub(crate) struct Check {
    producers: BTreeMap<u64, Sent>,
}

impl Check {
    /// The requests of a producer, by their first numbers, with so many messages each.
    pub(crate) fn expect(&mut self, producer: u16, firsts: Vec<u64>, messages: u64) {
        let sent = Sent { firsts, messages, found: 0, value: value(producer) };
        self.producers.insert(u64::from(producer), sent);
    }

    /// Expects what another one does, too.
    pub(crate) fn join(&mut self, other: Self) {
        self.producers.extend(other.producers);
    }

    /// How many messages there must be.
    pub(crate) fn wanted(&self) -> u64 {
        self.producers.values().map(|sent| sent.firsts.len() as u64 * sent.messages).sum()
    }

    /// The next message of the stream.
    pub(crate) fn next(&mut self, value: &[u8]) -> anyhow::Result<()> {
        ensure!(value.len() == MESSAGE_BYTES, "a message has {} bytes", value.len());
        let producer = number(&value[..4])?;
        let sequence = number(&value[4..16])?;
        let sent =
            self.producers.get_mut(&producer).with_context(|| format!("nobody is producer {producer}"))?;
        let request = usize::try_from(sent.found / sent.messages)?;
        let first = sent.firsts.get(request);
        let wanted = first.map(|first| first + sent.found % sent.messages);
        ensure!(
            wanted == Some(sequence),
            "message {sequence} of producer {producer} stands where {wanted:?} should"
        );
        ensure!(value[TAG_BYTES..] == sent.value[TAG_BYTES..], "message {sequence} of {producer} is damaged");
        sent.found += 1;
        Ok(())
    }

    /// After the last message.
    pub(crate) fn end(&self) -> anyhow::Result<()> {
        for (producer, sent) in &self.producers {
            let wanted = sent.firsts.len() as u64 * sent.messages;
            ensure!(
                sent.found == wanted,
                "{} of {wanted} messages of producer {producer} are there",
                sent.found
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three requests of two messages by one producer, two of another, and the messages that belong to them.
    fn stream() -> (Check, Vec<Vec<u8>>) {
        let mut check = Check::default();
        check.expect(3, vec![0, 2, 4], 2);
        check.expect(9, vec![2, 6], 2);
        let messages = [(3, 0), (3, 1), (9, 2), (3, 2), (9, 3), (9, 6), (9, 7), (3, 3), (3, 4), (3, 5)];
        let message = |(producer, sequence)| {
            let mut template = Template { bytes: value(producer), values: vec![0], producer };
            template.stamp(sequence, 17);
            template.bytes
        };
        (check, messages.into_iter().map(message).collect())
    }

    fn checked(change: impl FnOnce(&mut Vec<Vec<u8>>)) -> anyhow::Result<()> {
        let (mut check, mut messages) = stream();
        assert_eq!(check.wanted(), 10);
        change(&mut messages);
        messages.iter().try_for_each(|message| check.next(message))?;
        check.end()
    }

    #[test]
    fn whatever_is_not_as_it_was_acknowledged_is_found() {
        checked(|_| {}).unwrap();
        let error = |change: fn(&mut Vec<Vec<u8>>)| checked(change).unwrap_err().to_string();
        assert!(error(|all| drop(all.remove(3))).contains("message 3 of producer 3"), "one is missing");
        assert!(
            error(|all| drop(all.pop())).contains("5 of 6 messages of producer 3"),
            "the last is missing"
        );
        assert!(error(|all| all.insert(1, all[0].clone())).contains("message 0"), "one is there twice");
        assert!(error(|all| all.push(all[9].clone())).contains("message 5"), "the last is there twice");
        assert!(error(|all| all.swap(0, 1)).contains("message 1"), "another order");
        assert!(error(|all| all[4][500] ^= 1).contains("message 3 of 9 is damaged"), "a bit");
        assert!(error(|all| all[4].truncate(1_000)).contains("1000 bytes"), "the end is missing");
        assert!(error(|all| digits(&mut all[0][..4], 5)).contains("nobody is producer 5"), "a stranger");
        assert_eq!(due_us(&stream().1[0]).unwrap(), 17);
    }
}
