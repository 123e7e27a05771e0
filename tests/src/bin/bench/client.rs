//! The client library: one producer beside many bare connections, one reader beside the bare bytes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use vault_client::{Client, Message};
use vault_tests::process::cpu;
use vault_tests::server::Setup;

use crate::connection::{Connection, get};
use crate::figures::{count, gib, median, mib, rounded, spread};
use crate::load::{self, Load, MESSAGE_BYTES, Until};
use crate::{Options, progress};

/// Fits in one segment, and in the page cache of any machine.
const STREAM_BYTES: u64 = 2 << 30;

const CONNECTIONS: u64 = 16;

/// What of the bare connections' rate one producer must reach.
const PRODUCER_GOAL: f64 = 0.9;

const READER_GOAL_MIB_PER_SECOND: f64 = 700.0;

const BATCHES: &str = "application/vnd.messagevault.batches";

/// One idempotent producer of messages of 1 KiB, beside 16 connections that send 100 of them a request.
pub(crate) fn producer(options: &Options) -> anyhow::Result<Value> {
    let directory = options.directory()?;
    let server = Setup::in_directory(&directory.path().join("vault")).start();
    let runtime = Runtime::new()?;
    let (mut rates, mut peers, mut ratios, mut cpu_per_gib) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let duration = Until::Elapsed(options.duration());
        let bare = format!("bare-{round}");
        load::run(server.address(), &bare, Load::Batches(100), 1, Until::Requests(1))?;
        let outcome = load::run(server.address(), &bare, Load::Batches(100), CONNECTIONS, duration)?;
        let peer = mib(outcome.requests() * (100 * MESSAGE_BYTES) as u64) / outcome.elapsed.as_secs_f64();
        server.client().delete(&format!("/streams/{bare}")).expect(204);

        let stream = format!("round-{round}");
        let before = cpu(server.pid())?;
        let (messages, elapsed) = runtime.block_on(produce(server.address(), &stream, options.duration()))?;
        let used = cpu(server.pid())? - before;
        ensure!(runtime.block_on(read(server.address(), &stream))? == messages, "not all is there");
        server.client().delete(&format!("/streams/{stream}")).expect(204);

        let bytes = messages * MESSAGE_BYTES as u64;
        let rate = mib(bytes) / elapsed.as_secs_f64();
        progress(format_args!("client_producer, round {round}: {rate:.0} MiB/s, bare {peer:.0}"));
        rates.push(rate);
        peers.push(peer);
        ratios.push(rate / peer);
        cpu_per_gib.push(used.as_secs_f64() / gib(bytes));
    }
    Ok(json!({
        "message_bytes": MESSAGE_BYTES,
        "mib_per_second": spread(&rates),
        "server_cpu_seconds_per_gib": rounded(median(&cpu_per_gib)),
        "bare_connections": CONNECTIONS,
        "bare_mib_per_second": spread(&peers),
        "ratio": spread(&ratios),
        "goal": PRODUCER_GOAL,
        "reached": median(&ratios) >= PRODUCER_GOAL,
        "acknowledged_and_found": true,
    }))
}

/// Sends for so long, and waits until everything is acknowledged. How many messages, and how long it took.
async fn produce(address: SocketAddr, stream: &str, time: Duration) -> anyhow::Result<(u64, Duration)> {
    let client = Client::connect(&format!("http://{address}"))?;
    let producer = client.producer(stream).start()?;
    // The first append makes the stream, which is not what is measured.
    producer.send(value(0)).await?.await?;
    let started = Instant::now();
    let mut sent = 1;
    while started.elapsed() < time {
        for _ in 0..100 {
            drop(producer.send(value(sent)).await?);
            sent += 1;
        }
    }
    let report = producer.close().await;
    ensure!(report.failure.is_none() && report.acknowledged == sent, "{sent} were sent: {report:?}");
    Ok((sent, started.elapsed()))
}

/// A message that begins with its number.
fn value(number: u64) -> Message {
    let mut value = BytesMut::zeroed(MESSAGE_BYTES);
    value[..8].copy_from_slice(&number.to_le_bytes());
    Message::new(value.freeze())
}

/// Reads a stream of numbered messages, and checks that they come in order.
async fn read(address: SocketAddr, stream: &str) -> anyhow::Result<u64> {
    let client = Client::connect(&format!("http://{address}"))?;
    let mut reader = client.reader(stream).start();
    let mut next: u64 = 0;
    while let Some(message) = reader.try_next().await? {
        ensure!(message.value()[..8] == next.to_le_bytes(), "another message stands at {next}");
        next += 1;
    }
    Ok(next)
}

/// One reader that takes every message out, beside the same stored batches as bytes that nobody looks at.
pub(crate) fn reader(options: &Options) -> anyhow::Result<Value> {
    let directory = options.directory()?;
    let server = Setup::in_directory(&directory.path().join("vault")).start();
    let address = server.address();
    progress("client_reader: filling a stream");
    load::fill(address, "replay", STREAM_BYTES)?;
    let everything = format!("/streams/replay/messages?limit={0}&max_bytes={0}", u64::MAX);
    let everything = get(&everything, BATCHES);
    let mut bare = Connection::open(address, 256 << 10)?;
    // What is not measured warms the page cache.
    bare.exchange(&everything, |_| {})?;
    let runtime = Runtime::new()?;
    let (mut rates, mut peers, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let started = Instant::now();
        let mut bytes = 0;
        bare.exchange(&everything, |piece| bytes += piece.len() as u64)?;
        let peer = mib(bytes) / started.elapsed().as_secs_f64();

        let started = Instant::now();
        let messages = runtime.block_on(take_all(address))?;
        let rate = mib(messages * MESSAGE_BYTES as u64) / started.elapsed().as_secs_f64();
        ensure!(messages * MESSAGE_BYTES as u64 >= STREAM_BYTES, "{messages} messages came out");
        progress(format_args!("client_reader, round {round}: {rate:.0} MiB/s, bare {peer:.0}"));
        rates.push(rate);
        peers.push(peer);
        ratios.push(rate / peer);
    }
    Ok(json!({
        "message_bytes": MESSAGE_BYTES,
        "messages_per_second": rounded(median(&rates) * f64::from(1 << 20) / count(MESSAGE_BYTES as u64)),
        "mib_per_second": spread(&rates),
        "bare_mib_per_second": spread(&peers),
        "ratio": spread(&ratios),
        "goal_mib_per_second": READER_GOAL_MIB_PER_SECOND,
        "reached": median(&rates) >= READER_GOAL_MIB_PER_SECOND,
    }))
}

/// Takes every message of the stream out: how many there are.
async fn take_all(address: SocketAddr) -> anyhow::Result<u64> {
    let client = Client::connect(&format!("http://{address}"))?;
    let mut reader = client.reader("replay").start();
    let (mut messages, mut last) = (0, Bytes::new());
    while let Some(message) = reader.try_next().await? {
        ensure!(message.offset().0 == messages, "offset {messages} is missing");
        messages += 1;
        last = message.value_bytes();
    }
    ensure!(last.len() == MESSAGE_BYTES, "the last message has {} bytes", last.len());
    Ok(messages)
}
