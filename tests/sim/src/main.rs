//! `sim`: plays seeds. `./tests/run sim --help`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use vault_sim::child::{self, Played};
use vault_sim::run::{Manner, run};
use vault_sim::totals::Totals;
use vault_sim::world::Lines;

/// Plays seeds: servers, clients and storage with faults, in simulated time. Exits with 1 where a promise is broken.
///
/// Each seed is told of in a line: `seed N: F faults, M acknowledged, L lost, R repeated, longest gap G s`. The last line of
/// several holds the sums of all and the greatest gap, under the first seed with a broken promise, or else the last one
/// played. A seed that is not over after 300 s is ended and counts as broken.
#[derive(Clone, Debug, Parser)]
#[command(name = "sim")]
struct Options {
    /// How many seeds are played.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
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
    #[arg(long, requires = "seed", value_parser = canary)]
    canary: Option<vault_format::canary::Canary>,
    /// How many seeds are played at once: as many as there are cores unless told otherwise.
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let well = match options.seed {
        Some(seed) => one(seed, options.manner(), options.quiet),
        None => many(&options)?,
    };
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Options {
    fn manner(&self) -> Manner {
        Manner {
            #[cfg(feature = "canaries")]
            canary: self.canary,
        }
    }
}

#[cfg(feature = "canaries")]
fn canary(name: &str) -> Result<vault_format::canary::Canary, String> {
    use vault_format::canary::Canary;
    let known = || Canary::ALL.map(Canary::as_str).join(", ");
    Canary::named(name).ok_or_else(|| format!("there is no such mistake; there are {}", known()))
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

/// Plays many, each in a process of its own.
fn many(options: &Options) -> anyhow::Result<bool> {
    let sim = std::env::current_exe().context("this program cannot be found")?;
    let (began, totals, next) =
        (Instant::now(), Mutex::new(Totals::default()), AtomicU64::new(options.first));
    let stop = AtomicBool::new(false);
    let end = options.first.saturating_add(options.seeds);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || -> anyhow::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            let played = played(&sim, seed, options.twice)?;
            say(&played.text);
            totals.lock().unwrap_or_else(PoisonError::into_inner).add(seed, &played);
            stop.fetch_or(!played.well && !options.keep_going, Ordering::Relaxed);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.jobs.unwrap_or(cores).max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("it does not panic"))
    })?;
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (played, broken, simulated) = (totals.played, totals.broken, totals.simulated.as_secs());
    if let Some(line) = totals.line().filter(|_| options.seeds != 1) {
        let seconds = began.elapsed().as_secs_f64();
        say(&format!(
            "{played} seeds in {seconds:.0} s, {simulated} s simulated, {broken} with a broken promise"
        ));
        say(&line);
    }
    Ok(broken == 0)
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

/// Nobody may be listening, which is no reason to end.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
