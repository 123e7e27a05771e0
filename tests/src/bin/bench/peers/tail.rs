//! Consumers that follow a stream: how long a message takes from when it was due, through its producer and the disk,
//! to all of them.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};

use super::line::micros;
use super::load::{Load, Outcome, Until};
use super::protocol::{Found, How, Read};
use super::running::Running;
use super::system::System;
use super::value::due_us;
use super::watch::{Used, Watch};
use super::{Kind, Run, WARM_UP, ascending, in_turn};
use crate::figures::{count, mib};
use crate::progress;

const PRODUCERS: u16 = 8;
const MESSAGES_PER_SECOND: f64 = 1_000.0;

/// What all consumers receive at most: with many of them, fewer messages are sent.
const RECEIVED_PER_SECOND: f64 = 50_000.0;

/// How long after the last acknowledgement everything must have arrived.
const LATE: Duration = Duration::from_secs(60);

/// How much one consumer of many receives at once. The buffers grow where they must.
const BUFFER_BYTES: usize = 16 << 10;

/// One consumer.
pub(super) fn tail(run: &mut Run) -> anyhow::Result<()> {
    measure(run, Kind::Tail, &[(1, "tail".to_owned())])
}

/// More and more consumers.
pub(super) fn consumers(run: &mut Run) -> anyhow::Result<()> {
    let numbers = ascending(&run.options.consumers).into_iter();
    let numbers: Vec<_> = numbers.map(|number| (number, format!("consumers-{number}"))).collect();
    measure(run, Kind::Consumers, &numbers)
}

fn measure(run: &mut Run, kind: Kind, numbers: &[(u32, String)]) -> anyhow::Result<()> {
    let systems = run.start(kind)?;
    for running in &systems {
        progress(format_args!("warming up {}", running.system.name()));
        let warm = running.named("warming up", || turn(run, running, "warm-up", 1, WARM_UP))?;
        ensure!(warm.is_some(), "warming up: one consumer did not come within {LATE:?}");
    }
    for round in 1..=run.options.rounds {
        for (consumers, name) in numbers {
            for running in in_turn(&systems, round) {
                let (stream, duration) = (format!("{name}-{round}"), run.duration());
                let turn = running.named(&stream, || turn(run, running, &stream, *consumers, duration))?;
                match turn {
                    Some(turn) => add(run, name, running, turn),
                    None => add_none(run, name, running)?,
                }
            }
        }
    }
    Ok(())
}

/// What came out of one turn.
#[derive(Debug)]
struct Turn {
    outcome: Outcome,
    of_pace: f64,
    waited: Vec<Duration>,
    used: Used,
}

/// `None` where not every consumer has received the first message in time.
fn turn(
    run: &Run,
    running: &Running,
    stream: &str,
    consumers: u32,
    duration: Duration,
) -> anyhow::Result<Option<Turn>> {
    let pace = MESSAGES_PER_SECOND.min(RECEIVED_PER_SECOND / f64::from(consumers));
    let streams = vec![stream.to_owned()];
    running.create(stream)?;
    run.settle()?;
    let first = Load { producers: 1, messages: 1, streams, pace: None, until: Until::Requests(1) };
    // What is there already tells that a consumer has come.
    first.run(running)?;
    let each = (pace * duration.as_secs_f64() / f64::from(PRODUCERS)).ceil().max(1.0);
    let each = (1..).find(|requests| count(*requests) >= each).unwrap_or(1);
    let load = Load { producers: PRODUCERS, pace: Some(pace), until: Until::Requests(each), ..first };
    let wanted = each * u64::from(PRODUCERS);
    let (ready, all_ready) = mpsc::channel();
    let (sent, all_sent) = oneshot::channel();
    let measured = std::thread::scope(|scope| {
        let consuming = scope.spawn(|| {
            let readers = (0..consumers).map(|number| running.read(stream, u64::from(number), How::Follow));
            consume(running.address, readers.collect(), wanted, ready, all_sent)
        });
        let produce = || -> anyhow::Result<_> {
            let watch = Watch::begin(running.pid())?;
            Ok((load.run(running)?, watch))
        };
        let came = all_ready.recv_timeout(LATE);
        let produced = came.is_ok().then(produce).transpose();
        match &produced {
            // Consumers that have ended do not listen any more.
            Ok(Some(_)) => drop(sent.send(())),
            // They need not wait for what will not come.
            _ => drop(sent),
        }
        let consumed = consuming.join().expect("a consumer does not panic");
        let produced = produced?;
        if came == Err(RecvTimeoutError::Timeout) {
            return Ok(None);
        }
        // Consumers that have ended before all had come say why.
        let waited = consumed?;
        let (outcome, watch) = produced.context("the consumers ended before all had come")?;
        anyhow::Ok(Some((outcome, waited, watch.end()?)))
    })?;
    running.delete(&[stream.to_owned()])?;
    let Some((outcome, waited, used)) = measured else { return Ok(None) };
    ensure!(waited.len() as u64 == wanted * u64::from(consumers), "not everything arrived");
    let of_pace = load.of_pace(&outcome).unwrap_or(f64::NAN);
    Ok(Some(Turn { outcome, of_pace, waited, used }))
}

