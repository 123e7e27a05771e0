//! Consumers that follow a stream: how long a message takes from its producer, through the disk, to all of them.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use super::Run;
use super::line::now_us;
use super::load::{Load, Until};
use super::process::Watch;
use super::protocol::{Found, How, Read};
use super::system::Running;
use super::value::sent_us;
use crate::figures::{count, latencies, mib};
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
    measure(run, &[(1, "tail".to_owned())])
}

/// More and more consumers.
pub(super) fn consumers(run: &mut Run) -> anyhow::Result<()> {
    let numbers: Vec<_> =
        run.options.consumers.iter().map(|number| (*number, format!("consumers-{number}"))).collect();
    measure(run, &numbers)
}

fn measure(run: &mut Run, numbers: &[(usize, String)]) -> anyhow::Result<()> {
    let systems = run.start(&run.systems())?;
    for round in 1..=run.options.rounds {
        for (consumers, name) in numbers {
            for running in &systems {
                let stream = format!("{name}-{round}");
                running.create(&stream)?;
                run.settle()?;
                turn(run, running, &stream, name, *consumers)
                    .with_context(|| format!("{consumers} consumers of {}", running.system.name()))?;
                running.delete(&stream)?;
            }
        }
    }
    Ok(())
}

fn turn(run: &mut Run, running: &Running, stream: &str, name: &str, consumers: usize) -> anyhow::Result<()> {
    let pace = MESSAGES_PER_SECOND.min(RECEIVED_PER_SECOND / count(consumers as u64));
    let streams = vec![stream.to_owned()];
    let first = Load { producers: 1, messages: 1, streams, pace: None, until: Until::Requests(1) };
    // What is there already tells that a consumer has come.
    first.run(running)?;
    let each = (pace * run.duration().as_secs_f64() / f64::from(PRODUCERS)).ceil().max(1.0);
    let each = (1..).find(|requests| count(*requests) >= each).unwrap_or(1);
    let load = Load { producers: PRODUCERS, pace: Some(pace), until: Until::Requests(each), ..first };
    let wanted = each * u64::from(PRODUCERS);
    let limit = LATE + run.duration() * 2;
    let (ready, all_ready) = mpsc::channel();
    let (outcome, waited, used) = std::thread::scope(|scope| {
        let consuming = scope.spawn(|| {
            let readers = (0..consumers).map(|number| running.read(stream, number as u64, How::Follow));
            consume(running.address, readers.collect(), wanted, limit, ready)
        });
        let begin = || -> anyhow::Result<_> {
            all_ready.recv_timeout(LATE).context("not every consumer came")?;
            let watch = Watch::begin(running.pid())?;
            Ok((load.run(running)?, watch))
        };
        let produced = begin();
        let waited = consuming.join().expect("a consumer does not panic")?;
        let (outcome, watch) = produced?;
        anyhow::Ok((outcome, waited, watch.end()?))
    })?;
    ensure!(waited.len() as u64 == wanted * consumers as u64, "not everything arrived");
    let system = running.system.name();
    let waited = latencies(waited);
    let seconds = outcome.elapsed.as_secs_f64();
    let mut add = |figure, value| run.results.add(name, system, figure, value);
    add("messages_per_second", outcome.rate());
    for (figure, percentile) in [("p50_ms", "p50_ms"), ("p99_ms", "p99_ms"), ("max_ms", "max_ms")] {
        add(figure, waited[percentile].as_f64().unwrap_or(f64::NAN));
    }
    add("cores", used.cpu.as_secs_f64() / seconds);
    add("load_program_cores", used.own_cpu.as_secs_f64() / seconds);
    add("memory_mib_at_most", mib(used.resident_at_most));
    progress(format_args!("{name}: {system} p50 {} ms, p99 {} ms", waited["p50_ms"], waited["p99_ms"]));
    Ok(())
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

/// Follows with all consumers until each has so many messages beside the first: how long each message took.
fn consume(
    address: SocketAddr,
    readers: Vec<Box<dyn Read>>,
    wanted: u64,
    limit: Duration,
    ready: mpsc::Sender<()>,
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
    let limited = async { tokio::time::timeout(limit, follow_all).await.context("not everything arrived")? };
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
        let now = now_us();
        loop {
            let taken = reader.take(&received, &mut send, &mut |it| {
                let Found::Value(value) = it else { return Ok(()) };
                if found > 0 {
                    let took = now.saturating_sub(sent_us(value)?);
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
