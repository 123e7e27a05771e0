//! Measures how long appends pause when the leader of two servers on Azurite ends: `./tests/run failover`. Prints a
//! table; exits with 1 where something acknowledged is lost, something is stored twice, or a pause is too long.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use vault_tests::azurite;
use vault_tests::failover::{Drill, End, PRODUCERS, drill};
use vault_tests::replicas::Replicas;

/// Measures how long appends pause when a leader ends.
#[derive(Clone, Debug, Parser)]
#[command(name = "failover")]
struct Options {
    /// How often the leader ends in each way.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
}

/// The longest pause that is not too long.
fn limit(end: End) -> Duration {
    match end {
        End::Killed => Duration::from_secs(6),
        End::InOrder => Duration::from_secs(1),
    }
}

fn name(end: End) -> &'static str {
    match end {
        End::Killed => "kill -9",
        End::InOrder => "SIGTERM",
    }
}

fn main() -> ExitCode {
    let Options { runs } = Options::parse();
    let azurite = azurite::Setup::in_memory().start();
    say(&format!("{PRODUCERS} producers append through the follower while the leader ends. Times in ms.\n"));
    say("  end      run     gap   slowest producer   acknowledged   lost   twice");
    let mut well = true;
    for end in [End::Killed, End::InOrder] {
        let mut drills = Vec::new();
        for run in 0..runs {
            let prefix = format!("{}{run}-", if end == End::Killed { "kill" } else { "term" });
            let mut replicas = Replicas::on_azurite(&azurite, &prefix);
            // The leader ends at another place between two beats each time.
            let before = Duration::from_millis(u64::from(run) * 1_000 / u64::from(runs));
            let one = drill(&mut replicas, end, before);
            say(&row(name(end), run, &one));
            well &= one.lost == 0 && one.twice == 0 && one.worst <= limit(end);
            drills.push(one);
        }
        say(&summary(end, &drills));
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn row(name: &str, run: u32, drill: &Drill) -> String {
    let Drill { gap, worst, acknowledged, lost, twice } = drill;
    let (gap, worst) = (gap.as_millis(), worst.as_millis());
    format!("  {name}  {run:>4}  {gap:>6}   {worst:>16}   {acknowledged:>12}   {lost:>4}   {twice:>5}")
}

fn summary(end: End, drills: &[Drill]) -> String {
    let mut out = String::new();
    for (what, time) in
        [("gap", (|it| it.gap) as fn(&Drill) -> Duration), ("slowest producer", |it| it.worst)]
    {
        let mut times: Vec<_> = drills.iter().map(|it| time(it).as_millis()).collect();
        times.sort_unstable();
        let (first, middle, last) = (times.first(), times.get(times.len() / 2), times.last());
        let figures = first.zip(middle).zip(last).expect("there is a run at least");
        let ((min, median), max) = figures;
        let _ = writeln!(out, "{}, {what}: min {min}, median {median}, max {max}", name(end));
    }
    let (lost, twice) = drills.iter().fold((0, 0), |(lost, twice), it| (lost + it.lost, twice + it.twice));
    let _ = writeln!(
        out,
        "{}: {} runs, {lost} lost, {twice} twice; no producer may wait longer than {} ms",
        name(end),
        drills.len(),
        limit(end).as_millis()
    );
    out
}

/// Whoever reads the table may have gone away, which is no reason to end.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
