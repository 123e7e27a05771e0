//! What room a load takes at most, so that a run that cannot end does not begin.

use anyhow::ensure;

use super::machine::{Machine, free_bytes};
use super::system::System;
use super::{Kind, Run};
use crate::figures::gib;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// What no system appends more of in a second: in batches, and one by one.
const BATCHES_BYTES: u64 = 3 * GIB / 2;
const SINGLES_BYTES: u64 = 64 * MIB;
const TAIL_BYTES: u64 = 2 * MIB;

/// What this program and those systems hold that hold little.
const OWN_BYTES: u64 = GIB;

/// Java's heap with what is beside it.
const KAFKA_BYTES: u64 = GIB + GIB / 2;

/// What Redis, which holds all of it in memory, syncs no more of in a second.
const REDIS_BYTES: u64 = GIB / 2;

/// What one consumer has in the buffers of both sides.
const CONSUMER_BYTES: u64 = MIB / 4;

/// Bytes that a load takes at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Need {
    pub(crate) disk: u64,
    pub(crate) memory: u64,
}

/// What is asked for, as far as it takes room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) seconds: u64,
    pub(crate) replay_bytes: u64,
    pub(crate) longest_gib: u64,
    pub(crate) redis_gib: u64,
    pub(crate) consumers: u64,
}

/// What this program takes of memory before it appends to a long stream for so many seconds.
pub(super) fn taken_before(seconds: u64) -> u64 {
    seconds * GIB
}

/// A tenth more, and a bit: for what frames messages.
fn framed(bytes: u64) -> u64 {
    bytes + bytes / 10
}

impl Wish {
    /// What a load with these systems needs.
    pub(crate) fn need(&self, kind: Kind, systems: &[System]) -> Need {
        // Systems take turns, and each deletes what it has before the next one's.
        let (stored, in_redis) = match kind {
            Kind::Batches | Kind::Sweep | Kind::Streams => {
                (self.seconds * BATCHES_BYTES, self.seconds * REDIS_BYTES)
            }
            Kind::Singles => (self.seconds * SINGLES_BYTES, self.seconds * SINGLES_BYTES),
            Kind::Tail | Kind::Consumers => (self.seconds * TAIL_BYTES, self.seconds * TAIL_BYTES),
            // All hold it at the same time, and nginx has a file.
            Kind::Replay => (self.replay_bytes * (systems.len() as u64 + 1), self.replay_bytes),
            Kind::Size => (
                self.longest_gib * GIB + self.seconds * BATCHES_BYTES,
                self.longest_gib.min(self.redis_gib) * GIB + self.seconds * REDIS_BYTES,
            ),
        };
        let kafkas = systems.iter().filter(|it| matches!(it, System::Kafka | System::KafkaUnsynced)).count();
        let redis = if systems.contains(&System::Redis) { framed(in_redis) } else { 0 };
        // Of the load program.
        let own = match kind {
            Kind::Consumers => self.consumers * CONSUMER_BYTES,
            Kind::Size => taken_before(self.seconds),
            _ => 0,
        };
        Need { disk: framed(stored), memory: OWN_BYTES + kafkas as u64 * KAFKA_BYTES + redis + own }
    }
}

/// Says what is missing for what was asked for.
pub(crate) fn check(run: &Run, machine: &Machine) -> anyhow::Result<()> {
    let options = &run.options;
    let largest = |numbers: &[u32]| u64::from(numbers.iter().copied().max().unwrap_or(0));
    let wish = Wish {
        seconds: options.seconds,
        replay_bytes: options.replay_mib * MIB,
        longest_gib: options.gib.iter().copied().max().unwrap_or(0),
        redis_gib: options.redis_gib,
        consumers: largest(&options.consumers),
    };
    let free = free_bytes(run.directory.path())?;
    for kind in &options.loads {
        let need = wish.need(*kind, &run.systems_of(*kind));
        ensure!(
            need.disk <= free,
            "`{kind}` may need {:.1} GiB in {}, where {:.1} are free: choose another --dir, or less with --seconds, \
             --replay-mib or --gib",
            gib(need.disk),
            run.directory.path().parent().unwrap_or(run.directory.path()).display(),
            gib(free)
        );
        ensure!(
            need.memory <= machine.available_bytes,
            "`{kind}` may need {:.1} GiB of memory, {:.1} are available: choose fewer --systems, or less with \
             --seconds, --replay-mib, --redis-gib or --consumers",
            gib(need.memory),
            gib(machine.available_bytes)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_at_the_same_time_is_needed_at_the_same_time() {
        let wish = Wish { seconds: 10, replay_bytes: GIB, longest_gib: 40, redis_gib: 8, consumers: 4_000 };
        let need = |kind, systems: &[System]| wish.need(kind, systems);
        let both = [System::Vault, System::Redis];
        assert_eq!(
            need(Kind::Batches, &both),
            Need { disk: framed(15 * GIB), memory: GIB + framed(5 * GIB) }
        );
        assert_eq!(need(Kind::Batches, &[System::Vault]), Need { disk: framed(15 * GIB), memory: GIB });
        assert_eq!(need(Kind::Replay, &both).disk, framed(3 * GIB));
        assert_eq!(
            need(Kind::Size, &both),
            Need { disk: framed(55 * GIB), memory: 11 * GIB + framed(13 * GIB) }
        );
        let kafka = [System::Kafka, System::KafkaUnsynced];
        assert_eq!(need(Kind::Consumers, &kafka).memory, 4 * GIB + 1_000 * MIB);
    }
}
