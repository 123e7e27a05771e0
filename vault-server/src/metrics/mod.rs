//! What the server counts, and how that becomes `/metrics`.
//!
//! | module | subject |
//! |---|---|
//! | [`families`] | name, type and meaning of everything that is shown |
//! | [`log`] | what the log counts, for all streams and for each |
//! | [`election`] | what the election counts |
//! | [`exposition`] | the text that Prometheus reads |
//! | [`process`] | what the system says of this process |
//!
//! Counters are atomics that hang on what they count: a stream's go with the stream, and nothing is registered anywhere.
//! What counts adds to them without a lock or a look-up; whoever asks walks along everything and reads them.

pub(crate) mod election;
pub(crate) mod exposition;
pub(crate) mod families;
pub(crate) mod log;
pub(crate) mod process;

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::{Histogram, HistogramOpts};

use self::families::Family;

/// What all streams of a server, and its part in the election, count.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) log: log::LogMetrics,
    pub(crate) election: election::ElectionMetrics,
}

/// A number that rises, or one that rises and falls.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Only what was added before is taken away.
    pub(crate) fn take_away(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram of `family` with these upper bounds. Observing takes a handful of atomic additions.
pub(crate) fn histogram(family: &Family, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(family.name, family.help).buckets(buckets.to_vec());
    Histogram::with_opts(options).expect("names of families are valid and bounds rise")
}
