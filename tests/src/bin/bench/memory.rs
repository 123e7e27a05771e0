//! The most memory that the server held: many streams, many readers that wait, one that takes nothing, while producers
//! append.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use vault_tests::raw::allow_open_files;
use vault_tests::server::Setup;

use crate::connection::{Connection, get};
use crate::figures::{mib, rounded};
use crate::load::{self, Load, Until};
use crate::{Options, progress};

const STREAMS: usize = 100;
const READERS: usize = 1_000;
const PRODUCERS: usize = 8;
const GOAL_MIB: f64 = 300.0;

/// What the reader that takes nothing has coming.
const BACKLOG_BYTES: u64 = 256 << 20;

/// Readers do nothing but wait and count.
const READER_STACK_BYTES: usize = 128 << 10;

const BATCHES: &str = "application/vnd.messagevault.batches";

pub(crate) fn measure(options: &Options) -> anyhow::Result<Value> {
    allow_open_files(READERS as u64 + 1_000);
    let directory = options.directory()?;
    let server = Setup::in_directory(&directory.path().join("vault")).start();
    let address = server.address();
    let stream = |n: usize| format!("stream-{}", n % STREAMS);
    progress("memory: making streams");
    for n in 0..STREAMS {
        load::run(address, &stream(n), Load::Singles, 1, Until::Requests(1))?;
    }
    load::fill(address, "backlog", BACKLOG_BYTES)?;
    let mut stuck = Connection::open(address, 1)?;
    let everything = format!("/streams/backlog/messages?limit={0}&max_bytes={0}", u64::MAX);
    stuck.send(&get(&everything, BATCHES))?;

    progress("memory: readers wait, producers append");
    let done = AtomicBool::new(false);
    let (received, appended) = (AtomicU64::new(0), AtomicU64::new(0));
    let (done, received, appended) = (&done, &received, &appended);
    let outcome: anyhow::Result<()> = std::thread::scope(|scope| {
        let mut running = Vec::new();
        for n in 0..READERS {
            let thread = std::thread::Builder::new().stack_size(READER_STACK_BYTES);
            let name = stream(n);
            running.push(thread.spawn_scoped(scope, move || follow(address, &name, done, received))?);
        }
        for n in 0..PRODUCERS {
            running.push(scope.spawn(move || append_to_all(address, n, done, appended)));
        }
        std::thread::sleep(options.duration());
        done.store(true, Ordering::Relaxed);
        running.into_iter().try_for_each(|thread| thread.join().expect("a client does not panic"))
    });
    outcome?;
    let (now, most) = server.resident_bytes();
    drop(stuck);
    Ok(json!({
        "streams": STREAMS, "waiting_readers": READERS, "readers_that_take_nothing": 1,
        "appended_mib": rounded(mib(appended.load(Ordering::Relaxed))),
        "received_mib": rounded(mib(received.load(Ordering::Relaxed))),
        "resident_mib_at_the_end": rounded(mib(now)),
        "resident_mib_at_most": rounded(mib(most)),
        "goal_mib": GOAL_MIB,
        "reached": mib(most) < GOAL_MIB,
    }))
}

/// Waits at the end of a stream again and again.
fn follow(address: SocketAddr, stream: &str, done: &AtomicBool, received: &AtomicU64) -> anyhow::Result<()> {
    let mut connection = Connection::open(address, 16 << 10)?;
    let request = get(&format!("/streams/{stream}/messages?from=latest&wait=2"), BATCHES);
    while !done.load(Ordering::Relaxed) {
        let mut bytes = 0;
        connection.exchange(&request, |piece| bytes += piece.len() as u64)?;
        received.fetch_add(bytes, Ordering::Relaxed);
    }
    Ok(())
}

/// Appends to one stream after the other, each producer beginning elsewhere.
fn append_to_all(
    address: SocketAddr,
    producer: usize,
    done: &AtomicBool,
    appended: &AtomicU64,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(address, 4 << 10)?;
    let requests: Vec<Vec<u8>> = (0..STREAMS)
        .map(|n| {
            let stream = format!("stream-{}", (n + producer * STREAMS / PRODUCERS) % STREAMS);
            Load::Batches(100).request(&stream, producer as u64).0
        })
        .collect();
    for request in requests.iter().cycle() {
        if done.load(Ordering::Relaxed) {
            break;
        }
        connection.exchange(request, |_| {})?;
        appended.fetch_add(request.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}
