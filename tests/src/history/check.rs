//! Whether a history keeps the promises.

use std::collections::{BTreeMap, HashMap};

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
            Event::Term { .. } | Event::Claim { .. } | Event::Write { .. } => {}
        }
    }
    for (stream, seen) in &streams {
        let mut of_stream = Verdict::default();
        seen.check(&mut of_stream);
        verdict.acknowledged += of_stream.acknowledged;
        verdict.lost += of_stream.lost;
        verdict.repeated += of_stream.repeated;
        verdict.longest_gap_ms = verdict.longest_gap_ms.max(of_stream.longest_gap_ms);
        verdict.broken.extend(of_stream.broken.into_iter().map(|broken| format!("{stream}: {broken}")));
    }
    verdict
}

impl Verdict {
    fn breaks(&mut self, sentence: String) {
        self.broken.push(sentence);
    }
}

/// Terms and what lands under them.
fn check_storage(events: &[Event], verdict: &mut Verdict) {
    let mut holders: HashMap<u64, &str> = HashMap::new();
    let mut claims: HashMap<&str, u64> = HashMap::new();
    let mut contents: HashMap<(&str, u64, u64), u32> = HashMap::new();
    for event in events {
        match event {
            Event::Term { term, holder } => {
                let first = holders.entry(*term).or_insert(holder);
                if first != holder {
                    verdict.breaks(format!("{first} and {holder} both hold term {term}"));
                }
            }
            Event::Claim { blob, term } => {
                let claimed = claims.entry(blob).or_default();
                *claimed = (*claimed).max(*term);
            }
            Event::Write { blob, position, fence, checksum } => {
                let claimed = claims.get(blob.as_str()).copied().unwrap_or_default();
                if *fence < claimed {
                    verdict.breaks(format!(
                        "a batch of term {fence} landed at {position} of {blob} after term {claimed} had claimed it"
                    ));
                }
                let first = contents.entry((blob, *position, *fence)).or_insert(*checksum);
                if first != checksum {
                    verdict.breaks(format!("term {fence} wrote two contents to {position} of {blob}"));
                }
            }
            _ => {}
        }
    }
}

/// All that is known of one stream.
#[derive(Default)]
struct Seen<'a> {
    appends: Vec<&'a Append>,
    reads: Vec<&'a Read>,
    log: BTreeMap<u64, &'a Placed>,
    deadlines: Vec<(&'a str, u64, u64)>,
}

