//! What a stream's length costs: the same load on streams that are long already.

use super::Run;
use super::append;
use super::load::{Load, Until};
use super::process::Watch;
use super::replay::{fill, turn};
use super::system::{Running, System};
use crate::figures::mib;
use crate::progress;

/// What is read of a long stream, from its beginning.
const READ_BYTES: u64 = 1 << 30;

/// 16 producers, 100 messages a request, and a replay of the first GiB.
pub(super) fn size(run: &mut Run) -> anyhow::Result<()> {
    let mut wanted: Vec<System> = run.systems().into_iter().map(System::quick_to_fill).collect();
    wanted.sort();
    wanted.dedup();
    let systems = run.start(&wanted)?;
    for gib in run.options.gib.clone() {
        for running in &systems {
            // Redis holds all of it in memory.
            let most = if running.system == System::Redis { run.options.redis_gib } else { u64::MAX };
            one(run, running, gib.min(most), &format!("size-{gib}"))?;
        }
    }
    Ok(())
}

fn one(run: &mut Run, running: &Running, gib: u64, name: &str) -> anyhow::Result<()> {
    running.create(name)?;
    let filled = fill(running, name, gib << 30)?;
    run.settle()?;
    let until = Until::Elapsed(run.duration());
    let load = Load { producers: 16, messages: 100, streams: vec![name.to_owned()], pace: None, until };
    let watch = Watch::begin(running.pid())?;
    let mut outcome = load.run_from(running, append::AFTER_FILLING)?;
    let used = watch.end()?;
    append::add(run, name, running, &outcome, &used);
    run.results.add(name, running.system.name(), "gib_before", crate::figures::count(gib));
    outcome.join(filled);
    outcome.check(running)?;
    let messages = READ_BYTES / crate::load::MESSAGE_BYTES as u64;
    let (rate, _) = turn(running, name, 1, messages)?;
    run.results.add(name, running.system.name(), "replay_mib_per_second", rate);
    progress(format_args!(
        "{name}: {} {:.0} MiB/s in, {rate:.0} MiB/s out",
        running.system.name(),
        mib(outcome.messages * crate::load::MESSAGE_BYTES as u64) / outcome.elapsed.as_secs_f64()
    ));
    running.delete(name)
}
