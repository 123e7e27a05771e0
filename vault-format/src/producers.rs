//! What a place in the log knows of idempotent producers: who they are and what became of their last requests.
//!
//! The state is a function of the log alone, so that every server comes to the same one: it begins empty, each stamp in
//! the log is applied in order, and each batch of messages moves its time on. A snapshot at the head of a block holds the
//! state there. Nothing is forgotten but by that order and that time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use thiserror::Error;

use crate::batch::Batch;
use crate::header::Kind;
use crate::ids::{Offset, Timestamp};
use crate::limits::{MAX_OUTCOMES, MAX_PRODUCERS, PRODUCER_KEPT_MS};
use crate::record::Stamp;
use crate::snapshot::{self, Outcome, Producer};

/// The idempotent producers that a place in the log knows: the 1,000 that were used last, each within 24 hours of the
/// log's own time.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    by_id: HashMap<Arc<[u8]>, Known>,
    /// The same by when they were used: numbers rise with every use.
    by_use: BTreeMap<u64, Arc<[u8]>>,
    uses: u64,
}

#[derive(Clone, Debug)]
struct Known {
    used: u64,
    epoch: u64,
    /// 1 to 5, oldest first.
    outcomes: Vec<Outcome>,
}

/// What is to be done with a request that carries a stamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is new, and the next one of its producer.
    Next,
    /// It was stored before, as told here.
    Repeated(Outcome),
    /// It may not be stored.
    Refused(Refused),
}

/// Why a request of a producer may not be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refused {
    /// The producer has started anew since: who sends this is not the current one.
    #[error("the producer has started anew with epoch {current}")]
    OlderEpoch {
        /// The epoch that is in force.
        current: u64,
    },
    /// Requests between the last one that was stored and this one are missing.
    #[error("the producer's next request is {expected}: those before this one are not stored")]
    Gap {
        /// The sequence of the request that should come next.
        expected: u64,
    },
    /// The producer is not known, or not any more, and this is not its first request.
    #[error("no such producer is known here: it is new, or was forgotten; start a new epoch with sequence 0")]
    Unknown,
    /// It was stored, but so long ago that nobody knows at which offset.
    #[error(
        "this request was stored before; only the outcomes of the last {MAX_OUTCOMES} are known, from {oldest} on"
    )]
    Forgotten {
        /// The oldest sequence of which the outcome is known.
        oldest: u64,
    },
    /// Another request was stored under this sequence.
    #[error("another request, of {count} messages, was stored with this sequence")]
    Reused {
        /// How many messages that one has.
        count: u32,
    },
}

/// A batch that says of producers what no writer may say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("what it says of producers is malformed")]
pub struct Malformed;

impl Producers {
    /// The state that a snapshot holds.
    #[must_use]
    pub fn from_snapshot(producers: Vec<Producer>) -> Self {
        let mut state = Self::default();
        for Producer { id, epoch, outcomes } in producers {
            state.put(id.into(), epoch, outcomes);
        }
        state
    }

    /// The state as a snapshot holds it.
    #[must_use]
    pub fn to_snapshot(&self) -> Vec<Producer> {
        let known = self.by_use.values().filter_map(|id| Some((id, self.by_id.get(id)?)));
        known
            .map(|(id, Known { epoch, outcomes, .. })| Producer {
                id: id.to_vec(),
                epoch: *epoch,
                outcomes: outcomes.clone(),
            })
            .collect()
    }