/// A peer that does not get so many consumers going has nothing of the pace. The server must.
fn add_none(run: &mut Run, name: &str, running: &Running) -> anyhow::Result<()> {
    let system = running.system.name();
    ensure!(running.system != System::Vault, "{name}: not every consumer came within {LATE:?}");
    progress(format_args!("{name}: {system} has not served every consumer within {LATE:?}"));
    run.results.add(name, system, "of_pace", 0.0);
    Ok(())
}

fn add(run: &mut Run, name: &str, running: &Running, turn: Turn) {
    let system = running.system.name();
    let seconds = turn.outcome.elapsed.as_secs_f64();
    run.results.add(name, system, "messages_per_second", turn.outcome.rate());
    run.results.add(name, system, "of_pace", turn.of_pace);
    let waited = run.results.add_latencies(name, system, turn.waited);
    let mut add = |figure, value| run.results.add(name, system, figure, value);
    add("cores", turn.used.cpu.as_secs_f64() / seconds);
    add("load_program_cores", turn.used.own_cpu.as_secs_f64() / seconds);
    add("memory_mib_at_most", mib(turn.used.resident_at_most));
    progress(format_args!("{name}: {system} p50 {} ms, p99 {} ms", waited["p50_ms"], waited["p99_ms"]));
}

/// The consumers that have not received anything yet.
#[derive(Debug)]
struct Coming {
    left: usize,
    ready: mpsc::Sender<()>,
}

impl Coming {
    fn arrived(&mut self) {
        self.left -= 1;
        if self.left == 0 {
            // Whoever does not wait any more has given up, and says why.
            let _ = self.ready.send(());
        }
    }
}

/// Follows with all consumers until each has so many messages beside the first: how long each message took. They are
/// given up some time after everything was sent, and at once where it was not.
fn consume(
    address: SocketAddr,
    readers: Vec<Box<dyn Read>>,
    wanted: u64,
    ready: mpsc::Sender<()>,
    all_sent: oneshot::Receiver<()>,
) -> anyhow::Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let waited = Rc::new(RefCell::new(Vec::new()));
    let coming = Rc::new(RefCell::new(Coming { left: readers.len(), ready }));
    let follow_all = async {
        let mut following = JoinSet::new();
        for reader in readers {
            following.spawn_local(follow(address, reader, wanted, Rc::clone(&waited), Rc::clone(&coming)));
        }
        while let Some(ended) = following.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    let late = async {
        if all_sent.await.is_err() {
            return anyhow!("not everything was sent");
        }
        tokio::time::sleep(LATE).await;
        anyhow!("not everything arrived within {LATE:?} of the last acknowledgement")
    };
    let limited = async {
        tokio::select! {
            followed = follow_all => followed,
            late = late => Err(late),
        }
    };
    LocalSet::new().block_on(&runtime, limited)?;
    Ok(waited.take())
}

async fn follow(
    address: SocketAddr,
    mut reader: Box<dyn Read>,
    wanted: u64,
    waited: Rc<RefCell<Vec<Duration>>>,
    coming: Rc<RefCell<Coming>>,
) -> anyhow::Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    socket.write_all(&reader.begin()).await?;
    let (mut received, mut send) = (Vec::with_capacity(BUFFER_BYTES), Vec::new());
    let (mut found, mut has_come) = (0, false);
    while found < wanted + 1 {
        ensure!(socket.read_buf(&mut received).await? > 0, "the connection was closed");
        let now = micros(Instant::now());
        loop {
            let taken = reader.take(&received, &mut send, &mut |it| {
                let Found::Value(value) = it else { return Ok(()) };
                if found > 0 {
                    let took = now.saturating_sub(due_us(value)?);
                    waited.borrow_mut().push(Duration::from_micros(took));
                }
                found += 1;
                Ok(())
            })?;
            received.drain(..taken);
            if !send.is_empty() {
                socket.write_all(&send).await?;
                send.clear();
            }
            if taken == 0 || received.is_empty() {
                break;
            }
        }
        if found > 0 && !has_come {
            has_come = true;
            coming.borrow_mut().arrived();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vault_tests::server::temporary_directory;

    use super::*;

    #[test]
    fn consumers_do_not_wait_for_producers_that_have_failed() {
        let running = System::Vault.start(temporary_directory()).unwrap();
        running.create("s").unwrap();
        let streams = vec!["s".to_owned()];
        let load = Load { producers: 1, messages: 1, streams, pace: None, until: Until::Requests(1) };
        load.run(&running).unwrap();
        let reader = || running.read("s", 0, How::Follow);
        let (ready, all_ready) = mpsc::channel();
        let (sent, all_sent) = oneshot::channel();
        let error = std::thread::scope(|scope| {
            let consuming = scope.spawn(|| consume(running.address, vec![reader()], 5, ready, all_sent));
            all_ready.recv_timeout(LATE).unwrap();
            drop(sent);
            consuming.join().unwrap().unwrap_err()
        });
        assert_eq!(error.to_string(), "not everything was sent");
        let (ready, all_ready) = mpsc::channel();
        let (_sent, all_sent) = oneshot::channel();
        let waited = consume(running.address, vec![reader()], 0, ready, all_sent).unwrap();
        assert!(waited.is_empty() && all_ready.recv().is_ok(), "the first message has no latency");
    }
}
