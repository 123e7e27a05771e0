//! Producers in a closed loop, and at half of the rate that they reach.

use std::time::Duration;

use super::load::{Load, Outcome, Until};
use super::running::Running;
use super::watch::{Used, Watch};
use super::{Kind, Run, WARM_UP, ascending, in_turn};
use crate::figures::{count, gib, mib};
use crate::load::MESSAGE_BYTES;
use crate::{azure, disk, progress};

const PRODUCERS: u16 = 16;
const MESSAGES: usize = 100;

/// How long Put Pages are sent to Azurite at most, which holds all of it in memory, in one blob.
const AZURITE_TIME: Duration = Duration::from_secs(5);

/// The first producer on a stream that others have filled.
pub(super) const AFTER_FILLING: u16 = 100;

/// 100 messages of 1 KiB a request, and the same at half of the rate.
pub(super) fn batches(run: &mut Run) -> anyhow::Result<()> {
    measure(run, Kind::Batches, MESSAGES)
}

/// One message of 1 KiB a request.
pub(super) fn singles(run: &mut Run) -> anyhow::Result<()> {
    measure(run, Kind::Singles, 1)
}

fn measure(run: &mut Run, kind: Kind, messages: usize) -> anyhow::Result<()> {
    let name = kind.to_string();
    let systems = run.start(kind)?;
    let load = load_of(run, PRODUCERS, messages, streams_named(&name, 1));
    warm_up(run, &systems, &load)?;
    for round in 1..=run.options.rounds {
        // The disk would have to write what the last system left.
        run.settle()?;
        let (figure, value) = if messages == 1 {
            let writes = disk::small_writes(run.directory.path(), run.duration())?;
            ("writes_per_second", writes)
        } else {
            ("mib_per_second", disk::large_mib(run.directory.path(), run.duration())?)
        };
        progress(format_args!("{name}, round {round}: disk {value:.0}"));
        run.results.add(&name, "disk", figure, value);
        if kind == Kind::Batches {
            let rate = azure::bare_mib_per_second(run.duration().min(AZURITE_TIME))?;
            progress(format_args!("{name}, round {round}: Azurite {rate:.0}"));
            run.results.add(&name, "azurite", "mib_per_second", rate);
        }
        for running in in_turn(&systems, round) {
            let outcome = turn(run, running, &load, &name, round)?;
            if kind == Kind::Batches {
                let pace = Some(outcome.rate() / 2.0 / count(messages as u64));
                turn(run, running, &Load { pace, ..load.clone() }, &format!("{name}-at-half"), round)?;
            }
        }
    }
    Ok(())
}

fn load_of(run: &Run, producers: u16, messages: usize, streams: Vec<String>) -> Load {
    Load { producers, messages, streams, pace: None, until: Until::Elapsed(run.duration()) }
}

/// Fewer and more producers, fewer and more messages a request.
pub(super) fn sweep(run: &mut Run) -> anyhow::Result<()> {
    let systems = run.start(Kind::Sweep)?;
    let streams = streams_named("sweep", 1);
    warm_up(run, &systems, &load_of(run, PRODUCERS, MESSAGES, Vec::new()))?;
    for round in 1..=run.options.rounds {
        for producers in ascending(&run.options.producers) {
            for messages in ascending(&run.options.messages) {
                let load = load_of(run, producers, usize::from(messages), streams.clone());
                for running in in_turn(&systems, round) {
                    turn(run, running, &load, &format!("sweep-{producers}-{messages}"), round)?;
                }
            }
        }
    }
    Ok(())
}

/// 16 producers, 100 messages a request, to more and more streams.
pub(super) fn streams(run: &mut Run) -> anyhow::Result<()> {
    let systems = run.start(Kind::Streams)?;
    warm_up(run, &systems, &load_of(run, PRODUCERS, MESSAGES, Vec::new()))?;
    for round in 1..=run.options.rounds {
        for number in ascending(&run.options.streams) {
            let load = load_of(run, PRODUCERS, MESSAGES, streams_named("stream", number));
            for running in in_turn(&systems, round) {
                turn(run, running, &load, &format!("streams-{number}"), round)?;
            }
        }
    }
    Ok(())
}

fn streams_named(name: &str, number: u32) -> Vec<String> {
    (0..number).map(|stream| format!("{name}-{stream}")).collect()
}

fn warm_up(run: &Run, systems: &[Running], load: &Load) -> anyhow::Result<()> {
    let load = Load { streams: streams_named("warm-up", 1), until: Until::Elapsed(WARM_UP), ..load.clone() };
    for running in systems {
        progress(format_args!("warming up {}", running.system.name()));
        running.named("warming up", || drive(run, running, &load))?;
    }
    Ok(())
}

/// Fresh streams, the load, the check.
fn drive(run: &Run, running: &Running, load: &Load) -> anyhow::Result<(Outcome, Used)> {
    for stream in &load.streams {
        running.create(stream)?;
    }
    run.settle()?;
    let watch = Watch::begin(running.pid())?;
    let mut outcome = load.run(running)?;
    let used = watch.end()?;
    outcome.check(running)?;
    running.delete(&load.streams)?;
    Ok((outcome, used))
}

/// One system's turn.
fn turn(run: &mut Run, running: &Running, load: &Load, name: &str, round: u32) -> anyhow::Result<Outcome> {
    // No stream is made twice: some systems take a while to delete one.
    let streams = load.streams.iter().map(|stream| format!("{stream}-{name}-{round}")).collect();
    let load = Load { streams, ..load.clone() };
    let what = format!("{name}, round {round}");
    let (outcome, used) = running.named(&what, || drive(run, running, &load))?;
    add(run, name, running, &outcome, &used);
    if let Some(of_pace) = load.of_pace(&outcome) {
        run.results.add(name, running.system.name(), "of_pace", of_pace);
    }
    progress(format_args!(
        "{what}: {} {:.0} messages/s, {:.1} cores of it, {:.1} of this program",
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
    let bytes = outcome.messages * MESSAGE_BYTES as u64;
    let seconds = outcome.elapsed.as_secs_f64();
    run.results.add(name, system, "messages_per_second", outcome.rate());
    run.results.add(name, system, "mib_per_second", mib(bytes) / seconds);
    run.results.add_latencies(name, system, outcome.latencies.clone());
    let mut add = |figure, value| run.results.add(name, system, figure, value);
    add("cpu_seconds_per_gib", used.cpu.as_secs_f64() / gib(bytes));
    add("memory_mib_at_most", mib(used.resident_at_most));
    add("load_program_cores", used.own_cpu.as_secs_f64() / seconds);
}
