//! `sim`: plays seeds. `./tests/run sim --help`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use vault_sim::child::{self, Played};
use vault_sim::run::{Manner, run};
use vault_sim::world::Lines;

/// Plays seeds: servers, clients and storage with faults, in simulated time. Exits with 1 where a promise is broken.
#[derive(Clone, Debug, Parser)]
#[command(name = "sim")]
struct Options {
    /// How many seeds are played.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// One seed alone, with a trace of everything that happens.
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Without the trace: what it comes to and how many ms were simulated stand in the first line.
    #[arg(long, requires = "seed")]
    quiet: bool,
    /// Plays each seed twice: a second run that differs from the first is as bad as a broken promise.
    #[arg(long)]
    twice: bool,
    /// Goes on where a promise is broken.
    #[arg(long)]
    keep_going: bool,
    /// With this mistake in it, which is to be noticed.
    #[cfg(feature = "canaries")]
    #[arg(long, requires = "seed")]
    canary: Option<String>,
    /// How many seeds are played at once: as many as there are cores unless told otherwise.
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let well = match options.seed {
        Some(seed) => one(seed, options.manner()?, options.quiet),
        None => many(&options)?,
    };
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Options {
    #[cfg(not(feature = "canaries"))]
    #[expect(clippy::unnecessary_wraps, reason = "with canaries it may fail")]
    fn manner(&self) -> anyhow::Result<Manner> {
        Ok(Manner::default())
    }

    #[cfg(feature = "canaries")]
    fn manner(&self) -> anyhow::Result<Manner> {
        use vault_format::canary::Canary;
        let of = |name: &String| Canary::named(name);
        let canary =
            self.canary.as_ref().map(|name| of(name).context("there is no such canary")).transpose()?;
        Ok(Manner { canary })
    }
}

/// Plays a seed in this process.
fn one(seed: u64, manner: Manner, quiet: bool) -> bool {
    let lines = (!quiet).then(|| Box::new(|line: &str| say(line)) as Lines);
    let outcome = run(seed, manner, lines);
    if quiet {
        say(&format!("trace {:016x} {}", outcome.trace, outcome.simulated.as_millis()));
    }
    say(&outcome.told());
    outcome.is_well()
}

/// What came of many seeds.
#[derive(Default)]
struct Totals {
    played: AtomicU64,
    failed: AtomicU64,
    simulated_ms: AtomicU64,
    stop: AtomicBool,
}

/// Plays many, each in a process of its own.
fn many(options: &Options) -> anyhow::Result<bool> {
    let sim = std::env::current_exe().context("this program cannot be found")?;
    let (began, totals, next) = (Instant::now(), Totals::default(), AtomicU64::new(options.first));
    let end = options.first.saturating_add(options.seeds);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || -> anyhow::Result<()> {
        while !totals.stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            let played = played(&sim, seed, options.twice)?;
            say(&played.text);
            totals.played.fetch_add(1, Ordering::Relaxed);
            totals.simulated_ms.fetch_add(ms(played.simulated), Ordering::Relaxed);
            if !played.well {
                totals.failed.fetch_add(1, Ordering::Relaxed);
                totals.stop.fetch_or(!options.keep_going, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.jobs.unwrap_or(cores).max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("it does not panic"))
    })?;
    let (played, failed) = (totals.played.into_inner(), totals.failed.into_inner());
    if options.seeds != 1 {
        let (seconds, simulated) = (began.elapsed().as_secs_f64(), totals.simulated_ms.into_inner() / 1_000);
        say(&format!(
            "{played} seeds in {seconds:.0} s, {simulated} s simulated, {failed} with a broken promise"
        ));
    }
    Ok(failed == 0)
}

fn played(sim: &Path, seed: u64, twice: bool) -> anyhow::Result<Played> {
    let again = || child::play(sim, seed, &[]).context("this program cannot be started again");
    let mut played = again()?;
    if twice {
        let second = again()?.trace;
        if second != played.trace {
            let differs = format!("BROKEN the trace is {}, and {second} the second time\n", played.trace);
            played.well = false;
            played.text.insert_str(0, &differs);
        }
    }
    Ok(played)
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Nobody may be listening, which is no reason to end.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
