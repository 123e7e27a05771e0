//! Measures the real server, each figure beside that of a peer from the same run: `./tests/run bench`, described in
//! `docs/benchmarks.md`. One JSON object goes to stdout, progress to stderr.
//!
//! | module | subject |
//! |---|---|
//! | `append` | producers in a closed loop, beside the bare disk |
//! | `authorization` | what it costs to know who asks |
//! | `azure` | the server on Azurite, beside bare Put Pages; storage requests by rate |
//! | `replay` | one consumer that reads a whole stream, beside nginx |
//! | `followers`, `events` | consumers at the tail: what they cost, how soon they know |
//! | `json_replay` | one consumer that reads a stream as JSON, beside stored batches |
//! | `recovery` | how soon a new leader of a thousand streams takes appends |
//! | `compression` | what a codec costs and saves |
//! | `client` | the client library: a producer, a reader |
//! | `growth` | what a stream's length costs |
//! | `memory` | the most memory that the server held |
//! | `disk` | the bare disk |
//! | `nginx` | nginx, serving one file |
//! | `load` | producers, and the check that what was acknowledged is there |
//! | `connection` | an HTTP client that costs next to nothing |
//! | `figures` | medians, percentiles, rounding |
//! | `peers` | the server beside Redis, NATS and Kafka |

mod append;
mod authorization;
mod azure;
mod client;
mod compression;
mod connection;
mod disk;
mod events;
mod figures;
mod followers;
mod growth;
mod json_replay;
mod load;
mod memory;
mod nginx;
mod peers;
mod recovery;
mod replay;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Measures vault-server beside the bare disk and nginx. Prints one JSON object.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench", args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    beside: Option<Beside>,
    /// What to measure [default: everything]
    #[arg(value_enum)]
    names: Vec<Name>,
    /// The same as a name alone.
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Name>,
    /// How long each measurement of a round lasts, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often the server and its peer take turns.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Where the data goes, in a directory of its own that is removed at the end [default: $TMPDIR or /tmp]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The longer stream of `growth`, in GiB; the shorter one has 1.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=1_000))]
    large_gib: u64,
    /// How often `growth` restarts the server on each stream for a median.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    restarts: u32,
}

#[derive(Clone, Debug, Subcommand)]
enum Beside {
    /// Measures the server beside what people would pick instead: Redis, NATS, Kafka. Prints Markdown.
    Peers(peers::Options),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Name {
    Disk,
    AppendBatches,
    AppendSingles,
    Replay,
    JsonReplay,
    Followers,
    Tail,
    Growth,
    Memory,
    AzureAppend,
    AzureRequests,
    Authorization,
    Recovery,
    Compression,
    ClientProducer,
    ClientReader,
}

impl Options {
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.max(1))
    }

    /// A directory that goes with the value.
    pub(crate) fn directory(&self) -> anyhow::Result<TempDir> {
        directory_in(self.dir.as_deref())
    }

    fn wanted(&self) -> Vec<Name> {
        let named: Vec<Name> = self.names.iter().chain(&self.only).copied().collect();
        Name::value_variants()
            .iter()
            .copied()
            .filter(|name| named.is_empty() || named.contains(name))
            .collect()
    }
}

/// A directory that goes with the value, below `parent` or where temporary files are.
fn directory_in(parent: Option<&Path>) -> anyhow::Result<TempDir> {
    let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    let made = tempfile::Builder::new().prefix("message-vault-bench-").tempdir_in(&parent);
    made.with_context(|| format!("cannot make a directory in {}", parent.display()))
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(Beside::Peers(options)) = &options.beside {
        return peers::measure(options);
    }
    let mut out = Map::new();
    out.insert("cores".to_owned(), json!(std::thread::available_parallelism()?.get()));
    out.insert("seconds".to_owned(), json!(options.seconds));
    out.insert("rounds".to_owned(), json!(options.rounds));
    for name in options.wanted() {
        let (key, measured) = measure(&options, name)?;
        out.insert(key.to_owned(), measured);
    }
    out.insert("load_average_at_the_end".to_owned(), json!(load_average()?));
    let text = serde_json::to_string_pretty(&Value::Object(out))?;
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

fn measure(options: &Options, name: Name) -> anyhow::Result<(&'static str, Value)> {
    Ok(match name {
        Name::Disk => ("disk", disk::measure(options)?),
        Name::AppendBatches => ("append_batches", append::batches(options).context("append_batches")?),
        Name::AppendSingles => ("append_singles", append::singles(options).context("append_singles")?),
        Name::Replay => ("replay", replay::measure(options).context("replay")?),
        Name::JsonReplay => ("json_replay", json_replay::measure(options).context("json_replay")?),
        Name::Followers => ("followers", followers::many(options).context("followers")?),
        Name::Tail => ("tail", followers::tail(options).context("tail")?),
        Name::Growth => ("growth", growth::measure(options).context("growth")?),
        Name::AzureAppend => ("azure_append", azure::append(options).context("azure_append")?),
        Name::AzureRequests => ("azure_requests", azure::requests(options).context("azure_requests")?),
        Name::Authorization => ("authorization", authorization::measure(options).context("authorization")?),
        Name::Recovery => ("recovery", recovery::measure(options).context("recovery")?),
        Name::Compression => ("compression", compression::measure(options).context("compression")?),
        Name::ClientProducer => ("client_producer", client::producer(options).context("client_producer")?),
        Name::ClientReader => ("client_reader", client::reader(options).context("client_reader")?),
        Name::Memory => ("memory", memory::measure(options).context("memory")?),
    })
}

/// How busy the machine was: figures of a busy one are lower.
fn load_average() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

/// Says what is going on.
pub(crate) fn progress(text: impl std::fmt::Display) {
    // Whoever closed stderr does not want to know.
    let _ = writeln!(std::io::stderr(), "bench: {text}");
}
