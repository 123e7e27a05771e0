//! The vault beside what people would pick instead: the same load on each system in one run, taking turns, and the
//! check of what it stored. `./tests/run bench peers`, described in `docs/benchmarks.md`.
//!
//! | module | subject |
//! |---|---|
//! | `system` | the systems, their settings |
//! | `running` | a system as a process |
//! | `protocol` | what producers and consumers of each say and hear |
//! | `line` | sockets |
//! | `load` | producers, the check of what was stored |
//! | `value` | what messages say, what must be found |
//! | `append`, `replay`, `tail`, `growth` | what is measured |
//! | `watch` | CPU and memory of a process |
//! | `machine`, `needs` | the machine, and the room that is needed |
//! | `stop` | what a signal ends |
//! | `results`, `table`, `plot` | figures, Markdown, SVG |

mod append;
mod growth;
mod line;
mod load;
mod machine;
mod needs;
mod plot;
mod protocol;
mod replay;
mod results;
mod running;
mod stop;
mod system;
mod table;
mod tail;
mod value;
mod watch;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;
use tempfile::TempDir;

use self::machine::Machine;
use self::results::Results;
use self::running::Running;
use self::system::System;
use self::table::About;
use crate::progress;

/// Measures the vault beside Redis, NATS and Kafka, and writes `peers.md`, `peers.json` and plots.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Which systems, in a list with commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    systems: Vec<System>,
    /// What is measured, in a list with commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::USUAL)]
    loads: Vec<Kind>,
    /// How long each measurement of a round lasts, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// How often the systems take turns.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Where the results go.
    #[arg(long, default_value = "target/peers")]
    out: PathBuf,
    /// Where the data goes, in a directory of its own that is removed at the end [default: $TMPDIR or /tmp]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// What `replay` reads, in MiB.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    replay_mib: u64,
    /// How many producers `sweep` has.
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = [1, 4, 16, 64],
        value_parser = clap::value_parser!(u16).range(1..=1_000)
    )]
    producers: Vec<u16>,
    /// How many messages a request of `sweep` has.
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = [1, 10, 100, 1_000],
        value_parser = clap::value_parser!(u16).range(1..=2_000)
    )]
    messages: Vec<u16>,
    /// How long the streams of `size` are, in GiB.
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = [1, 10, 40],
        value_parser = clap::value_parser!(u64).range(1..=1_000)
    )]
    gib: Vec<u64>,
    /// What the longest of them is for Redis, which holds it in memory, in GiB.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    redis_gib: u64,
    /// How many streams `streams` has.
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = [1, 100, 1_000],
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    streams: Vec<u32>,
    /// How many consumers `consumers` has.
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = [1, 100, 5_000],
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    consumers: Vec<u32>,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// 16 producers, 100 messages of 1 KiB a request; acknowledgements at half of that rate
    Batches,
    /// 16 producers, one message of 1 KiB a request
    Singles,
    /// one consumer reads a whole stream
    Replay,
    /// one consumer follows: from sending to receipt
    Tail,
    /// 1 to 64 producers, 1 to 1,000 messages a request, unless told otherwise
    Sweep,
    /// `batches` on streams that are long already
    Size,
    /// `batches` on many streams
    Streams,
    /// `tail` with many consumers
    Consumers,
}

