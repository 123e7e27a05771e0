//! The server on Azurite, beside bare Put Pages on the same Azurite; and what it asks of storage.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};
use vault_format::limits::BLOCK_BYTES;
use vault_tests::azurite::{self, ACCOUNT, Azurite};
use vault_tests::server::{Server, Setup};
use vault_tests::shared_access::account_sas;

use crate::connection::Connection;
use crate::figures::{count, latencies, median, mib, rounded, spread};
use crate::load::{self, Load, MESSAGE_BYTES, Until};
use crate::{Options, progress};

/// What of the bare Put Pages' bytes a second the server must reach.
const GOAL: f64 = 0.9;

/// As many as the server has in flight at most.
const PUTS_IN_FLIGHT: usize = 4;

const PRODUCERS: u64 = 16;

/// So many messages a request that the requests under way fill all puts in flight.
const MESSAGES_PER_REQUEST: usize = 800;

const STREAM: &str = "measured";

/// Whoever idles for this long is asked for everything that recurs, listings excepted.
const IDLE: Duration = Duration::from_secs(30);

fn server(azurite: &Azurite) -> Server {
    Setup::bare()
        .with([
            "--listen",
            "127.0.0.1:0",
            "--log-format",
            "human",
            "--storage",
            "azure:",
            "--auto-create",
            "true",
        ])
        .environment("AZURE_STORAGE_CONNECTION_STRING", &azurite.connection_string())
        .start()
}

/// The bytes a second that bare Put Pages of 4 MiB reach.
struct Bare {
    address: SocketAddr,
    /// The path of the blob and its signature.
    target: String,
}

impl Bare {
    /// A container with one page blob.
    fn new(azurite: &Azurite, name: &str) -> anyhow::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], azurite.port()));
        let sas = account_sas(ACCOUNT, "2100-01-01T00:00:00Z", "rwdlac");
        let container = format!("/{}/{name}", ACCOUNT.0);
        let bare = Self { address, target: format!("{container}/blob?{sas}") };
        let mut connection = Connection::open(address, 64 << 10)?;
        connection.exchange(&request(&format!("{container}?restype=container&{sas}"), "", &[]), |_| {})?;
        let blob = "x-ms-blob-type: PageBlob\r\nx-ms-blob-content-length: 8589934592\r\n";
        connection.exchange(&request(&bare.target, blob, &[]), |_| {})?;
        Ok(bare)
    }

    fn mib_per_second(&self, duration: Duration) -> anyhow::Result<f64> {
        let next = AtomicU64::new(0);
        let written = AtomicU64::new(0);
        let pages: Vec<u8> = (0..=u8::MAX).cycle().take(usize::try_from(BLOCK_BYTES)?).collect();
        let started = Instant::now();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..PUTS_IN_FLIGHT)
                .map(|_| {
                    scope.spawn(|| -> anyhow::Result<()> {
                        let mut connection = Connection::open(self.address, 64 << 10)?;
                        while started.elapsed() < duration {
                            let at = next.fetch_add(BLOCK_BYTES, Ordering::Relaxed);
                            let headers = format!(
                                "x-ms-page-write: update\r\nx-ms-range: bytes={at}-{}\r\n",
                                at + BLOCK_BYTES - 1
                            );
                            let target = format!("{}&comp=page", self.target);
                            connection.exchange(&request(&target, &headers, &pages), |_| {})?;
                            written.fetch_add(BLOCK_BYTES, Ordering::Relaxed);
                        }
                        Ok(())
                    })
                })
                .collect();
            writers.into_iter().try_for_each(|writer| writer.join().expect("no writer panics"))
        })?;
        Ok(mib(written.load(Ordering::Relaxed)) / started.elapsed().as_secs_f64())
    }
}

fn request(target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "PUT {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nx-ms-version: 2022-11-02\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The MiB a second that bare Put Pages of 4 MiB reach, four in flight, on an Azurite of their own: it gets slower with
/// what it holds.
pub(crate) fn bare_mib_per_second(duration: Duration) -> anyhow::Result<f64> {
    let azurite = azurite::Setup::in_memory().start();
    Bare::new(&azurite, "bare")?.mib_per_second(duration)
}

/// Large requests, beside bare Put Pages.
pub(crate) fn append(options: &Options) -> anyhow::Result<Value> {
    let load = Load::Batches(MESSAGES_PER_REQUEST);
    let (mut rates, mut peers, mut ratios, mut waited) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let peer = bare_mib_per_second(options.duration())?;
        let azurite = azurite::Setup::in_memory().start();
        let server = server(&azurite);
        load::run(server.address(), STREAM, load, 1, Until::Requests(1))?;
        let duration = Until::Elapsed(options.duration());
        let outcome = load::run(server.address(), STREAM, load, PRODUCERS, duration)?;
        load::check(server.address(), STREAM, load, &outcome, load.messages() as u64)?;
        let bytes = outcome.requests() * (load.messages() * MESSAGE_BYTES) as u64;
        let rate = mib(bytes) / outcome.elapsed.as_secs_f64();
        progress(format_args!(
            "azure_append, round {round}: {rate:.1} MiB/s, bare {peer:.1}, ratio {:.3}",
            rate / peer
        ));
        rates.push(rate);
        peers.push(peer);
        ratios.push(rate / peer);
        waited.extend(outcome.latencies);
    }
    Ok(json!({
        "storage": "Azurite in memory, on the same machine",
        "producers": PRODUCERS,
        "messages_per_request": MESSAGES_PER_REQUEST,
        "message_bytes": MESSAGE_BYTES,
        "mib_per_second": spread(&rates),
        "latency": latencies(waited),
        "bare_put_pages_mib_per_second": spread(&peers),
        "bare_put_pages_in_flight": PUTS_IN_FLIGHT,
        "ratio": spread(&ratios),
        "goal": GOAL,
        "reached": median(&ratios) >= GOAL,
        "acknowledged_and_found": true,
    }))
}

