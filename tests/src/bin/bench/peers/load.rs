//! Producers that drive every system with the same load, and the check of what it stored.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::line::{self, Line};
use super::protocol::{Append, How};
use super::system::Running;
use super::value::Check;

/// What producers do.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Each on a connection of its own; its next request goes out when all of the last one is acknowledged.
    pub(crate) producers: u16,
    /// In a request.
    pub(crate) messages: usize,
    /// Producers take turns with these.
    pub(crate) streams: Vec<String>,
    /// Requests a second of all producers together, at an even pace; as fast as they can otherwise.
    pub(crate) pace: Option<f64>,
    pub(crate) until: Until,
}

/// When producers stop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Elapsed(Duration),
    /// After so many requests of each.
    Requests(u64),
}

/// What producers were told.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// From sending to the acknowledgement of the whole request; at a pace, from when it was due.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) elapsed: Duration,
    pub(crate) messages: u64,
    checks: Vec<(String, Check)>,
}

impl Outcome {
    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        crate::figures::count(self.messages) / self.elapsed.as_secs_f64()
    }
}

/// One producer's requests: stream, first number.
type Sent = Vec<(usize, u64, Duration)>;

impl Load {
    /// The streams of a producer: one where there are more producers than streams, some otherwise.
    fn streams_of(&self, producer: u16) -> Vec<usize> {
        let (streams, producers) = (self.streams.len(), usize::from(self.producers));
        if streams <= producers {
            return vec![usize::from(producer) % streams];
        }
        (usize::from(producer)..streams).step_by(producers).collect()
    }

    /// Drives a system.
    pub(crate) fn run(&self, running: &Running) -> anyhow::Result<Outcome> {
        self.run_from(running, 0)
    }

    /// The same where the first producer has this number: no two of a stream may be the same.
    pub(crate) fn run_from(&self, running: &Running, first: u16) -> anyhow::Result<Outcome> {
        let mut ready = Vec::new();
        for producer in 0..self.producers {
            let mut line = Line::open(running.address)?;
            let mut appends = Vec::new();
            for stream in self.streams_of(producer) {
                let mut append = running.append(&self.streams[stream], first + producer, self.messages);
                line.send(&append.begin(appends.is_empty()))?;
                appends.push((stream, append));
            }
            ready.push((producer, line, appends));
        }
        let started = Instant::now();
        let sent: Vec<anyhow::Result<Sent>> = std::thread::scope(|scope| {
            let produce = |(producer, line, appends)| {
                scope.spawn(move || self.produce(producer, line, appends, started))
            };
            let threads: Vec<_> = ready.into_iter().map(produce).collect();
            threads.into_iter().map(|thread| thread.join().expect("a producer does not panic")).collect()
        });
        let elapsed = started.elapsed();
        let mut checks: Vec<_> = self.streams.iter().map(|name| (name.clone(), Check::default())).collect();
        let mut latencies = Vec::new();
        for (producer, sent) in (0..).zip(sent) {
            let sent = sent.with_context(|| format!("producer {producer}"))?;
            for stream in self.streams_of(producer) {
                let firsts =
                    sent.iter().filter(|(it, ..)| *it == stream).map(|(_, number, _)| *number).collect();
                checks[stream].1.expect(first + producer, firsts, self.messages as u64);
            }
            latencies.extend(sent.into_iter().map(|(.., latency)| latency));
        }
        let messages = (latencies.len() * self.messages) as u64;
        Ok(Outcome { latencies, elapsed, messages, checks })
    }

    fn produce(
        &self,
        producer: u16,
        mut line: Line,
        mut appends: Vec<(usize, Box<dyn Append>)>,
        started: Instant,
    ) -> anyhow::Result<Sent> {
        let mut sent = Sent::new();
        let producers = f64::from(self.producers);
        let mut due = f64::from(producer);
        for request in 0.. {
            let is_over = match self.until {
                Until::Elapsed(duration) => started.elapsed() >= duration,
                Until::Requests(requests) => request >= requests,
            };
            if is_over {
                break;
            }
            let mut before = Instant::now();
            if let Some(pace) = self.pace {
                before = started + Duration::from_secs_f64(due / pace);
                if matches!(self.until, Until::Elapsed(duration) if before >= started + duration) {
                    break;
                }
                std::thread::sleep(before.saturating_duration_since(Instant::now()));
                due += producers;
            }
            let turn = usize::try_from(request)? % appends.len();
            let (stream, append) = &mut appends[turn];
            let first = request * self.messages as u64;
            line::append(&mut line, append.as_mut(), first, self.messages)?;
            sent.push((*stream, first, before.elapsed()));
        }
        Ok(sent)
    }
}

impl Outcome {
    /// Expects what was appended to the same streams before, too.
    pub(crate) fn join(&mut self, earlier: Self) {
        for ((_, check), (_, before)) in self.checks.iter_mut().zip(earlier.checks) {
            check.join(before);
        }
    }

    /// Reads every stream: every acknowledged message must be there once, in its producer's order, intact, and nothing
    /// else.
    pub(crate) fn check(&mut self, running: &Running) -> anyhow::Result<()> {
        for (stream, check) in &mut self.checks {
            let wanted = check.wanted();
            let length = running.length(stream)?;
            ensure!(length == wanted, "{stream} has {length} messages, {wanted} were acknowledged");
            if wanted == 0 {
                continue;
            }
            let mut consumer = running.read(stream, 0, How::Whole);
            line::read(running.address, consumer.as_mut(), wanted, &mut |value| check.next(value))?;
            check.end()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::system::System;
    use clap::ValueEnum;

    /// Every system, with batches and single messages and with more streams and fewer than producers: what it
    /// acknowledges is found, and what it was not told is missed.
    #[test]
    fn every_system_stores_what_it_acknowledges() {
        for system in System::value_variants() {
            let directory = vault_tests::server::temporary_directory();
            let running = system.start(&directory.path().join("data")).unwrap();
            for (messages, streams, pace) in [(1, 1, None), (100, 5, None), (7, 2, Some(200.0))] {
                let streams: Vec<String> = (0..streams).map(|n| format!("s{n}")).collect();
                streams.iter().for_each(|stream| running.create(stream).unwrap());
                let until = Until::Requests(6);
                let load = Load { producers: 3, messages, streams: streams.clone(), pace, until };
                let mut outcome = load.run(&running).with_context(|| format!("{system:?}")).unwrap();
                assert_eq!(outcome.messages, 3 * 6 * messages as u64, "{system:?}");
                outcome.check(&running).with_context(|| format!("{system:?}")).unwrap();
                let skimmed = outcome.checks[0].1.wanted();
                let mut skim = running.read(&streams[0], 1, How::Skim);
                line::read(running.address, skim.as_mut(), skimmed, &mut |_| Ok(())).unwrap();
                let mut follow = running.read(&streams[0], 2, How::Follow);
                let mut followed = 0;
                line::read(running.address, follow.as_mut(), skimmed, &mut |value| {
                    followed += 1;
                    super::super::value::sent_us(value).map(drop)
                })
                .unwrap();
                assert_eq!(followed, skimmed, "{system:?}");
                let mut other = load.run(&running).unwrap();
                assert!(other.check(&running).is_err(), "{system:?} holds more than this");
                streams.iter().for_each(|stream| running.delete(stream).unwrap());
            }
        }
    }
}
