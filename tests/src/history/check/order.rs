//! Whether the order in which appends and strong reads began and ended fits the order of the log.
//!
//! The log is the only order that there can be: an append stands where its messages are, a strong read behind the last
//! message that it told of, before the next. So it is enough to compare each with what had ended when it began.
//! Strong reads are compared with appends, and with those of the same server.

use std::collections::BTreeMap;

use super::{Seen, Verdict};
use crate::history::{Outcome, Read};

/// How far the log is known to have gone, from which moment on.
pub(super) struct Ends(Vec<(u64, u64)>);

impl Ends {
    /// Of moments and ends in any order.
    pub(super) fn new(mut ends: Vec<(u64, u64)>) -> Self {
        ends.sort_unstable();
        let mut highest = 0;
        for (_, end) in &mut ends {
            highest = highest.max(*end);
            *end = highest;
        }
        Self(ends)
    }

    /// Before a moment; what ended in the same millisecond does not count.
    pub(super) fn before(&self, moment_ms: u64) -> u64 {
        let before = self.0.partition_point(|(ended, _)| *ended < moment_ms);
        before.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

impl Seen<'_> {
    /// What acknowledgements said.
    fn acknowledged_by(&self) -> Vec<(u64, u64)> {
        let end = |first: u64, messages: &[String]| first + messages.len() as u64;
        self.acknowledged().map(|(append, first)| (append.ended_ms, end(first, &append.messages))).collect()
    }

    /// What strong reads said.
    fn told_by(&self) -> Vec<(u64, u64)> {
        self.strong_reads().filter_map(|read| Some((read.ended_ms, read.end_offset?))).collect()
    }

    /// The same of each server.
    fn told_by_servers(&self) -> BTreeMap<usize, Ends> {
        let mut told: BTreeMap<usize, Vec<(u64, u64)>> = BTreeMap::new();
        for read in self.strong_reads() {
            if let (Some(server), Some(end)) = (read.server, read.end_offset) {
                told.entry(server).or_default().push((read.ended_ms, end));
            }
        }
        told.into_iter().map(|(server, ends)| (server, Ends::new(ends))).collect()
    }

    fn strong_reads(&self) -> impl Iterator<Item = &Read> {
        self.reads.iter().copied().filter(|read| read.strong)
    }

    /// What readers of any kind were shown.
    fn shown_by(&self) -> Vec<(u64, u64)> {
        let shown = |read: &Read| Some((read.ended_ms, read.messages.last()?.offset + 1));
        self.reads.iter().copied().filter_map(shown).collect()
    }

    /// What was acknowledged, told of or shown before an append began stands before it, whether its client came to know of
    /// it or not.
    pub(super) fn check_order(&self, verdict: &mut Verdict) {
        let reached = Ends::new([self.acknowledged_by(), self.told_by(), self.shown_by()].concat());
        let places = self.places();
        for append in &self.appends {
            let found = append.messages.first().and_then(|id| places.get(id.as_str()));
            let first = match append.outcome {
                Outcome::Acknowledged { first_offset } => first_offset,
                Outcome::Unknown | Outcome::Refused => match found {
                    Some(offset) => *offset,
                    None => continue,
                },
            };
            let before = reached.before(append.begun_ms);
            if first < before {
                verdict.breaks(format!(
                    "offsets up to {before} were acknowledged or shown before this began, which stands at {first}: {append:?}"
                ));
            }
        }
    }

    /// A strong read goes as far as what was acknowledged before it began and what its server told of before, no further
    /// than the log, and ends between two appends. Another server may have told of more: one that follows shows what is
    /// stored, one that leads what it knows to be stored.
    pub(super) fn check_strong_reads(&self, verdict: &mut Verdict) {
        let (acknowledged, told) = (Ends::new(self.acknowledged_by()), self.told_by_servers());
        let log_end = self.log.last_key_value().map_or(0, |(offset, _)| offset + 1);
        let inside = self.inside_appends();
        for read in self.strong_reads() {
            let Some(end) = read.end_offset else {
                let Read { reader, begun_ms, .. } = read;
                verdict.breaks(format!("{reader} read strongly at {begun_ms} ms and was not told the end"));
                continue;
            };
            let told = read.server.and_then(|server| told.get(&server));
            let told = told.map_or(0, |told| told.before(read.begun_ms));
            let acknowledged = acknowledged.before(read.begun_ms);
            let wrong = if end < acknowledged {
                format!("after {acknowledged} had been acknowledged")
            } else if end < told {
                format!("after the same server had told of {told}")
            } else if end > log_end {
                format!("and the log ends at {log_end}")
            } else if inside.binary_search(&end).is_ok() {
                "in the middle of an append".to_owned()
            } else {
                continue;
            };
            let Read { reader, begun_ms, .. } = read;
            verdict.breaks(format!("{reader} read strongly at {begun_ms} ms up to {end}, {wrong}"));
        }
    }

    /// Offsets that an append's messages stand on, but for its first.
    fn inside_appends(&self) -> Vec<u64> {
        let places = self.places();
        let later = self.appends.iter().flat_map(|append| append.messages.iter().skip(1));
        let mut inside: Vec<u64> = later.filter_map(|id| places.get(id.as_str()).copied()).collect();
        inside.sort_unstable();
        inside
    }
}