    /// The payload of the snapshot.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        snapshot::encode(&self.to_snapshot(), &mut payload);
        payload
    }

    /// How many producers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// What is to be done with a request that comes now.
    #[must_use]
    pub fn judge(&self, stamp: &Stamp<'_>) -> Verdict {
        let first = if stamp.sequence == 0 { Ok(()) } else { Err(()) };
        let Some(known) = self.by_id.get(stamp.producer) else {
            return first.map_or(Verdict::Refused(Refused::Unknown), |()| Verdict::Next);
        };
        if stamp.epoch < known.epoch {
            return Verdict::Refused(Refused::OlderEpoch { current: known.epoch });
        }
        if stamp.epoch > known.epoch {
            let gap = Verdict::Refused(Refused::Gap { expected: 0 });
            return first.map_or(gap, |()| Verdict::Next);
        }
        if let Some(outcome) = known.outcomes.iter().find(|outcome| outcome.sequence == stamp.sequence) {
            return if u64::from(outcome.count) == stamp.record_count {
                Verdict::Repeated(*outcome)
            } else {
                Verdict::Refused(Refused::Reused { count: outcome.count })
            };
        }
        let (Some(oldest), Some(newest)) = (known.outcomes.first(), known.outcomes.last()) else {
            unreachable!("a producer is known by an outcome");
        };
        if stamp.sequence < newest.sequence {
            return Verdict::Refused(Refused::Forgotten { oldest: oldest.sequence });
        }
        // One beyond the highest sequence cannot be asked for.
        let expected = newest.sequence + 1;
        if stamp.sequence == expected { Verdict::Next } else { Verdict::Refused(Refused::Gap { expected }) }
    }

    /// Takes note of a request that stands in the log. The log is right, whatever [`Producers::judge`] would have said.
    pub fn apply(&mut self, stamp: &Stamp<'_>, offset: Offset, timestamp: Timestamp) {
        let count = u32::try_from(stamp.record_count).expect("a batch counts its records with 32 bits");
        let outcome = Outcome { sequence: stamp.sequence, offset, count, timestamp };
        let (id, outcomes) = match self.take(stamp.producer) {
            Some((id, Known { epoch, mut outcomes, .. })) if epoch == stamp.epoch => {
                if outcomes.len() == MAX_OUTCOMES {
                    outcomes.remove(0);
                }
                outcomes.push(outcome);
                (id, outcomes)
            }
            Some((id, _)) => (id, vec![outcome]),
            None => (stamp.producer.into(), vec![outcome]),
        };
        self.put(id, stamp.epoch, outcomes);
    }

    /// Moves the log's time on, to the last timestamp of a batch with messages: forgets who was last used more than 24
    /// hours before.
    pub fn advance(&mut self, last_timestamp: Timestamp) {
        let since = last_timestamp.0.saturating_sub(PRODUCER_KEPT_MS);
        // Timestamps never fall along the log, so the least recently used has the oldest.
        while let Some(id) = self.by_use.first_key_value().map(|(_, id)| Arc::clone(id)) {
            let last = self.by_id.get(&id).and_then(|known| known.outcomes.last());
            if last.is_some_and(|outcome| outcome.timestamp.0 >= since) {
                return;
            }
            self.take(&id);
        }
    }

    /// Takes note of the next batch of the log. Of messages without a stamp only the lengths are looked at.
    pub fn note(&mut self, batch: &Batch<'_>) -> Result<(), Malformed> {
        match batch.header.kind {
            Kind::Snapshot => {
                *self = Self::from_snapshot(snapshot::decode(batch.payload).map_err(|_| Malformed)?);
            }
            Kind::Messages => {
                let batch_records = batch.uncompressed().map_err(|_| Malformed)?;
                for stamped in batch_records.stamped() {
                    let (index, stamp, record) = stamped.map_err(|_| Malformed)?;
                    let offset = Offset(batch.header.base_offset.0 + u64::from(index));
                    let timestamp = Timestamp(batch.header.first_timestamp.0 + record.timestamp_delta);
                    self.apply(&stamp, offset, timestamp);
                }
                self.advance(batch.header.last_timestamp);
            }
            Kind::Filler | Kind::Seal | Kind::Commit => {}
        }
        Ok(())
    }

    fn take(&mut self, id: &[u8]) -> Option<(Arc<[u8]>, Known)> {
        let (id, known) = self.by_id.remove_entry(id)?;
        self.by_use.remove(&known.used);
        Some((id, known))
    }

    /// Puts a producer in as the last one used.
    fn put(&mut self, id: Arc<[u8]>, epoch: u64, outcomes: Vec<Outcome>) {
        // Of a snapshot that gives an id twice, which no writer makes, the later one counts.
        self.take(&id);
        self.uses += 1;
        self.by_use.insert(self.uses, Arc::clone(&id));
        self.by_id.insert(id, Known { used: self.uses, epoch, outcomes });
        while self.by_id.len() > MAX_PRODUCERS {
            let Some((_, oldest)) = self.by_use.pop_first() else { return };
            self.by_id.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(producer: &str, epoch: u64, sequence: u64) -> Stamp<'_> {
        Stamp { producer: producer.as_bytes(), epoch, sequence, record_count: 2 }
    }

    fn stored(state: &mut Producers, stamp: &Stamp<'_>, offset: u64, at: u64) {
        assert_eq!(state.judge(stamp), Verdict::Next);
        state.apply(stamp, Offset(offset), Timestamp(at));
        state.advance(Timestamp(at));
    }

    fn refused(state: &Producers, stamp: &Stamp<'_>) -> Refused {
        match state.judge(stamp) {
            Verdict::Refused(refused) => refused,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_come_in_order_and_are_known_again() {
        let mut state = Producers::default();
        assert_eq!(refused(&state, &stamp("a", 0, 1)), Refused::Unknown);
        for sequence in 0..7 {
            stored(&mut state, &stamp("a", 3, sequence), 10 * sequence, 100 + sequence);
        }
        for sequence in 2..7 {
            let outcome = Outcome {
                sequence,
                offset: Offset(10 * sequence),
                count: 2,
                timestamp: Timestamp(100 + sequence),
            };
            assert_eq!(state.judge(&stamp("a", 3, sequence)), Verdict::Repeated(outcome));
        }
        assert_eq!(refused(&state, &stamp("a", 3, 1)), Refused::Forgotten { oldest: 2 });
        assert_eq!(refused(&state, &stamp("a", 3, 8)), Refused::Gap { expected: 7 });
        let other = Stamp { record_count: 1, ..stamp("a", 3, 6) };
        assert_eq!(refused(&state, &other), Refused::Reused { count: 2 });
    }

    #[test]
    fn a_new_epoch_begins_at_0_and_shuts_the_old_one_out() {
        let mut state = Producers::default();
        stored(&mut state, &stamp("a", 1, 0), 0, 1);
        stored(&mut state, &stamp("a", 1, 1), 2, 1);
        assert_eq!(refused(&state, &stamp("a", 2, 1)), Refused::Gap { expected: 0 });
        stored(&mut state, &stamp("a", 2, 0), 4, 1);
        assert_eq!(refused(&state, &stamp("a", 1, 2)), Refused::OlderEpoch { current: 2 });
        assert_eq!(refused(&state, &stamp("a", 1, 1)), Refused::OlderEpoch { current: 2 });
        assert!(matches!(state.judge(&stamp("a", 2, 0)), Verdict::Repeated(_)));
    }

    #[test]
    fn the_highest_sequence_is_the_last() {
        let mut state = Producers::default();
        state.apply(&stamp("a", 0, u64::MAX - 1), Offset(0), Timestamp(1));
        stored(&mut state, &stamp("a", 0, u64::MAX), 2, 1);
        assert!(matches!(state.judge(&stamp("a", 0, u64::MAX)), Verdict::Repeated(_)));
    }

    #[test]
    fn the_thousand_used_last_are_known() {
        let mut state = Producers::default();
        let name = |n: usize| format!("p{n}");
        for n in 0..MAX_PRODUCERS {
            stored(&mut state, &stamp(&name(n), 0, 0), 2 * n as u64, 1);
        }
        // The first is used again, so that the second goes when one more comes.
        stored(&mut state, &stamp(&name(0), 0, 1), 5_000, 1);
        stored(&mut state, &stamp("one more", 0, 0), 5_002, 1);
        assert_eq!(state.len(), MAX_PRODUCERS);
        assert_eq!(refused(&state, &stamp(&name(1), 0, 1)), Refused::Unknown);
        assert_eq!(state.judge(&stamp(&name(0), 0, 2)), Verdict::Next);
        assert_eq!(state.judge(&stamp(&name(2), 0, 1)), Verdict::Next);
    }

    #[test]
    fn who_was_not_used_for_a_day_of_the_logs_time_is_forgotten() {
        let mut state = Producers::default();
        stored(&mut state, &stamp("a", 0, 0), 0, 1_000);
        stored(&mut state, &stamp("b", 0, 0), 2, 2_000);
        state.advance(Timestamp(1_000 + PRODUCER_KEPT_MS));
        assert_eq!(state.len(), 2);
        state.advance(Timestamp(1_001 + PRODUCER_KEPT_MS));
        assert_eq!(refused(&state, &stamp("a", 0, 1)), Refused::Unknown);
        assert_eq!(state.judge(&stamp("b", 0, 1)), Verdict::Next);
        state.advance(Timestamp::MAX);
        assert!(state.is_empty());
    }
}