/// Requests to storage by operation.
fn counted(server: &Server) -> anyhow::Result<Map<String, Value>> {
    let status = server.client().get("/status").expect(200).json();
    status["storage_requests"].as_object().cloned().context("counts")
}

fn since(before: &Map<String, Value>, after: &Map<String, Value>) -> Map<String, Value> {
    let difference = |name: &str| {
        let of = |counts: &Map<String, Value>| counts.get(name).and_then(Value::as_u64).unwrap_or(0);
        of(after).saturating_sub(of(before))
    };
    after.keys().map(|name| (name.clone(), json!(difference(name)))).filter(|(_, n)| *n != json!(0)).collect()
}

/// Storage requests for each 1,000 messages at several rates, and what is asked when nobody does anything.
pub(crate) fn requests(options: &Options) -> anyhow::Result<Value> {
    let azurite = azurite::Setup::in_memory().start();
    let leader = server(&azurite);
    let mut rows = Vec::new();
    for (per_second, messages) in [(1, 1), (100, 1), (10_000, 10)] {
        let load = if messages == 1 { Load::Singles } else { Load::Batches(messages) };
        let stream = format!("at-{per_second}");
        load::run(leader.address(), &stream, load, 1, Until::Requests(1))?;
        std::thread::sleep(Duration::from_secs(2));
        let before = counted(&leader)?;
        // At one a second it takes a while until there are enough to count.
        let duration = options.duration().max(Duration::from_secs(10));
        let sent = paced(leader.address(), &stream, load, per_second / messages as u64, duration)?;
        std::thread::sleep(Duration::from_secs(2));
        let requests = since(&before, &counted(&leader)?);
        let of = |name: &str| requests.get(name).and_then(Value::as_u64).unwrap_or(0);
        let all: u64 = requests.values().filter_map(Value::as_u64).sum();
        // The leader's beats, its lease, and the look for streams that recurs.
        let election = of("rewrite_page") + of("renew_lease") + of("list_containers");
        let messages = sent * messages as u64;
        let per_thousand = |n: u64| rounded(count(n) * 1e3 / count(messages));
        progress(format_args!(
            "azure_requests: {per_second} messages/s: {} puts and {} other requests per 1,000 messages",
            per_thousand(of("put_pages")),
            per_thousand(all - election - of("put_pages"))
        ));
        rows.push(json!({
            "messages_per_second": per_second,
            "messages": messages,
            "put_pages_per_1000_messages": per_thousand(of("put_pages")),
            "other_requests_per_1000_messages": per_thousand(all - election - of("put_pages")),
            "requests": requests,
        }));
    }
    let follower = server(&azurite);
    std::thread::sleep(Duration::from_secs(3));
    let before = (counted(&leader)?, counted(&follower)?);
    std::thread::sleep(IDLE);
    let after = (counted(&leader)?, counted(&follower)?);
    let idle = json!({
        "seconds": IDLE.as_secs(),
        "leader": since(&before.0, &after.0),
        "follower": since(&before.1, &after.1),
    });
    progress(format_args!("azure_requests: idle: {idle}"));
    Ok(json!({ "rates": rows, "idle": idle }))
}

/// Sends requests at an even rate, each when its time has come however long others take; answers how many.
fn paced(
    address: SocketAddr,
    stream: &str,
    load: Load,
    per_second: u64,
    duration: Duration,
) -> anyhow::Result<u64> {
    let wanted = per_second * duration.as_secs();
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let next = Arc::clone(&next);
                scope.spawn(move || -> anyhow::Result<()> {
                    let (request, _) = load.request(stream, producer);
                    let mut connection = Connection::open(address, 64 << 10)?;
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= wanted {
                            return Ok(());
                        }
                        let due = Duration::from_secs_f64(count(number) / count(per_second));
                        std::thread::sleep(due.saturating_sub(started.elapsed()));
                        connection.exchange(&request, |_| {})?;
                    }
                })
            })
            .collect();
        senders.into_iter().try_for_each(|sender| sender.join().expect("no sender panics"))
    })?;
    let took = started.elapsed();
    ensure!(
        took < duration * 3 / 2,
        "{per_second} requests a second are too many here: {wanted} took {took:?}"
    );
    Ok(wanted)
}
