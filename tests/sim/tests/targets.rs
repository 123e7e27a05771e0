//! What a stream reaches on page blobs as fast as Azure says. Time is simulated, so that the figures are always the same.

use std::process::Command;

use serde_json::Value;

/// Requests a second that a page blob takes, of which half are left to readers.
const HALF_OF_A_BLOB: u64 = 250;

fn rows(flags: &[&str]) -> Vec<Value> {
    let out = tempfile::tempdir().expect("there is room");
    let mut targets = Command::new(env!("CARGO_BIN_EXE_targets"));
    let ran = targets.args(flags).arg("--out").arg(out.path()).output().expect("it starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let json = std::fs::read(out.path().join("targets.json")).expect("it was written");
    let mut all: Value = serde_json::from_slice(&json).expect("it is JSON");
    let Value::Array(rows) = all["rows"].take() else { panic!("{all}") };
    rows
}

#[test]
fn a_stream_takes_what_a_page_blob_takes_and_asks_for_half_of_its_requests() {
    let rows = rows(&["--streams", "1", "--latencies", "10"]);
    let of = |load: &str| {
        rows.iter().find(|row| row["load"] == load).unwrap_or_else(|| panic!("{load}: {rows:?}"))
    };
    let large = of("16 producers, 800 messages a request");
    // What is acknowledged in the first moment was sent before, and a put holds up to 4 MiB.
    let rate = large["mib_per_second"].as_f64().expect("a rate");
    assert!((57.0..62.0).contains(&rate), "{rate} MiB/s of 60");
    for row in &rows {
        let most = row["most_requests_for_a_segment_in_a_second"].as_u64().expect("a count");
        let vault = !row["load"].as_str().expect("a name").starts_with("no vault");
        assert!(!vault || most <= HALF_OF_A_BLOB, "{row}");
    }
    let (each, grouped) =
        (of("no vault: 500 writers, a Put Page each message"), of("500 producers, single messages"));
    let messages = |row: &Value| row["messages"].as_u64().expect("a count");
    let puts = |row: &Value| row["put_pages"].as_u64().expect("a count");
    assert_eq!(puts(each), messages(each));
    assert!(messages(grouped) > 50 * messages(each), "{grouped} beside {each}");
    assert!(
        100 * puts(grouped) < messages(grouped),
        "more than 10,000 Put Pages for a million messages: {grouped}"
    );
}
