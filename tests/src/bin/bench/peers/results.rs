//! What was measured: figures by load, system and name, one of each round.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::figures::{latencies, median, spread};

/// What of a pace must be reached. The last request is due a little before the end.
const PACE_KEPT: f64 = 0.95;

/// Figures by name, each with one of every round.
type Figures = Vec<(&'static str, Vec<f64>)>;

/// Figures by load and system, in the order in which they came first.
#[derive(Debug, Default)]
pub(crate) struct Results {
    loads: Vec<(String, Vec<(String, Figures)>)>,
}

/// The one with this key, made where there is none.
fn entry<'a, K: PartialEq<Q>, Q: ?Sized, V: Default>(
    all: &'a mut Vec<(K, V)>,
    key: &Q,
    make: impl FnOnce() -> K,
) -> &'a mut V {
    let at = all.iter().position(|(it, _)| it == key).unwrap_or_else(|| {
        all.push((make(), V::default()));
        all.len() - 1
    });
    &mut all[at].1
}

impl Results {
    /// One more round's figure.
    pub(crate) fn add(&mut self, load: &str, system: &str, figure: &'static str, value: f64) {
        let systems = entry(&mut self.loads, load, || load.to_owned());
        let figures = entry(systems, system, || system.to_owned());
        entry(figures, &figure, || figure).push(value);
    }

    /// One more round's latencies: what they are in short.
    pub(crate) fn add_latencies(&mut self, load: &str, system: &str, all: Vec<Duration>) -> Value {
        let short = latencies(all);
        for figure in ["p50_ms", "p99_ms", "max_ms"] {
            self.add(load, system, figure, short[figure].as_f64().unwrap_or(f64::NAN));
        }
        short
    }

    /// Whether a system did not keep the pace in every round: its latencies say how long requests queued up.
    pub(crate) fn is_below_pace(&self, load: &str, system: &str) -> bool {
        self.rounds(load, system, "of_pace").iter().any(|of_pace| *of_pace < PACE_KEPT)
    }

    /// The loads that were measured.
    pub(crate) fn loads(&self) -> impl Iterator<Item = &str> {
        self.loads.iter().map(|(name, _)| name.as_str())
    }

    /// The systems that a load was measured with.
    pub(crate) fn systems(&self, load: &str) -> impl Iterator<Item = &str> {
        let found = self.loads.iter().find(|(name, _)| name == load);
        found.into_iter().flat_map(|(_, systems)| systems.iter().map(|(name, _)| name.as_str()))
    }

    /// A figure of every round; empty where there is none.
    pub(crate) fn rounds(&self, load: &str, system: &str, figure: &str) -> &[f64] {
        let systems = self.loads.iter().find(|(name, _)| name == load);
        let figures = systems.and_then(|(_, systems)| systems.iter().find(|(name, _)| name == system));
        let found = figures.and_then(|(_, figures)| figures.iter().find(|(name, _)| *name == figure));
        found.map_or(&[], |(_, rounds)| rounds.as_slice())
    }

    /// The median of a figure; `None` where there is none.
    pub(crate) fn median(&self, load: &str, system: &str, figure: &str) -> Option<f64> {
        let rounds = self.rounds(load, system, figure);
        (!rounds.is_empty()).then(|| median(rounds))
    }

    /// A figure of one system for each of another's, round by round.
    pub(crate) fn ratios(&self, load: &str, systems: [&str; 2], figures: [&str; 2]) -> Vec<f64> {
        let [own, peer] = [0, 1].map(|at| self.rounds(load, systems[at], figures[at]));
        own.iter().zip(peer).map(|(own, peer)| own / peer).collect()
    }

    /// All of it.
    pub(crate) fn shown(&self) -> Value {
        let figures = |figures: &Figures| -> Map<String, Value> {
            let shown = |(name, rounds): &(&'static str, Vec<f64>)| ((*name).to_owned(), spread(rounds));
            figures.iter().map(shown).collect()
        };
        let systems = |systems: &Vec<(String, Figures)>| -> Map<String, Value> {
            systems.iter().map(|(name, all)| (name.clone(), Value::Object(figures(all)))).collect()
        };
        let loads = self.loads.iter().map(|(name, all)| (name.clone(), Value::Object(systems(all))));
        json!(loads.collect::<Map<_, _>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_slower_in_one_round_was_below_the_pace() {
        let mut results = Results::default();
        for (quick, slow) in [(1.0, 1.0), (0.97, 0.9)] {
            results.add("tail", "vault", "of_pace", quick);
            results.add("tail", "nats", "of_pace", slow);
        }
        assert!(!results.is_below_pace("tail", "vault"));
        assert!(results.is_below_pace("tail", "nats"));
        assert!(!results.is_below_pace("batches", "nats"), "there is no pace");
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let mut results = Results::default();
        for (own, peer) in [(2.0, 1.0), (9.0, 3.0)] {
            results.add("batches", "vault", "rate", own);
            results.add("batches", "redis", "rate", peer);
        }
        assert_eq!(results.ratios("batches", ["vault", "redis"], ["rate", "rate"]), [2.0, 3.0]);
        assert_eq!(results.median("batches", "redis", "rate"), Some(2.0));
        assert_eq!(results.median("batches", "kafka", "rate"), None);
        assert_eq!(results.systems("batches").collect::<Vec<_>>(), ["vault", "redis"]);
        assert_eq!(results.shown()["batches"]["vault"]["rate"]["highest"], 9.0);
    }
}
