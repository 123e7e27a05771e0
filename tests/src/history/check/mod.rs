//! Whether a history keeps the promises.

mod order;
mod reads;
mod storage;

use std::collections::{BTreeMap, HashMap};

use self::storage::check_storage;
use super::{Append, Event, Outcome, Placed, Read};

/// What comes of a history.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// Acknowledged messages that are not where the answer said.
    pub lost: u64,
    /// Messages that are stored more than once.
    pub repeated: u64,
    /// The longest time that appends were held up when nothing was in the way any more.
    pub longest_gap_ms: u64,
    /// Strong reads that were answered up to the end of the stream.
    pub strong_reads: u64,
    /// Every promise that was broken, in a sentence each.
    pub broken: Vec<String>,
}

/// Holds a history against the promises.
#[must_use]
pub fn check(events: &[Event]) -> Verdict {
    let mut verdict = Verdict::default();
    check_storage(events, &mut verdict);
    let mut streams: BTreeMap<&str, Seen<'_>> = BTreeMap::new();
    for event in events {
        match event {
            Event::Append(append) => streams.entry(&append.stream).or_default().appends.push(append),
            Event::Read(read) => streams.entry(&read.stream).or_default().reads.push(read),
            Event::Stored(stored) => {
                let seen = streams.entry(&stored.stream).or_default();
                for message in &stored.messages {
                    if let Some(other) = seen.log.insert(message.offset, message)
                        && other != message
                    {
                        verdict.breaks(format!(
                            "{}: two messages at one offset: {other:?}, {message:?}",
                            stored.stream
                        ));
                    }
                }
            }
            Event::GoesOn { stream, what, from_ms, within_ms } => {
                streams.entry(stream).or_default().deadlines.push((what, *from_ms, *within_ms));
            }
            Event::Deleting { stream, to, at_ms } => {
                streams.entry(stream).or_default().deletions.push((*at_ms, *to));
            }
            Event::Term { .. } | Event::Claim { .. } | Event::Write { .. } | Event::Clear { .. } => {}
        }
    }
    for (stream, seen) in &streams {
        let mut of_stream = Verdict::default();
        seen.check(&mut of_stream);
        verdict.acknowledged += of_stream.acknowledged;
        verdict.lost += of_stream.lost;
        verdict.repeated += of_stream.repeated;
        verdict.strong_reads += of_stream.strong_reads;
        verdict.longest_gap_ms = verdict.longest_gap_ms.max(of_stream.longest_gap_ms);
        verdict.broken.extend(of_stream.broken.into_iter().map(|broken| format!("{stream}: {broken}")));
    }
    verdict
}

impl Verdict {
    /// A run with fewer strong reads than this has not tried them.
    pub fn expect_strong_reads(&mut self, at_least: u64) {
        if self.strong_reads < at_least {
            let count = self.strong_reads;
            self.breaks(format!("only {count} strong reads were answered, of {at_least} at least"));
        }
    }

    fn breaks(&mut self, sentence: String) {
        self.broken.push(sentence);
    }
}

/// All that is known of one stream.
#[derive(Default)]
struct Seen<'a> {
    appends: Vec<&'a Append>,
    reads: Vec<&'a Read>,
    log: BTreeMap<u64, &'a Placed>,
    deadlines: Vec<(&'a str, u64, u64)>,
    /// When which offsets were to be deleted, and all before them.
    deletions: Vec<(u64, u64)>,
}

