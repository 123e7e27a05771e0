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
            Event::GoesOn { stream, what, from_ms, until_ms, within_ms } => {
                let deadline =
                    Deadline { what, from_ms: *from_ms, until_ms: *until_ms, within_ms: *within_ms };
                streams.entry(stream).or_default().deadlines.push(deadline);
            }
            Event::Deleting { stream, to, at_ms, in_vain } => {
                let deletion = Deletion { to: *to, at_ms: *at_ms, in_vain: *in_vain };
                streams.entry(stream).or_default().deletions.push(deletion);
            }
            Event::Keeps { stream, for_ms } => {
                let seen = streams.entry(stream).or_default();
                seen.kept_ms = seen.kept_ms.max(Some(*for_ms));
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
    deadlines: Vec<Deadline<'a>>,
    deletions: Vec<Deletion>,
    /// What is younger than this must not be deleted.
    kept_ms: Option<u64>,
}

/// When appends had to go on. See [`Event::GoesOn`].
struct Deadline<'a> {
    what: &'a str,
    from_ms: u64,
    until_ms: u64,
    within_ms: u64,
}

/// What was to be deleted, and all before it. See [`Event::Deleting`].
struct Deletion {
    to: u64,
    at_ms: u64,
    in_vain: bool,
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
        self.check_kept(verdict);
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

    /// No message was deleted before it was old enough. It is no older than its append: that it was stored later only
    /// makes it younger.
    fn check_kept(&self, verdict: &mut Verdict) {
        let Some(kept_ms) = self.kept_ms else { return };
        for Deletion { to, at_ms, .. } in self.deletions.iter().filter(|deletion| !deletion.in_vain) {
            let gone =
                self.acknowledged().filter(|(append, first)| first + append.messages.len() as u64 <= *to);
            let Some((newest, _)) = gone.max_by_key(|(append, _)| append.begun_ms) else { continue };
            if newest.begun_ms.saturating_add(kept_ms) > *at_ms {
                verdict.breaks(format!(
                    "what stands before {to} was being deleted at {at_ms} ms, not yet {kept_ms} ms after this began: {newest:?}"
                ));
            }
        }
    }

    /// Appends went on, and did not pause again for as long as they were not to.
    fn check_deadlines(&self, verdict: &mut Verdict) {
        for Deadline { what, from_ms, until_ms, within_ms } in &self.deadlines {
            let counted = self.acknowledged().filter(|(append, _)| append.begun_ms >= *from_ms);
            let mut ends: Vec<u64> = counted.map(|(append, _)| append.ended_ms).collect();
            ends.sort_unstable();
            let mut reached = *from_ms;
            // The longest pause, and when it began.
            let mut longest: Option<(u64, u64)> = None;
            for end in ends {
                if longest.is_some() && reached >= *until_ms {
                    break;
                }
                longest = longest.max(Some((end - reached, reached)));
                reached = end;
            }
            let Some((pause, since)) = longest else {
                verdict.breaks(format!("appends went on not at all from {from_ms} ms on: {what}"));
                continue;
            };
            if pause > *within_ms {
                verdict.breaks(format!("appends paused for {pause} ms from {since} ms on: {what}"));
            }
            if reached < *until_ms {
                verdict.breaks(format!(
                    "appends went on no more from {reached} ms on, which was to be until {until_ms} ms: {what}"
                ));
            }
            verdict.longest_gap_ms = verdict.longest_gap_ms.max(pause);
        }
    }
}

#[cfg(test)]
mod tests;
