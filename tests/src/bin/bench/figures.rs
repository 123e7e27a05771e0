//! Medians, percentiles, rounding.

use std::time::Duration;

use serde_json::{Value, json};

/// The middle of some figures; NaN, which JSON shows as null, where there are none.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The median, and how far the rounds lie apart.
pub(crate) fn spread(figures: &[f64]) -> Value {
    let lowest = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    json!({ "median": rounded(median(figures)), "lowest": rounded(lowest), "highest": rounded(highest) })
}

/// p50, p99 and the longest, in ms.
pub(crate) fn latencies(mut all: Vec<Duration>) -> Value {
    all.sort();
    let last = all.len().saturating_sub(1);
    let at = |percent: usize| all.get(last * percent / 100).copied().unwrap_or_default();
    json!({ "p50_ms": ms(at(50)), "p99_ms": ms(at(99)), "max_ms": ms(at(100)) })
}

/// Milliseconds, for people.
pub(crate) fn ms(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3)
}

/// Three digits behind the point: no more of a figure repeats.
pub(crate) fn rounded(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}

/// A count as a figure.
pub(crate) fn count(count: u64) -> f64 {
    count as f64
}

/// Bytes as MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    count(bytes) / f64::from(1 << 20)
}

/// Bytes as GiB.
pub(crate) fn gib(bytes: u64) -> f64 {
    count(bytes) / f64::from(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn percentiles() {
        let found = latencies((1..=101).rev().map(Duration::from_millis).collect());
        assert_eq!(found, json!({ "p50_ms": 51.0, "p99_ms": 100.0, "max_ms": 101.0 }));
    }
}