impl Seen<'_> {
    fn check(&self, verdict: &mut Verdict) {
        self.check_log(verdict);
        self.check_appends(verdict);
        self.check_order(verdict);
        self.check_sessions(verdict);
        for read in &self.reads {
            self.check_read(read, verdict);
            let is_answered = read.strong && read.up_to.is_some() && read.up_to == read.end_offset;
            verdict.strong_reads += u64::from(is_answered);
        }
        self.check_strong_reads(verdict);
        self.check_skips(verdict);
        self.check_deadlines(verdict);
    }

    /// Offsets without gaps, times that do not run backwards.
    fn check_log(&self, verdict: &mut Verdict) {
        let mut before: Option<&Placed> = None;
        for message in self.log.values() {
            match before {
                None if message.offset > 0 => {
                    verdict
                        .breaks(format!("nothing is known of what stands before offset {}", message.offset));
                }
                Some(before) if before.offset + 1 != message.offset => {
                    verdict.breaks(format!("offset {} follows on offset {}", message.offset, before.offset));
                }
                Some(before) if before.timestamp > message.timestamp => {
                    verdict.breaks(format!("time runs backwards from offset {} to the next", before.offset));
                }
                _ => {}
            }
            before = Some(message);
        }
    }

    /// Acknowledged messages once and at their places; refused ones never; the others at most once; nothing else.
    fn check_appends(&self, verdict: &mut Verdict) {
        let mut places: HashMap<&str, Vec<u64>> = HashMap::new();
        for message in self.log.values() {
            places.entry(&message.id).or_default().push(message.offset);
        }
        for append in &self.appends {
            let found: Vec<Vec<u64>> =
                append.messages.iter().map(|id| places.remove(id.as_str()).unwrap_or_default()).collect();
            let twice = found.iter().filter(|places| places.len() > 1).count() as u64;
            if twice > 0 {
                verdict.repeated += twice;
                verdict.breaks(format!("stored more than once, at {found:?}: {append:?}"));
            }
            let count = append.messages.len() as u64;
            let whole_at = |first: u64| {
                (first..).zip(&found).filter(|(offset, places)| places.contains(offset)).count() as u64
                    == count
            };
            match append.outcome {
                Outcome::Acknowledged { first_offset } => {
                    verdict.acknowledged += count;
                    let missing = (first_offset..).zip(&found);
                    let missing = missing.filter(|(offset, places)| !places.contains(offset)).count() as u64;
                    if missing > 0 {
                        verdict.lost += missing;
                        verdict.breaks(format!("acknowledged, but stored at {found:?}: {append:?}"));
                    }
                }
                Outcome::Refused => {
                    if found.iter().any(|places| !places.is_empty()) {
                        verdict.breaks(format!("refused, but stored at {found:?}: {append:?}"));
                    }
                }
                Outcome::Unknown => {
                    let first = found.first().and_then(|places| places.first().copied());
                    let none = found.iter().all(Vec::is_empty);
                    if !none && !first.is_some_and(whole_at) {
                        verdict.breaks(format!("stored in part, at {found:?}: {append:?}"));
                    }
                }
            }
        }
        let mut strangers: Vec<_> = places.into_iter().collect();
        strangers.sort_unstable();
        if !strangers.is_empty() {
            verdict.breaks(format!("messages that nobody sent: {strangers:?}"));
        }
    }

    fn acknowledged(&self) -> impl Iterator<Item = (&Append, u64)> {
        self.appends.iter().filter_map(|append| match append.outcome {
            Outcome::Acknowledged { first_offset } => Some((*append, first_offset)),
            Outcome::Refused | Outcome::Unknown => None,
        })
    }

    /// Where each message stands first.
    fn places(&self) -> HashMap<&str, u64> {
        let mut places = HashMap::new();
        for message in self.log.values() {
            places.entry(message.id.as_str()).or_insert(message.offset);
        }
        places
    }

    fn check_sessions(&self, verdict: &mut Verdict) {
        let places = self.places();
        let mut sessions: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
        for append in &self.appends {
            let Some((session, number)) = &append.session else { continue };
            let place = append.messages.first().and_then(|id| places.get(id.as_str()));
            if let Some(place) = place {
                sessions.entry(session).or_default().push((*number, *place));
            }
        }
        for (session, mut stored) in sessions {
            stored.sort_unstable();
            if let Some(two) = stored.windows(2).find(|two| two[0].1 >= two[1].1) {
                verdict.breaks(format!("messages {two:?} (number, offset) of {session} are out of order"));
            }
        }
    }

    fn check_deadlines(&self, verdict: &mut Verdict) {
        for (what, from_ms, within_ms) in &self.deadlines {
            let first = self
                .acknowledged()
                .filter(|(append, _)| append.begun_ms >= *from_ms)
                .map(|(append, _)| append.ended_ms - from_ms)
                .min();
            let gap = first.unwrap_or(u64::MAX);
            if gap > *within_ms {
                let took = first.map_or("not at all".to_owned(), |gap| format!("after {gap} ms"));
                verdict.breaks(format!("appends went on {took} from {from_ms} ms on: {what}"));
            }
            verdict.longest_gap_ms = verdict.longest_gap_ms.max(first.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests;
