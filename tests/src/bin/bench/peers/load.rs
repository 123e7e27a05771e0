//! Producers that drive every system with the same load, and the check of what it stored.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::line::{self, Line};
use super::protocol::{Append, How};
use super::running::Running;
use super::value::Check;
use crate::figures::count;
pub(crate) use crate::load::Until;

/// With a pace, a producer may send its requests so much later than they were due ...
const CATCH_UP: Duration = Duration::from_secs(30);

/// ... and takes so many times as long as it should. Whoever is slower will not get there.
const SLOWEST: u32 = 10;

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
        count(self.messages) / self.elapsed.as_secs_f64()
    }
}

/// One producer's requests: stream, first number, latency.
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
        // No message is older than the clock that it is stamped with.
        line::micros(Instant::now());
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
        for request in 0.. {
            let Some(due) = self.due(producer, request, started.elapsed())? else { break };
            let due = started + due;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let turn = usize::try_from(request)? % appends.len();
            let (stream, append) = &mut appends[turn];
            let first = request * self.messages as u64;
            line::append(&mut line, append.as_mut(), first, self.messages, due)?;
            sent.push((*stream, first, due.elapsed()));
        }
        Ok(sent)
    }

    /// When a producer's next request is due, counted from the start; `None` where there is none. With a pace, what
    /// is due before the end is sent, however long a stall has held it up: otherwise the stall would not count.
    fn due(&self, producer: u16, request: u64, now: Duration) -> anyhow::Result<Option<Duration>> {
        let due = self.pace.map_or(now, |pace| {
            let before = f64::from(producer) + count(request) * f64::from(self.producers);
            Duration::from_secs_f64(before / pace)
        });
        let is_over = match self.until {
            Until::Elapsed(duration) => due >= duration,
            Until::Requests(requests) => request >= requests,
        };
        if is_over {
            return Ok(None);
        }
        let behind = now.saturating_sub(due).as_secs_f64();
        ensure!(now <= due * SLOWEST + CATCH_UP, "it is {behind:.0} s behind the pace, and is given up");
        Ok(Some(due))
    }

    /// What of the pace was reached; `None` where there is none.
    pub(crate) fn of_pace(&self, outcome: &Outcome) -> Option<f64> {
        self.pace.map(|pace| outcome.rate() / (pace * count(self.messages as u64)))
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
            let read =
                line::read(running.address, consumer.as_mut(), wanted, &mut |value| check.next(value))?;
            ensure!(read == wanted, "{read} messages are there, {wanted} were acknowledged");
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
            let running = system.start(vault_tests::server::temporary_directory()).unwrap();
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
                let all = line::read(running.address, skim.as_mut(), skimmed, &mut |_| Ok(())).unwrap();
                assert_eq!(all, skimmed, "{system:?}");
                let mut beginning = running.read(&streams[0], 3, How::Skim);
                let some = line::read(running.address, beginning.as_mut(), 1, &mut |_| Ok(())).unwrap();
                assert!((1..=skimmed).contains(&some), "{system:?} sends {some} for the first one");
                let mut follow = running.read(&streams[0], 2, How::Follow);
                let mut followed = 0;
                line::read(running.address, follow.as_mut(), skimmed, &mut |value| {
                    followed += 1;
                    super::super::value::due_us(value).map(drop)
                })
                .unwrap();
                assert_eq!(followed, skimmed, "{system:?}");
                let mut other = load.run(&running).unwrap();
                assert!(other.check(&running).is_err(), "{system:?} holds more than this");
                running.delete(&streams).unwrap();
            }
        }
    }

    fn load(pace: Option<f64>, until: Until) -> Load {
        Load { producers: 4, messages: 1, streams: vec!["s".to_owned()], pace, until }
    }

    #[test]
    fn at_a_pace_everything_that_is_due_before_the_end_is_sent() {
        let ms = Duration::from_millis;
        let paced = load(Some(100.0), Until::Elapsed(ms(1_000)));
        let due = |request, now| paced.due(2, request, ms(now)).unwrap();
        assert_eq!(due(0, 0), Some(ms(20)));
        assert_eq!(due(1, 25), Some(ms(60)));
        assert_eq!(due(24, 7_000), Some(ms(980)), "a stall up to long after the end");
        assert_eq!(due(25, 990), None, "it would be due at 1.02 s");
        let given_up = paced.due(2, 24, ms(40_000)).unwrap_err().to_string();
        assert!(given_up.starts_with("it is 39 s behind the pace"), "{given_up}");
        let counted = load(Some(100.0), Until::Requests(3));
        assert_eq!(counted.due(0, 2, ms(500)).unwrap(), Some(ms(80)));
        assert_eq!(counted.due(0, 3, ms(0)).unwrap(), None);
    }

    #[test]
    fn in_a_closed_loop_the_clock_decides() {
        let ms = Duration::from_millis;
        let closed = load(None, Until::Elapsed(ms(1_000)));
        assert_eq!(closed.due(1, 9, ms(999)).unwrap(), Some(ms(999)), "at once");
        assert_eq!(closed.due(1, 9, ms(1_000)).unwrap(), None);
        assert_eq!(load(None, Until::Requests(3)).due(1, 2, ms(90_000)).unwrap(), Some(ms(90_000)));
    }

    /// Follows a stream whose producer was held up: what a message waited before it was sent counts.
    #[test]
    fn messages_carry_when_they_were_due() {
        let running = System::Vault.start(vault_tests::server::temporary_directory()).unwrap();
        running.create("s").unwrap();
        let mut line = Line::open(running.address).unwrap();
        let mut append = running.append("s", 0, 1);
        let due = Instant::now();
        let stamp = line::micros(due);
        std::thread::sleep(Duration::from_millis(20));
        line::append(&mut line, append.as_mut(), 0, 1, due).unwrap();
        let mut whole = running.read("s", 0, How::Whole);
        line::read(running.address, whole.as_mut(), 1, &mut |value| {
            assert_eq!(crate::peers::value::due_us(value)?, stamp);
            Ok(())
        })
        .unwrap();
    }
}
