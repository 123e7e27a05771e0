//! `targets`: what a vault reaches on page blobs that are as fast as Azure says, in simulated time. `./tests/run targets --help`.

mod case;
mod load;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;

use crate::case::{Case, Found};
use crate::load::Load;

/// Plays one server on page blobs at the speed that Azure's documentation states for them: 60 MiB and 500 requests a second
/// each, 25 Gbit and 20,000 requests a second for an account, every answer 5, 10 or 30 ms later. Time is simulated: only
/// storage takes any, not the server's work and not the network to it, and the figures are the same on every machine.
///
/// Prints a table as Markdown, and writes targets.md and targets.json.
#[derive(Clone, Debug, Parser)]
#[command(name = "targets")]
struct Options {
    /// What a request to storage takes where nothing else holds it up, in ms.
    #[arg(long, value_delimiter = ',', default_value = "5,10,30")]
    latencies: Vec<u64>,
    /// Streams of the vault, all of them loaded alike.
    #[arg(long, value_delimiter = ',', default_value = "1,50")]
    streams: Vec<usize>,
    /// How many simulated seconds are measured. What is written meanwhile stays in memory: 3 GB a second with 50 streams.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Where the files go.
    #[arg(long, default_value = "target/targets")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(options.seconds > 0, "--seconds is 0: there would be nothing to measure");
    ensure!(options.streams.iter().all(|streams| (1..=1_000).contains(streams)), "--streams are 1 to 1,000");
    let mut found: Vec<Found> = Vec::new();
    for &streams in &options.streams {
        for load in Load::closed() {
            for &latency in &options.latencies {
                let (latency, lasts) = (Duration::from_millis(latency), Duration::from_secs(options.seconds));
                found.push(play(Case { streams, load, latency, lasts })?);
            }
        }
    }
    for load in Load::paced() {
        // A message a second needs a while until there are enough of them.
        let lasts = Duration::from_secs(60);
        found.push(play(Case { streams: 1, load, latency: Duration::from_millis(10), lasts })?);
    }
    let markdown = report::markdown(&found);
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("{} cannot be made", options.out.display()))?;
    for (name, text) in [("targets.md", &markdown), ("targets.json", &report::json(&found).to_string())] {
        let path = options.out.join(name);
        std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    report::say(&markdown);
    Ok(())
}

fn play(case: Case) -> anyhow::Result<Found> {
    let found = case.play().with_context(|| format!("{case}"))?;
    report::progress(&found);
    Ok(found)
}