impl Kind {
    const USUAL: [Self; 4] = [Self::Batches, Self::Singles, Self::Replay, Self::Tail];
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// How long each system is driven before anything counts: Java compiles what is used much.
const WARM_UP: Duration = Duration::from_secs(2);

/// A run: what is asked for, where the data is, what was found.
#[derive(Debug)]
struct Run {
    options: Options,
    directory: TempDir,
    results: Results,
    about: About,
}

/// All of them, beginning with another one in each round.
fn in_turn<T>(all: &[T], round: u32) -> impl Iterator<Item = &T> {
    let first = (round as usize).saturating_sub(1) % all.len().max(1);
    all[first..].iter().chain(&all[..first])
}

/// Each number once, in order.
fn ascending<T: Ord + Copy>(numbers: &[T]) -> Vec<T> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

impl Run {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.options.seconds)
    }

    fn systems(&self) -> Vec<System> {
        let named = &self.options.systems;
        let wanted = |system: &System| named.is_empty() || named.contains(system);
        System::value_variants().iter().copied().filter(wanted).collect()
    }

    /// Those that a load is measured with: where a long stream is read, of two settings of a program the one that is
    /// filled faster.
    fn systems_of(&self, kind: Kind) -> Vec<System> {
        let systems = self.systems();
        match kind {
            Kind::Replay | Kind::Size => {
                ascending(&systems.into_iter().map(System::quick_to_fill).collect::<Vec<_>>())
            }
            _ => systems,
        }
    }

    /// Starts the systems of a load, each with a directory of its own.
    fn start(&self, kind: Kind) -> anyhow::Result<Vec<Running>> {
        let start = |system: System| {
            progress(format_args!("starting {}", system.name()));
            let directory =
                tempfile::Builder::new().prefix(system.name()).tempdir_in(self.directory.path())?;
            system.start(directory).with_context(|| system.name())
        };
        self.systems_of(kind).into_iter().map(start).collect()
    }

    /// Waits until nothing is left to write of what was measured before.
    fn settle(&self) -> anyhow::Result<()> {
        Ok(rustix::fs::syncfs(File::open(self.directory.path())?)?)
    }

    fn measure(&mut self, kind: Kind) -> anyhow::Result<()> {
        match kind {
            Kind::Batches => append::batches(self),
            Kind::Singles => append::singles(self),
            Kind::Replay => replay::replay(self),
            Kind::Tail => tail::tail(self),
            Kind::Sweep => append::sweep(self),
            Kind::Size => growth::size(self),
            Kind::Streams => append::streams(self),
            Kind::Consumers => tail::consumers(self),
        }
    }
}

/// Measures, and writes what came out.
pub(crate) fn measure(options: &Options) -> anyhow::Result<()> {
    let directory = crate::directory_in(options.dir.as_deref())?;
    stop::at_signals(directory.path().to_owned())?;
    std::fs::create_dir_all(&options.out).with_context(|| format!("making {}", options.out.display()))?;
    let machine = Machine::this()?;
    let about = About { machine: machine.clone(), systems: Vec::new() };
    let mut run = Run { options: options.clone(), directory, results: Results::default(), about };
    needs::check(&run, &machine)?;
    let loads = &options.loads;
    for system in ascending(&loads.iter().flat_map(|kind| run.systems_of(*kind)).collect::<Vec<_>>()) {
        let version = system.version().with_context(|| system.name())?;
        run.about.systems.push((system, version));
    }
    vault_tests::raw::allow_open_files(20_000);
    for kind in loads {
        let outcome = run.measure(*kind).with_context(|| kind.to_string());
        // What is there is kept, whatever has failed.
        write(&run)?;
        stop::rest();
        outcome?;
    }
    writeln!(std::io::stdout(), "{}", table::markdown(&run.results, &run.about))?;
    Ok(())
}

fn write(run: &Run) -> anyhow::Result<()> {
    let out = &run.options.out;
    let machine = &run.about.machine;
    let named = run.about.systems.iter().map(|(system, version)| {
        let shown = json!({
            "version": version, "acknowledged": system.durability(), "is_synced": system.is_synced(),
        });
        (system.name().to_owned(), shown)
    });
    let all = json!({
        "kernel": machine.kernel,
        "cores": machine.cores,
        "memory_gib": crate::figures::rounded(crate::figures::gib(machine.memory_bytes)),
        "seconds": run.options.seconds,
        "rounds": run.options.rounds,
        "message_bytes": crate::load::MESSAGE_BYTES,
        "systems": named.collect::<serde_json::Map<_, _>>(),
        "loads": run.results.shown(),
        "goals": table::goals(&run.results, &run.about).iter().map(table::Goal::shown).collect::<Vec<_>>(),
        "load_average_at_the_end": crate::load_average()?,
    });
    std::fs::write(out.join("peers.json"), serde_json::to_string_pretty(&all)? + "\n")?;
    std::fs::write(out.join("peers.md"), table::markdown(&run.results, &run.about))?;
    for (name, svg) in plot::all(&run.results) {
        std::fs::write(out.join(format!("{name}.svg")), svg)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_begins_with_another_system() {
        let round = |round| in_turn(&['a', 'b', 'c'], round).collect::<String>();
        assert_eq!([1, 2, 3, 4].map(round), ["abc", "bca", "cab", "abc"]);
        assert_eq!(in_turn::<u8>(&[], 1).count(), 0);
    }
}
