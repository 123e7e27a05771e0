//! What can go wrong, and in which order it does.

use clap::ValueEnum;
use vault_tests::chance::Dice;

/// What can go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// A server is killed.
    Dies,
    /// A server ends in order.
    Ends,
    /// A server stands still, every other time beyond its lease.
    Stops,
    /// Storage stands still.
    StorageStops,
    /// A wall clock steps.
    Clock,
    /// Storage carries out what it is asked, and its reply gets lost.
    RepliesLost,
    /// Requests reach storage, and its replies do not come back until the fault is over: nothing passes one way.
    OneWay,
    /// Connections to storage break or fall silent.
    Cut,
    /// Storage is slow.
    Slow,
    /// Storage refuses requests, and carries nothing out.
    Refused,
    /// Something before a server.
    Servers,
}

/// One for each part of the chance that something goes wrong: some do more often than others.
const KINDS: [Kind; 14] = [
    Kind::Dies,
    Kind::Dies,
    Kind::Ends,
    Kind::Stops,
    Kind::Stops,
    Kind::StorageStops,
    Kind::Clock,
    Kind::RepliesLost,
    Kind::OneWay,
    Kind::Cut,
    Kind::Slow,
    Kind::Refused,
    Kind::Servers,
    Kind::Servers,
];

/// The kinds in the order in which they are played: in rounds, each in an order of its own. The first round has each kind
/// once, so that a short run has seen them all; those that follow have each as often as its chance wants.
#[derive(Clone, Debug)]
pub(crate) struct Bag {
    /// What a round has, but for the first.
    kinds: Vec<Kind>,
    /// What is left of this round.
    left: Vec<Kind>,
    /// Whether it is the first.
    is_first: bool,
    /// Its own, so that the order does not hang on what else is thrown.
    dice: Dice,
}

impl Bag {
    /// The kinds in the order of this seed; only these, unless there are none.
    pub(crate) fn new(seed: u64, only: &[Kind]) -> Self {
        let kinds: Vec<Kind> =
            KINDS.into_iter().filter(|kind| only.is_empty() || only.contains(kind)).collect();
        let mut left = kinds.clone();
        // Those of a kind stand beside each other.
        left.dedup();
        let mut dice = Dice::new(seed, 2);
        dice.shuffle(&mut left);
        Self { kinds, left, is_first: true, dice }
    }

    /// What goes wrong next.
    pub(crate) fn draw(&mut self) -> Kind {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.dice.shuffle(&mut self.left);
            self.is_first = false;
        }
        self.left.pop().expect("every kind that may be asked for is one of those that there are")
    }

    /// Whether each kind was drawn at least once.
    pub(crate) fn has_drawn_each(&self) -> bool {
        !self.is_first || self.left.is_empty()
    }

    /// Whether what was drawn last belongs to the first round.
    pub(crate) fn is_in_first_round(&self) -> bool {
        self.is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(bag: &mut Bag, times: usize) -> Vec<Kind> {
        (0..times).map(|_| bag.draw()).collect()
    }

    fn count(drawn: &[Kind], kind: Kind) -> usize {
        drawn.iter().filter(|drawn| **drawn == kind).count()
    }

    #[test]
    fn each_kind_comes_once_and_then_as_often_as_its_chance_wants() {
        let all = Kind::value_variants();
        for seed in 0..100 {
            let mut bag = Bag::new(seed, &[]);
            let first = draw(&mut bag, all.len() - 1);
            assert!(!bag.has_drawn_each(), "seed {seed}: {first:?}");
            let first = [first, draw(&mut bag, 1)].concat();
            assert!(bag.has_drawn_each() && bag.is_in_first_round(), "seed {seed}: {first:?}");
            assert!(all.iter().all(|kind| count(&first, *kind) == 1), "seed {seed}: {first:?}");
            for _ in 0..2 {
                let round = draw(&mut bag, KINDS.len());
                let as_wanted = all.iter().all(|kind| count(&round, *kind) == count(&KINDS, *kind));
                assert!(as_wanted, "seed {seed}: {round:?}");
                assert!(bag.has_drawn_each() && !bag.is_in_first_round(), "seed {seed}: {round:?}");
            }
        }
    }

    #[test]
    fn the_order_is_the_seeds() {
        let order = |seed| draw(&mut Bag::new(seed, &[]), 100);
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn only_those_that_are_asked_for_come() {
        let mut bag = Bag::new(1, &[Kind::Clock, Kind::Dies]);
        let first = draw(&mut bag, 2);
        assert!(bag.has_drawn_each());
        assert!(first.contains(&Kind::Clock) && first.contains(&Kind::Dies), "{first:?}");
        let round = draw(&mut bag, 3);
        assert_eq!((count(&round, Kind::Dies), count(&round, Kind::Clock)), (2, 1));
    }
}
