//! What many seeds come to.

use std::time::Duration;

use vault_tests::history::Tally;

use crate::child::Played;

/// The sum of all seeds that were played.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// How many they were.
    pub played: u64,
    /// In how many a promise was broken.
    pub broken: u64,
    /// How long they were for those in them.
    pub simulated: Duration,
    tally: Tally,
    first_broken: Option<u64>,
    last: Option<u64>,
}

impl Totals {
    /// Adds a seed. They may come in any order.
    pub fn add(&mut self, seed: u64, played: &Played) {
        self.played += 1;
        self.simulated += played.simulated;
        self.tally = self.tally.and(played.tally.unwrap_or_default());
        self.last = self.last.max(Some(seed));
        if !played.well {
            self.broken += 1;
            self.first_broken = Some(self.first_broken.map_or(seed, |first| first.min(seed)));
        }
    }

    /// The last line: all of it under the first seed with a broken promise, or the last of all.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        Some(format!("seed {}: {}", self.first_broken.or(self.last)?, self.tally))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(well: bool, lost: u64, longest_gap_ms: u64) -> Played {
        let tally = Tally { faults: 2, acknowledged: 10, lost, repeated: 0, longest_gap_ms };
        let (trace, text) = (String::new(), String::new());
        Played { well, trace, simulated: Duration::from_secs(3), tally: Some(tally), text }
    }

    #[test]
    fn the_last_line_names_the_first_broken_seed_or_the_last_one() {
        let mut totals = Totals::default();
        assert_eq!(totals.line(), None);
        totals.add(5, &played(true, 0, 4_000));
        totals.add(4, &played(true, 0, 1_000));
        let line = "seed 5: 4 faults, 20 acknowledged, 0 lost, 0 repeated, longest gap 4.000 s";
        assert_eq!(totals.line().unwrap(), line);
        totals.add(8, &Played { tally: None, ..played(false, 0, 0) });
        totals.add(7, &played(false, 1, 2_000));
        totals.add(9, &played(true, 0, 0));
        let line = "seed 7: 8 faults, 40 acknowledged, 1 lost, 0 repeated, longest gap 4.000 s";
        assert_eq!(totals.line().unwrap(), line);
        assert_eq!((totals.played, totals.broken, totals.simulated.as_secs()), (5, 2, 15));
    }
}
