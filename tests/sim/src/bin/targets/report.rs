//! Tables for people and for programs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use vault_sim::targets::{BLOB_BYTES, BLOB_REQUESTS};

use crate::case::Found;

/// Nobody may be listening, which is no reason to end.
pub(crate) fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// A line about what has been found so far.
pub(crate) fn progress(found: &Found) {
    let line = format!("{}: {:.0} messages/s, {:.1} MiB/s", found.case, found.rate(), found.mib_a_second());
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// The table.
pub(crate) fn markdown(all: &[Found]) -> String {
    let mut text = format!(
        "Simulated: a page blob takes {BLOB_REQUESTS} requests and {} MiB a second.\n\n\
         | streams | each of them gets | storage answers after | messages/s | MiB/s | p50 | p99 | refused (429) | requests for a segment \
         in a second, at most | Put Pages for a million messages |\n|---|---|---|---|---|---|---|---|---|---|\n",
        BLOB_BYTES >> 20
    );
    for found in all {
        let case = &found.case;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} ms | {} | {:.1} | {:.1} ms | {:.1} ms | {} | {} | {} |",
            case.streams,
            case.load,
            case.latency.as_millis(),
            grouped(found.rate()),
            found.mib_a_second(),
            ms(percentile(&found.latencies, 50)),
            ms(percentile(&found.latencies, 99)),
            found.refused,
            found.most_a_second,
            grouped(found.puts_a_million()),
        );
    }
    text
}

/// The same for programs.
pub(crate) fn json(all: &[Found]) -> Value {
    let row = |found: &Found| {
        json!({
            "streams": found.case.streams,
            "load": found.case.load.to_string(),
            "storage_latency_ms": ms(found.case.latency),
            "seconds": found.case.lasts.as_secs_f64(),
            "messages": found.messages,
            "mib_per_second": found.mib_a_second(),
            "p50_ms": ms(percentile(&found.latencies, 50)),
            "p99_ms": ms(percentile(&found.latencies, 99)),
            "refused": found.refused,
            "most_requests_for_a_segment_in_a_second": found.most_a_second,
            "put_pages": found.puts,
            "other_requests": found.others,
        })
    };
    json!({ "simulated": true, "rows": all.iter().map(row).collect::<Vec<_>>() })
}

fn percentile(latencies: &[Duration], percent: usize) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort();
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or_default()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A whole number with commas.
fn grouped(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
