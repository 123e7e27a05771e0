//! Many consumers at the tail of one stream: what they cost the server, and how soon each of them has a message.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::process::getpid;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use vault_tests::process::cpu;
use vault_tests::raw::allow_open_files;
use vault_tests::server::{Server, Setup};

use crate::connection::post;
use crate::events::Events;
use crate::figures::{latencies, median, rounded, spread};
use crate::{Options, progress};

const MESSAGES_PER_SECOND: u64 = 1_000;
const MANY: usize = 1_000;
const FEW: usize = 100;
const GOAL_CORES: f64 = 1.0;
const GOAL_P99_MS: f64 = 5.0;

/// Each sends every eighth message, so that an append that takes long does not hold the others up.
const PRODUCERS: u64 = 8;

/// How long after the last append everything must have arrived.
const LATE: Duration = Duration::from_secs(10);

/// 1,000 consumers, 1,000 messages a second.
pub(crate) fn many(options: &Options) -> anyhow::Result<Value> {
    let (small, large) = (measure(options, MANY, 100)?, measure(options, MANY, 1 << 10)?);
    Ok(json!({
        "consumers": MANY,
        "messages_per_second": MESSAGES_PER_SECOND,
        "with_100_bytes": small.shown(),
        "with_1_kib": large.shown(),
        "goal_cores": GOAL_CORES,
        "reached": median(&small.cores) < GOAL_CORES,
        "every_message_arrived_in_order": true,
    }))
}

/// 100 consumers: how soon they have what was acknowledged.
pub(crate) fn tail(options: &Options) -> anyhow::Result<Value> {
    let figures = measure(options, FEW, 100)?;
    Ok(json!({
        "consumers": FEW,
        "messages_per_second": MESSAGES_PER_SECOND,
        "with_100_bytes": figures.shown(),
        "goal_p99_ms": GOAL_P99_MS,
        "reached": median(&figures.p99_ms) <= GOAL_P99_MS,
        "every_message_arrived_in_order": true,
    }))
}

/// One figure a round.
#[derive(Debug, Default)]
struct Figures {
    cores: Vec<f64>,
    load_cores: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    max_ms: Vec<f64>,
    resident_mib: Vec<f64>,
}

impl Figures {
    fn shown(&self) -> Value {
        json!({
            "server_cpu_cores": spread(&self.cores),
            "load_program_cpu_cores": rounded(median(&self.load_cores)),
            "from_acknowledgement_to_receipt_ms": {
                "p50": spread(&self.p50_ms), "p99": spread(&self.p99_ms), "max": spread(&self.max_ms),
            },
            "resident_mib_at_most": spread(&self.resident_mib),
        })
    }
}

fn measure(options: &Options, consumers: usize, value_bytes: usize) -> anyhow::Result<Figures> {
    allow_open_files(consumers as u64 + 1_000);
    let mut figures = Figures::default();
    for round in 1..=options.rounds {
        let directory = options.directory()?;
        let server = Setup::in_directory(&directory.path().join("vault")).start();
        server.client().put("/streams/followed", &json!({})).expect(201);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = one_round(&server, consumers, value_bytes, options.duration(), &mut figures);
        LocalSet::new().block_on(&runtime, work)?;
        figures.resident_mib.push(crate::figures::mib(server.resident_bytes().1));
        let last = |all: &[f64]| all.last().copied().unwrap_or_default();
        progress(format_args!(
            "{consumers} consumers, {value_bytes} bytes, round {round}: {:.3} cores (this program {:.3}), p99 {:.2} ms",
            last(&figures.cores),
            last(&figures.load_cores),
            last(&figures.p99_ms)
        ));
    }
    Ok(figures)
}

/// What the tasks of a round share.
#[derive(Debug)]
struct Round {
    started: Instant,
    /// When each message was acknowledged.
    acknowledged: RefCell<Vec<Duration>>,
    /// How many messages there will be.
    wanted: u64,
    caught_up: Cell<usize>,
}

