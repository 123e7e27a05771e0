//! What a stream's length costs: the same load on streams that are long already.

use super::append;
use super::load::{Load, Outcome, Until};
use super::replay::{Replayed, fill, turn};
use super::running::Running;
use super::system::System;
use super::watch::{Used, Watch};
use super::{Kind, Run, ascending, needs};
use crate::figures::{count, mib};
use crate::load::MESSAGE_BYTES;
use crate::progress;

/// What is read of a long stream, from its beginning.
const READ_BYTES: u64 = 1 << 30;

/// 16 producers, 100 messages a request, and a replay of the first GiB.
pub(super) fn size(run: &mut Run) -> anyhow::Result<()> {
    let systems = run.start(Kind::Size)?;
    let mut redis_had = 0;
    for wanted in ascending(&run.options.gib) {
        for running in &systems {
            let mut gib = wanted;
            if running.system == System::Redis {
                // It holds all of it in memory. Where that is no more than before, it has been measured.
                gib = wanted.min(run.options.redis_gib);
                if gib == redis_had {
                    continue;
                }
                redis_had = gib;
            }
            let name = format!("size-{wanted}");
            let (outcome, used, read) = running.named(&name, || one(run, running, gib, &name))?;
            append::add(run, &name, running, &outcome, &used);
            let system = running.system.name();
            run.results.add(&name, system, "gib_before", count(gib));
            run.results.add(&name, system, "replay_mib_per_second", read.mib_per_second);
            progress(format_args!(
                "{name}: {system} {:.0} MiB/s in, {:.0} MiB/s out",
                mib(outcome.messages * MESSAGE_BYTES as u64) / outcome.elapsed.as_secs_f64(),
                read.mib_per_second
            ));
        }
    }
    Ok(())
}

fn one(run: &Run, running: &Running, gib: u64, name: &str) -> anyhow::Result<(Outcome, Used, Replayed)> {
    running.create(name)?;
    let filled = fill(running, name, gib << 30)?;
    // Many virtual machines give free memory back, and taking it again costs them more than what is measured here. A
    // stream that grows takes more and more: what it will take now is taken before, and is free when it is wanted. That
    // may come out of the page cache.
    let taken = vec![1_u8; usize::try_from(needs::taken_before(run.options.seconds))?];
    run.settle()?;
    std::hint::black_box(&taken);
    drop(taken);
    let until = Until::Elapsed(run.duration());
    let load = Load { producers: 16, messages: 100, streams: vec![name.to_owned()], pace: None, until };
    let watch = Watch::begin(running.pid())?;
    let mut outcome = load.run_from(running, append::AFTER_FILLING)?;
    let used = watch.end()?;
    outcome.join(filled);
    outcome.check(running)?;
    let read = turn(running, name, 1, READ_BYTES / MESSAGE_BYTES as u64)?;
    running.delete(&[name.to_owned()])?;
    Ok((outcome, used, read))
}
