//! How a run went, in a line.

use std::fmt;

use super::Verdict;

/// What is told of a run in its last line, behind its seed; or of several.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Faults.
    pub faults: u64,
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// Those that are not where the answer said.
    pub lost: u64,
    /// Messages that are stored more than once.
    pub repeated: u64,
    /// The longest time that appends were held up when nothing was in the way any more.
    pub longest_gap_ms: u64,
}

impl Tally {
    /// Of one run.
    #[must_use]
    pub fn new(faults: u64, verdict: &Verdict) -> Self {
        let Verdict { acknowledged, lost, repeated, longest_gap_ms, .. } = *verdict;
        Self { faults, acknowledged, lost, repeated, longest_gap_ms }
    }

    /// With another run.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            faults: self.faults + other.faults,
            acknowledged: self.acknowledged + other.acknowledged,
            lost: self.lost + other.lost,
            repeated: self.repeated + other.repeated,
            longest_gap_ms: self.longest_gap_ms.max(other.longest_gap_ms),
        }
    }

    /// Out of the line of a seed.
    #[must_use]
    pub fn parse(seed: u64, line: &str) -> Option<Self> {
        let line = line.strip_prefix(&format!("seed {seed}: "))?;
        let mut parts = line.split(", ");
        let mut number = |unit: &str| parts.next()?.strip_suffix(unit)?.parse::<u64>().ok();
        let (faults, acknowledged) = (number(" faults")?, number(" acknowledged")?);
        let (lost, repeated) = (number(" lost")?, number(" repeated")?);
        let gap = parts.next()?.strip_prefix("longest gap ")?.strip_suffix(" s")?;
        let (seconds, ms) = gap.split_once('.')?;
        let longest_gap_ms = seconds.parse::<u64>().ok()? * 1_000 + ms.parse::<u64>().ok()?;
        Some(Self { faults, acknowledged, lost, repeated, longest_gap_ms })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { faults, acknowledged, lost, repeated, longest_gap_ms } = self;
        write!(
            f,
            "{faults} faults, {acknowledged} acknowledged, {lost} lost, {repeated} repeated, longest gap {}.{:03} s",
            longest_gap_ms / 1_000,
            longest_gap_ms % 1_000
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_runs_are_the_sum_of_their_lines_and_the_greatest_gap() {
        let line = "seed 7: 24 faults, 9073 acknowledged, 1 lost, 2 repeated, longest gap 4.046 s";
        let tally = Tally::parse(7, line).unwrap();
        let wanted = Tally { faults: 24, acknowledged: 9_073, lost: 1, repeated: 2, longest_gap_ms: 4_046 };
        assert_eq!(tally, wanted);
        assert_eq!(format!("seed 7: {tally}"), line);
        assert_eq!(Tally::parse(8, line), None);
        assert_eq!(Tally::parse(7, "BROKEN seed 7 was not over"), None);
        let all = tally.and(Tally { faults: 1, longest_gap_ms: 3, ..Tally::default() }).and(tally);
        let line = "49 faults, 18146 acknowledged, 2 lost, 4 repeated, longest gap 4.046 s";
        assert_eq!(all.to_string(), line);
    }
}
