//! Real servers on Azurite, real clients, and everything going wrong: `./tests/run chaos --seconds 600 --seed N`. The
//! history is held against the promises; exits with 1 where one is broken.
//!
//! | module | subject |
//! |---|---|
//! | [`stage`] | servers, storage, proxies, and the faults |
//! | [`kind`] | kinds of faults, and their order |
//! | [`load`] | clients |
//! | [`record`] | the history as it grows |
//!
//! A seed decides the faults and their order. When the threads of real processes run, and who leads, it does not, so that
//! the same seed is not the same run.

mod kind;
mod load;
mod record;
mod stage;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use vault_tests::chance::Dice;
use vault_tests::history::{Reached, Tally, check};

use crate::kind::Kind;
use crate::load::Load;
use crate::record::Record;
use crate::stage::{Plan, Stage};

/// How many broken promises are shown.
const SHOWN: usize = 20;

/// How much longer it goes on at most, until each kind of fault was played and for the sake of `--messages`.
const LONGER: Duration = Duration::from_secs(600);

/// How many seconds there may be for each strong read that is answered, on all streams.
const SECONDS_A_STRONG_READ: u64 = 3;

/// The longest that clients may take to come to an end when nothing is wrong any more.
const CLIENTS_END: Duration = Duration::from_secs(120);

/// Plays faults on real processes. Exits with 1 where a promise is broken.
#[derive(Clone, Debug, Parser)]
#[command(name = "chaos")]
struct Options {
    /// For how long things go wrong at least. They go on doing so until each kind of fault was played once and `--messages`
    /// are acknowledged, for ten minutes longer at most.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many messages are to be acknowledged before it is over. With fewer it fails.
    #[arg(long, default_value_t = 0)]
    messages: u64,
    /// Decides what goes wrong, in which order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many servers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..=5))]
    servers: u16,
    /// What a busy machine is forgiven in the times within which appends must go on, in ms.
    #[arg(long, default_value_t = 0)]
    slack: u64,
    /// Only these kinds of faults, instead of all.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Servers make this mistake on purpose, which is to be noticed: they must be built with the feature `canaries`, as for
    /// tests.
    #[arg(long)]
    canary: Option<String>,
    /// Where the history is written to, an event a line.
    #[arg(long)]
    history: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let record = Arc::new(Record::new());
    let streams = vec!["one".to_owned(), "two".to_owned()];
    let servers = usize::from(options.servers);
    let seed = options.seed;
    let plan = Plan {
        servers,
        seed,
        slack_ms: options.slack,
        only: options.only.clone(),
        canary: options.canary.clone(),
    };
    let mut stage = Stage::new(runtime.handle(), plan, streams.clone(), Arc::clone(&record))?;
    let over = Arc::new(AtomicBool::new(false));
    let http = reqwest::Client::builder().no_proxy().build()?;
    let reached = Arc::new(Reached::default());
    let load = Load {
        record: Arc::clone(&record),
        urls: stage.urls(),
        over: Arc::clone(&over),
        reached: Arc::clone(&reached),
        http,
    };
    let (mut clients, mut followers) = (tokio::task::JoinSet::new(), tokio::task::JoinSet::new());
    for (number, stream) in streams.iter().enumerate() {
        runtime.block_on(load.create(stream)).with_context(|| format!("{stream} cannot be created"))?;
        let dice = |client: u64| Dice::new(seed, 100 + 10 * number as u64 + client);
        let (handle, load) = (runtime.handle(), || load.clone());
        clients.spawn_on(load().produce_plainly(stream.clone(), dice(0)), handle);
        clients.spawn_on(load().produce_in_batches(stream.clone(), dice(1)), handle);
        followers.spawn_on(load().follow(stream.clone(), number), handle);
        clients.spawn_on(load().look(stream.clone(), dice(2)), handle);
        for server in 0..servers {
            clients.spawn_on(load().probe(server, stream.clone()), handle);
        }
    }
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let is_enough = |stage: &Stage| {
        let all_is_done = stage.has_played_each() && record.acknowledged() >= options.messages;
        all_is_done || Instant::now() > end + LONGER
    };
    while Instant::now() < end || !is_enough(&stage) {
        stage.go_wrong();
    }
    if !stage.has_played_each() {
        record.complain("not every kind of fault was played in the time that there was".to_owned());
    }
    if record.acknowledged() < options.messages {
        record.complain(format!("fewer than {} messages were acknowledged", options.messages));
    }
    stage.goes_on("all is well", 1_000);
    over.store(true, Ordering::Relaxed);
    let ended = async {
        while clients.join_next().await.is_some() {}
        // What was acknowledged in this millisecond counts too.
        tokio::time::sleep(Duration::from_millis(1)).await;
        reached.settle(record.now_ms());
        while followers.join_next().await.is_some() {}
    };
    if runtime.block_on(async { tokio::time::timeout(CLIENTS_END, ended).await }).is_err() {
        record.complain("clients do not come to an end although all is well".to_owned());
    }
    for stream in &streams {
        if let Err(error) = runtime.block_on(load.read_all(stream)) {
            record.complain(format!("{stream} cannot be read in the end: {error}"));
        }
    }
    let (events, complaints) = record.take();
    if let Some(path) = &options.history {
        let mut lines = String::new();
        for event in &events {
            writeln!(lines, "{}", serde_json::to_string(event)?)?;
        }
        std::fs::write(path, lines).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let mut verdict = check(&events);
    verdict.expect_strong_reads(options.seconds.div_ceil(SECONDS_A_STRONG_READ));
    verdict.broken.extend(complaints);
    let broken = &verdict.broken;
    if !broken.is_empty() {
        say(&stage.logs());
    }
    for broken in broken.iter().take(SHOWN) {
        say(&format!("BROKEN {broken}"));
    }
    say(&format!("seed {seed}: {}", Tally::new(stage.faults, &verdict)));
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Nobody may be listening, which is no reason to end.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
