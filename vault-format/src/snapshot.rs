//! The payload of a snapshot batch: the idempotent producers known at the head of a block.
//!
//! ```text
//! varint number of producers, then for each, the least recently used first:
//!   varint id length, id, varint epoch, varint number of outcomes, then for each, oldest first:
//!     varint sequence, varint first offset, varint message count, varint timestamp
//! ```

use thiserror::Error;

use crate::ids::{Offset, Timestamp};
use crate::limits::{MAX_OFFSET, MAX_OUTCOMES, MAX_PRODUCER_ID_BYTES, MAX_PRODUCERS, MAX_TIMESTAMP_MS};
use crate::varint;

/// One producer and what became of its last requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Producer {
    /// 1 to 64 bytes that the producer chose.
    pub id: Vec<u8>,
    /// Rises when the producer starts anew.
    pub epoch: u64,
    /// Its last requests, 1 to 5, oldest first.
    pub outcomes: Vec<Outcome>,
}

/// Where a producer's request was stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The request's number in its epoch.
    pub sequence: u64,
    /// The offset of its first message.
    pub offset: Offset,
    /// How many messages it had.
    pub count: u32,
    /// When it was appended.
    pub timestamp: Timestamp,
}

impl Outcome {
    /// Whether a request can have been stored so: it had messages, and a message id can name each of them.
    fn is_possible(&self) -> bool {
        self.count > 0
            && self.offset.checked_add(self.count.into()).is_some()
            && self.timestamp <= Timestamp::MAX
    }
}

/// A payload that is not a snapshot's.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("the snapshot is malformed")]
pub struct InvalidSnapshot;

/// Writes the payload. More than [`MAX_PRODUCERS`] producers or [`MAX_OUTCOMES`] outcomes are the caller's mistake, and so
/// is an outcome that no request can have had.
pub fn encode(producers: &[Producer], out: &mut Vec<u8>) {
    assert!(producers.len() <= MAX_PRODUCERS);
    varint::put(out, producers.len() as u64);
    for producer in producers {
        assert!((1..=MAX_PRODUCER_ID_BYTES).contains(&producer.id.len()));
        assert!((1..=MAX_OUTCOMES).contains(&producer.outcomes.len()));
        varint::put(out, producer.id.len() as u64);
        out.extend_from_slice(&producer.id);
        varint::put(out, producer.epoch);
        varint::put(out, producer.outcomes.len() as u64);
        for outcome in &producer.outcomes {
            assert!(outcome.is_possible(), "an outcome is what became of a request that was stored");
            varint::put(out, outcome.sequence);
            varint::put(out, outcome.offset.0);
            varint::put(out, outcome.count.into());
            varint::put(out, outcome.timestamp.0);
        }
    }
}

/// Reads a whole payload.
pub fn decode(mut payload: &[u8]) -> Result<Vec<Producer>, InvalidSnapshot> {
    let rest = &mut payload;
    let mut producers = Vec::new();
    for _ in 0..count(rest, 0, MAX_PRODUCERS)? {
        let id_len = count(rest, 1, MAX_PRODUCER_ID_BYTES)?;
        let (id, after) = rest.split_at_checked(id_len).ok_or(InvalidSnapshot)?;
        *rest = after;
        let epoch = varint::take(rest).ok_or(InvalidSnapshot)?;
        let outcomes =
            (0..count(rest, 1, MAX_OUTCOMES)?).map(|_| outcome(rest)).collect::<Result<Vec<_>, _>>()?;
        producers.push(Producer { id: id.to_vec(), epoch, outcomes });
    }
    if rest.is_empty() { Ok(producers) } else { Err(InvalidSnapshot) }
}

fn count(rest: &mut &[u8], least: usize, most: usize) -> Result<usize, InvalidSnapshot> {
    let count = varint::take(rest).and_then(|n| usize::try_from(n).ok()).ok_or(InvalidSnapshot)?;
    if (least..=most).contains(&count) { Ok(count) } else { Err(InvalidSnapshot) }
}

fn outcome(rest: &mut &[u8]) -> Result<Outcome, InvalidSnapshot> {
    let mut number = |most: u64| varint::take(rest).filter(|n| *n <= most).ok_or(InvalidSnapshot);
    let outcome = Outcome {
        sequence: number(u64::MAX)?,
        offset: Offset(number(MAX_OFFSET)?),
        count: u32::try_from(number(u32::MAX.into())?).map_err(|_| InvalidSnapshot)?,
        timestamp: Timestamp(number(MAX_TIMESTAMP_MS)?),
    };
    if outcome.is_possible() { Ok(outcome) } else { Err(InvalidSnapshot) }
}
