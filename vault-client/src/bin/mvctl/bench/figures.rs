//! What was measured.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::output::table;

/// Latencies from a microsecond to an hour, to three digits.
const LONGEST_US: u64 = 3_600_000_000;

/// What one who appends or reads has seen.
pub(super) struct Measured {
    pub(super) messages: u64,
    latencies_us: Histogram<u64>,
}

impl Measured {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, 3);
        Self { messages: 0, latencies_us: histogram.expect("the bounds are those of the documentation") }
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(LONGEST_US);
        self.latencies_us.saturating_record(us.max(1));
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.latencies_us.add(&other.latencies_us).expect("all have the same bounds");
    }

    /// The figures, of messages of so many bytes in so much time.
    pub(super) fn figures(&self, size: usize, time: Duration) -> Figures {
        let seconds = time.as_secs_f64().max(0.000_001);
        let ms = |us: u64| us as f64 / 1_000.0;
        let quantile = |part: f64| match self.latencies_us.is_empty() {
            true => None,
            false => Some(ms(self.latencies_us.value_at_quantile(part))),
        };
        Figures {
            messages: self.messages,
            seconds: (seconds * 1_000.0).round() / 1_000.0,
            messages_per_second: (self.messages as f64 / seconds).round(),
            mib_per_second: (self.messages as f64 * size as f64 / seconds / 1_048_576.0 * 100.0).round()
                / 100.0,
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            max_ms: quantile(1.0),
        }
    }
}

/// The figures of one phase. Latencies are null where nothing was waited for.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    messages: u64,
    seconds: f64,
    messages_per_second: f64,
    mib_per_second: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
}

impl Figures {
    /// Several of them for people, each with its name.
    pub(super) fn shown(phases: &[(&str, &Self)]) -> String {
        let heads = ["", "MESSAGES", "MESSAGES/S", "MIB/S", "P50 MS", "P99 MS", "MAX MS"];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        for (name, of) in phases {
            let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}"));
            rows.push(vec![
                (*name).to_owned(),
                of.messages.to_string(),
                of.messages_per_second.to_string(),
                format!("{:.1}", of.mib_per_second),
                ms(of.p50_ms),
                ms(of.p99_ms),
                ms(of.max_ms),
            ]);
        }
        table(&[false, true, true, true, true, true, true], &rows)
    }
}
