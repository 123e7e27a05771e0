//! Producers in a closed loop, and at half of the rate that they reach.

use crate::figures::{count, gib, latencies, mib};
use crate::load::MESSAGE_BYTES;
use crate::{disk, progress};

use super::Run;
use super::load::{Load, Outcome, Until};
use super::process::{Used, Watch};
use super::system::Running;

const PRODUCERS: u16 = 16;
const MESSAGES: usize = 100;

/// What a sweep goes through.
const SWEEP_PRODUCERS: [u16; 4] = [1, 4, 16, 64];
const SWEEP_MESSAGES: [usize; 4] = [1, 10, 100, 1_000];

/// The first producer on a stream that others have filled.
pub(super) const AFTER_FILLING: u16 = 100;

/// How long each system is driven before anything counts: Java compiles what is used much.
const WARM_UP_SECONDS: u64 = 2;

/// 100 messages of 1 KiB a request, and the same at half of the rate.
pub(super) fn batches(run: &mut Run) -> anyhow::Result<()> {
    measure(run, "batches", MESSAGES, true)
}

/// One message of 1 KiB a request.
pub(super) fn singles(run: &mut Run) -> anyhow::Result<()> {
    measure(run, "singles", 1, false)
}

fn measure(run: &mut Run, name: &str, messages: usize, is_paced_too: bool) -> anyhow::Result<()> {
    let systems = run.start(&run.systems())?;
    let until = Until::Elapsed(run.duration());
    let load = Load { producers: PRODUCERS, messages, streams: streams_named(name, 1), pace: None, until };
    for running in &systems {
        warm_up(run, running, &load)?;
    }
    for round in 1..=run.options.rounds {
        let (figure, value) = if messages == 1 {
            let writes = disk::synced_writes(run.directory.path(), disk::SMALL_BYTES, run.duration())?;
            ("writes_per_second", writes)
        } else {
            ("mib_per_second", disk::large_mib(run.directory.path(), run.duration())?)
        };
        progress(format_args!("{name}, round {round}: disk {value:.0}"));
        run.results.add(name, "disk", figure, value);
        for running in &systems {
            let outcome = turn(run, running, &load, name, round)?;
            if is_paced_too {
                let pace = Some(outcome.rate() / 2.0 / count(messages as u64));
                turn(run, running, &Load { pace, ..load.clone() }, &format!("{name}-at-half"), round)?;
            }
        }
    }
    Ok(())
}

/// 1 to 64 producers, 1 to 1,000 messages a request.
pub(super) fn sweep(run: &mut Run) -> anyhow::Result<()> {
    let systems = run.start(&run.systems())?;
    let until = Until::Elapsed(run.duration());
    let streams = streams_named("sweep", 1);
    for round in 1..=run.options.rounds {
        for producers in SWEEP_PRODUCERS {
            for messages in SWEEP_MESSAGES {
                let load = Load { producers, messages, streams: streams.clone(), pace: None, until };
                for running in &systems {
                    turn(run, running, &load, &format!("sweep-{producers}-{messages}"), round)?;
                }
            }
        }
    }
    Ok(())
}

/// 16 producers, 100 messages a request, to more and more streams.
pub(super) fn streams(run: &mut Run) -> anyhow::Result<()> {
    let systems = run.start(&run.systems())?;
    let until = Until::Elapsed(run.duration());
    for round in 1..=run.options.rounds {
        for number in run.options.streams.clone() {
            let streams = streams_named("stream", number);
            let load = Load { producers: PRODUCERS, messages: MESSAGES, streams, pace: None, until };
            for running in &systems {
                turn(run, running, &load, &format!("streams-{number}"), round)?;
            }
        }
    }
    Ok(())
}

pub(super) fn streams_named(name: &str, number: usize) -> Vec<String> {
    (0..number).map(|stream| format!("{name}-{stream}")).collect()
}

fn warm_up(run: &Run, running: &Running, load: &Load) -> anyhow::Result<()> {
    progress(format_args!("warming up {}", running.system.name()));
    let streams = streams_named("warm-up", 1);
    let until = Until::Elapsed(std::time::Duration::from_secs(WARM_UP_SECONDS));
    running.create(&streams[0])?;
    Load { streams: streams.clone(), until, ..load.clone() }.run(running)?;
    running.delete(&streams[0])?;
    run.settle()
}

/// One system's turn: fresh streams, the load, the check.
fn turn(run: &mut Run, running: &Running, load: &Load, name: &str, round: u32) -> anyhow::Result<Outcome> {
    // No stream is made twice: some systems take a while to delete one.
    let streams: Vec<String> = load.streams.iter().map(|stream| format!("{stream}-{name}-{round}")).collect();
    let load = Load { streams: streams.clone(), ..load.clone() };
    for stream in &streams {
        running.create(stream)?;
    }
    run.settle()?;
    let watch = Watch::begin(running.pid())?;
    let mut outcome = load.run(running)?;
    let used = watch.end()?;
    add(run, name, running, &outcome, &used);
    outcome.check(running)?;
    for stream in &streams {
        running.delete(stream)?;
    }
    progress(format_args!(
        "{name}, round {round}: {} {:.0} messages/s, {:.1} cores of it, {:.1} of this program",
        running.system.name(),
        outcome.rate(),
        used.cpu.as_secs_f64() / outcome.elapsed.as_secs_f64(),
        used.own_cpu.as_secs_f64() / outcome.elapsed.as_secs_f64(),
    ));
    Ok(outcome)
}

/// Keeps the figures of a turn.
pub(super) fn add(run: &mut Run, name: &str, running: &Running, outcome: &Outcome, used: &Used) {
    let system = running.system.name();
    let waited = latencies(outcome.latencies.clone());
    let bytes = outcome.messages * MESSAGE_BYTES as u64;
    let seconds = outcome.elapsed.as_secs_f64();
    let mut add = |figure, value| run.results.add(name, system, figure, value);
    add("messages_per_second", outcome.rate());
    add("mib_per_second", mib(bytes) / seconds);
    for (figure, percentile) in [("p50_ms", "p50_ms"), ("p99_ms", "p99_ms"), ("max_ms", "max_ms")] {
        add(figure, waited[percentile].as_f64().unwrap_or(f64::NAN));
    }
    add("cpu_seconds_per_gib", used.cpu.as_secs_f64() / gib(bytes));
    add("memory_mib_at_most", mib(used.resident_at_most));
    add("memory_mib_more_per_gib", mib(used.resident_more) / gib(bytes));
    add("load_program_cores", used.own_cpu.as_secs_f64() / seconds);
}