impl Seen<'_> {
    fn check(&self, verdict: &mut Verdict) {
        self.check_log(verdict);
        self.check_appends(verdict);
        self.check_order(verdict);
        self.check_sessions(verdict);
        for read in &self.reads {
            self.check_read(read, verdict);
        }
        self.check_strong_reads(verdict);
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

    /// For every moment at which an acknowledgement came: the highest offset behind anything acknowledged by then.
    fn acknowledged_by(&self) -> Vec<(u64, u64)> {
        let mut ends: Vec<(u64, u64)> = self
            .acknowledged()
            .map(|(append, first)| (append.ended_ms, first + append.messages.len() as u64))
            .collect();
        ends.sort_unstable();
        let mut highest = 0;
        for (_, end) in &mut ends {
            highest = highest.max(*end);
            *end = highest;
        }
        ends
    }

    /// What was acknowledged before another append began stands before it.
    fn check_order(&self, verdict: &mut Verdict) {
        let ends = self.acknowledged_by();
        for (append, first) in self.acknowledged() {
            let before = acknowledged_before(&ends, append.begun_ms);
            if first < before {
                verdict.breaks(format!(
                    "offsets up to {before} were acknowledged before this began: {append:?}"
                ));
            }
        }
    }

    fn check_sessions(&self, verdict: &mut Verdict) {
        let mut places: HashMap<&str, u64> = HashMap::new();
        for message in self.log.values() {
            places.entry(&message.id).or_insert(message.offset);
        }
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

    fn check_read(&self, read: &Read, verdict: &mut Verdict) {
        for (index, message) in read.messages.iter().enumerate() {
            if self.log.get(&message.offset) != Some(&message) {
                let stored = self.log.get(&message.offset);
                verdict.breaks(format!(
                    "{} read at {} ms {message:?}, where {stored:?} is stored",
                    read.reader, read.ended_ms
                ));
                return;
            }
            if index > 0 && read.messages[index - 1].offset + 1 != message.offset {
                verdict.breaks(format!("{} was given a gap before {message:?}", read.reader));
            }
        }
        if let (Some(since), Some(first)) = (read.since, read.messages.first()) {
            let before = first.offset.checked_sub(1).and_then(|offset| self.log.get(&offset));
            if first.timestamp < since || before.is_some_and(|before| before.timestamp >= since) {
                verdict.breaks(format!(
                    "{} asked for what came from {since} on and was given {first:?} behind {before:?}",
                    read.reader
                ));
            }
        }
    }

    fn check_strong_reads(&self, verdict: &mut Verdict) {
        let ends = self.acknowledged_by();
        for read in self.reads.iter().filter(|read| read.strong) {
            let before = acknowledged_before(&ends, read.begun_ms);
            if read.end_offset.is_some_and(|end| end < before) {
                verdict.breaks(format!(
                    "{} read strongly at {} ms up to {:?}, after {before} had been acknowledged",
                    read.reader, read.begun_ms, read.end_offset
                ));
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

/// What was acknowledged before a moment; what ended in the same millisecond does not count.
fn acknowledged_before(ends: &[(u64, u64)], moment_ms: u64) -> u64 {
    let before = ends.partition_point(|(ended, _)| *ended < moment_ms);
    before.checked_sub(1).map_or(0, |last| ends[last].1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Stored;

    const STREAM: &str = "s";

    fn placed(offset: u64, id: &str) -> Placed {
        Placed { offset, timestamp: 1_000 + offset, id: id.to_owned() }
    }

    fn stored(ids: &[&str]) -> Event {
        let messages = (0..).zip(ids).map(|(offset, id)| placed(offset, id)).collect();
        Event::Stored(Stored { stream: STREAM.to_owned(), messages })
    }

    fn append(ids: &[&str], times: (u64, u64), outcome: Outcome) -> Append {
        Append {
            stream: STREAM.to_owned(),
            session: None,
            begun_ms: times.0,
            ended_ms: times.1,
            messages: ids.iter().map(|id| (*id).to_owned()).collect(),
            outcome,
        }
    }

    fn done(ids: &[&str], times: (u64, u64), first_offset: u64) -> Event {
        Event::Append(append(ids, times, Outcome::Acknowledged { first_offset }))
    }

    fn read(messages: Vec<Placed>) -> Read {
        Read {
            stream: STREAM.to_owned(),
            reader: "r".to_owned(),
            begun_ms: 50,
            ended_ms: 60,
            messages,
            end_offset: None,
            strong: false,
            since: None,
        }
    }

    /// Whether exactly one promise is broken, in these words.
    #[track_caller]
    fn breaks(events: &[Event], words: &str) {
        let verdict = check(events);
        assert_eq!(verdict.broken.len(), 1, "{verdict:?}");
        assert!(verdict.broken[0].contains(words), "{verdict:?}");
    }

    #[track_caller]
    fn holds(events: &[Event]) -> Verdict {
        let verdict = check(events);
        assert_eq!(verdict.broken, Vec::<String>::new());
        verdict
    }

    #[test]
    fn what_is_acknowledged_stands_at_its_offset_once() {
        let log = stored(&["a", "b", "c"]);
        let verdict = holds(&[log.clone(), done(&["a"], (1, 2), 0), done(&["b", "c"], (1, 3), 1)]);
        assert_eq!((verdict.acknowledged, verdict.lost, verdict.repeated), (3, 0, 0));
        let moved = [log.clone(), done(&["a"], (1, 2), 0), done(&["c", "b"], (1, 3), 1)];
        breaks(&moved, "acknowledged, but");
        assert_eq!(check(&moved).lost, 2);
        let lost =
            [log.clone(), done(&["a"], (1, 2), 0), done(&["b", "c"], (1, 2), 1), done(&["d"], (1, 2), 3)];
        breaks(&lost, "acknowledged, but");
        let twice = [stored(&["a", "a"]), done(&["a"], (1, 2), 0)];
        breaks(&twice, "more than once");
        assert_eq!(check(&twice).repeated, 1);
        breaks(&[log, done(&["a"], (1, 2), 0), done(&["b"], (1, 2), 1)], "nobody sent");
    }

    #[test]
    fn what_failed_appears_never_or_once_and_whole() {
        let refused = Event::Append(append(&["a"], (1, 2), Outcome::Refused));
        let unknown = Event::Append(append(&["b", "c"], (1, 2), Outcome::Unknown));
        holds(&[stored(&[]), refused.clone(), unknown.clone()]);
        holds(&[stored(&["b", "c"]), refused.clone(), unknown.clone()]);
        breaks(&[stored(&["a"]), refused, unknown.clone()], "refused, but");
        breaks(&[stored(&["b"]), unknown.clone()], "in part");
        breaks(&[stored(&["c", "b"]), unknown], "in part");
    }

    #[test]
    fn what_was_acknowledged_before_another_began_stands_before_it() {
        let log = stored(&["a", "b"]);
        holds(&[log.clone(), done(&["b"], (1, 5), 1), done(&["a"], (5, 9), 0)]);
        breaks(&[log.clone(), done(&["b"], (1, 5), 1), done(&["a"], (6, 9), 0)], "before this began");
        let of_session = |id: &str, number: u64, first_offset: u64| {
            let session = Some(("p".to_owned(), number));
            Event::Append(Append { session, ..append(&[id], (1, 9), Outcome::Acknowledged { first_offset }) })
        };
        holds(&[log.clone(), of_session("a", 0, 0), of_session("b", 1, 1)]);
        breaks(&[log, of_session("a", 1, 0), of_session("b", 0, 1)], "out of order");
    }

    #[test]
    fn offsets_have_no_gaps_and_time_does_not_run_backwards() {
        let log = |messages: Vec<Placed>| Event::Stored(Stored { stream: STREAM.to_owned(), messages });
        let all = [done(&["a"], (1, 2), 0), done(&["b"], (1, 2), 1)];
        let with = |messages| [vec![log(messages)], all.to_vec()].concat();
        holds(&with(vec![placed(0, "a"), placed(1, "b")]));
        breaks(&with(vec![placed(0, "a"), Placed { timestamp: 3, ..placed(1, "b") }]), "backwards");
        let verdict = check(&with(vec![placed(0, "a"), placed(2, "b")]));
        assert!(verdict.broken.iter().any(|broken| broken.contains("follows on")), "{verdict:?}");
    }

    #[test]
    fn reads_show_what_is_stored() {
        let all = [stored(&["a", "b", "c"]), done(&["a", "b", "c"], (1, 9), 0)];
        let with = |read: Read| [all.to_vec(), vec![Event::Read(read)]].concat();
        holds(&with(read(vec![placed(1, "b"), placed(2, "c")])));
        breaks(&with(read(vec![placed(1, "c")])), "is stored");
        breaks(&with(read(vec![placed(3, "d")])), "is stored");
        breaks(&with(read(vec![placed(0, "a"), placed(2, "c")])), "a gap");
        let since = |since: u64, from: u64| {
            let messages = vec![placed(from, ["a", "b", "c"][usize::try_from(from).unwrap()])];
            with(Read { since: Some(since), ..read(messages) })
        };
        holds(&since(1_001, 1));
        breaks(&since(1_001, 0), "asked for");
        breaks(&since(1_001, 2), "asked for");
    }

    #[test]
    fn strong_reads_miss_nothing_that_was_acknowledged_before() {
        let with = |end: u64, begun_ms: u64| {
            let read = Read { end_offset: Some(end), strong: true, begun_ms, ..read(Vec::new()) };
            [stored(&["a", "b"]), done(&["a"], (1, 9), 0), done(&["b"], (1, 9), 1), Event::Read(read)]
        };
        holds(&with(0, 9));
        holds(&with(2, 10));
        breaks(&with(1, 10), "strongly");
    }

    #[test]
    fn a_term_has_one_holder_and_nothing_of_a_lower_one_lands_after_its_claim() {
        let term = |term, holder: &str| Event::Term { term, holder: holder.to_owned() };
        holds(&[term(1, "x"), term(2, "y"), term(2, "y")]);
        breaks(&[term(1, "x"), term(1, "y")], "both hold");
        let claim = |term| Event::Claim { blob: "b".to_owned(), term };
        let write = |fence, checksum| Event::Write { blob: "b".to_owned(), position: 0, fence, checksum };
        holds(&[claim(1), write(1, 7), write(1, 7), claim(2), write(2, 8)]);
        breaks(&[claim(1), claim(2), write(1, 7)], "had claimed");
        breaks(&[claim(1), write(1, 7), write(1, 8)], "two contents");
    }

    #[test]
    fn appends_go_on_in_time() {
        let with = |begun, ended| {
            let goes_on = Event::GoesOn {
                stream: STREAM.to_owned(),
                what: "healed".to_owned(),
                from_ms: 100,
                within_ms: 6_000,
            };
            [stored(&["a"]), done(&["a"], (begun, ended), 0), goes_on]
        };
        assert_eq!(holds(&with(100, 6_100)).longest_gap_ms, 6_000);
        breaks(&with(100, 6_101), "6001 ms");
        breaks(&with(99, 101), "not at all");
    }
}