async fn one_round(
    server: &Server,
    consumers: usize,
    value_bytes: usize,
    duration: Duration,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let wanted = duration.as_secs() * MESSAGES_PER_SECOND;
    let round = Rc::new(Round {
        started: Instant::now(),
        acknowledged: RefCell::new(vec![Duration::MAX; usize::try_from(wanted)?]),
        wanted,
        caught_up: Cell::new(0),
    });
    let mut running = Vec::new();
    for _ in 0..consumers {
        let events = Events::open(server.address(), "followed", 0).await?;
        running.push(tokio::task::spawn_local(consume(Rc::clone(&round), events)));
    }
    while round.caught_up.get() < consumers {
        tokio::time::sleep(Duration::from_millis(10)).await;
        ensure!(running.iter().all(|consumer| !consumer.is_finished()), "a consumer ended");
    }
    let (before, began, ours) = (cpu(server.pid())?, Instant::now(), cpu(getpid())?);
    let mut producing = Vec::new();
    for producer in 0..PRODUCERS {
        let socket = TcpStream::connect(server.address()).await?;
        socket.set_nodelay(true)?;
        let work = produce(Rc::clone(&round), socket, producer, value_bytes, began);
        producing.push(tokio::task::spawn_local(work));
    }
    for producer in producing {
        producer.await??;
    }
    let (used, elapsed, our_use) = (cpu(server.pid())? - before, began.elapsed(), cpu(getpid())? - ours);
    figures.cores.push(used.as_secs_f64() / elapsed.as_secs_f64());
    figures.load_cores.push(our_use.as_secs_f64() / elapsed.as_secs_f64());
    let mut waited = Vec::new();
    for consumer in running {
        let arrived = tokio::time::timeout(LATE, consumer).await???;
        let acknowledged = round.acknowledged.borrow();
        // What arrives before the producer has its answer took no time.
        waited.extend(arrived.iter().zip(acknowledged.iter()).map(|(at, told)| at.saturating_sub(*told)));
    }
    ensure!(waited.len() as u64 == wanted * consumers as u64, "not everything arrived");
    let waited = latencies(waited);
    for (name, into) in
        [("p50_ms", &mut figures.p50_ms), ("p99_ms", &mut figures.p99_ms), ("max_ms", &mut figures.max_ms)]
    {
        into.push(waited[name].as_f64().unwrap_or(f64::NAN));
    }
    Ok(())
}

/// When each message arrived.
async fn consume(round: Rc<Round>, mut events: Events) -> anyhow::Result<Vec<Duration>> {
    let mut arrived = Vec::with_capacity(usize::try_from(round.wanted)?);
    events.receive(|_| {}).await?;
    round.caught_up.set(round.caught_up.get() + 1);
    while events.next() < round.wanted {
        events.receive(|_| arrived.push(round.started.elapsed())).await?;
    }
    Ok(arrived)
}

/// Sends every eighth message when its time has come.
async fn produce(
    round: Rc<Round>,
    socket: TcpStream,
    producer: u64,
    value_bytes: usize,
    began: Instant,
) -> anyhow::Result<()> {
    let request = post("/streams/followed/messages", "text/plain", "m".repeat(value_bytes).as_bytes());
    let mut answer = vec![0; 4 << 10];
    let mut number = producer;
    while number < round.wanted {
        let due = Duration::from_secs(number) / u32::try_from(MESSAGES_PER_SECOND)?;
        tokio::time::sleep_until((began + due).into()).await;
        socket.writable().await?;
        ensure!(socket.try_write(&request)? == request.len(), "a request goes out whole");
        let mut filled = 0;
        let offset = loop {
            socket.readable().await?;
            match socket.try_read(&mut answer[filled..]) {
                Ok(0) => anyhow::bail!("the server hung up"),
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            if let Some(offset) = first_offset(&answer[..filled])? {
                break offset;
            }
        };
        let told = round.started.elapsed();
        round.acknowledged.borrow_mut()[usize::try_from(offset)?] = told;
        number += PRODUCERS;
    }
    Ok(())
}

/// What an append was answered with, once the answer is whole.
fn first_offset(answer: &[u8]) -> anyhow::Result<Option<u64>> {
    let text = std::str::from_utf8(answer)?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    if !body.trim_end().ends_with('}') {
        return Ok(None);
    }
    ensure!(head.starts_with("HTTP/1.1 200"), "{text}");
    let body: Value = serde_json::from_str(body)?;
    Ok(body["first_offset"].as_u64())
}
