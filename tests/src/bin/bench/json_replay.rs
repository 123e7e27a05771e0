//! One consumer that reads a whole stream as JSON, page by page, beside the same stream as stored batches.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use vault_format::record::Message;
use vault_tests::process::cpu;
use vault_tests::server::Setup;

use crate::connection::{Connection, get, post};
use crate::figures::{gib, median, mib, rounded, spread};
use crate::{Options, progress};

/// Of values; it fits in the page cache of any machine.
const STREAM_BYTES: u64 = 512 << 20;

const VALUE_BYTES: usize = 1 << 10;

/// Of a request of the producer.
const MESSAGES: usize = 2_000;

const BUFFER_BYTES: usize = 256 << 10;

const GOAL_MIB_PER_SECOND: f64 = 150.0;

pub(crate) fn measure(options: &Options) -> anyhow::Result<Value> {
    let mut out = json!({ "message_bytes": VALUE_BYTES, "goal_mib_per_second": GOAL_MIB_PER_SECOND });
    let mut reached = true;
    // A document's quotes are escaped where it stands in a document.
    let letters = "abcdefghijklmnopqrstuvwxyz ".repeat(VALUE_BYTES).into_bytes();
    let document = "{\"order\":12345,\"name\":\"a b\",\"price\":1.5},".repeat(VALUE_BYTES).into_bytes();
    for (name, text) in [("text", letters), ("documents", document)] {
        let (figures, rate) = one(options, name, &text[..VALUE_BYTES])?;
        out[name] = figures;
        reached &= rate >= GOAL_MIB_PER_SECOND;
    }
    out["reached"] = reached.into();
    Ok(out)
}

fn one(options: &Options, name: &str, value: &[u8]) -> anyhow::Result<(Value, f64)> {
    let directory = options.directory()?;
    let server = Setup::in_directory(&directory.path().join("vault")).start();
    let address = server.address();
    progress(format_args!("json_replay: filling a stream with {name}"));
    let messages = fill(address, value)?;
    let bytes = messages * VALUE_BYTES as u64;
    let everything = format!("/streams/replay/messages?limit={0}&max_bytes={0}", u64::MAX);
    let everything = get(&everything, "application/vnd.messagevault.batches");
    let mut consumer = Connection::open(address, BUFFER_BYTES)?;
    // What is not measured warms the page cache.
    consumer.exchange(&everything, |_| {})?;
    let (mut rates, mut raw, mut ratios, mut cpu_per_gib) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let started = Instant::now();
        consumer.exchange(&everything, |_| {})?;
        raw.push(mib(bytes) / started.elapsed().as_secs_f64());
        let before = cpu(server.pid())?;
        let elapsed = pages(&mut consumer, "replay", messages)?;
        rates.push(mib(bytes) / elapsed.as_secs_f64());
        cpu_per_gib.push((cpu(server.pid())? - before).as_secs_f64() / gib(bytes));
        ratios.extend(rates.last().zip(raw.last()).map(|(rate, raw)| rate / raw));
        progress(format_args!(
            "json_replay of {name}, round {round}: {:?} MiB/s, raw {:?}",
            rates.last(),
            raw.last()
        ));
    }
    let rate = median(&rates);
    let figures = json!({
        "mib_per_second": spread(&rates),
        "server_cpu_seconds_per_gib": rounded(median(&cpu_per_gib)),
        "stored_batches_mib_per_second": spread(&raw),
        "ratio": spread(&ratios),
    });
    Ok((figures, rate))
}

/// Appends messages of this value: how many.
fn fill(address: SocketAddr, value: &[u8]) -> anyhow::Result<u64> {
    let mut body = Vec::new();
    for _ in 0..MESSAGES {
        Message { value, ..Message::default() }.encode(0, &mut body);
    }
    let request = post("/streams/replay/messages", "application/vnd.messagevault.records", &body);
    let requests = STREAM_BYTES / (MESSAGES * VALUE_BYTES) as u64;
    let mut connection = Connection::open(address, 4 << 10)?;
    for _ in 0..requests {
        connection.exchange(&request, |_| {})?;
    }
    Ok(requests * MESSAGES as u64)
}

/// Reads every page of a stream.
pub(crate) fn pages(connection: &mut Connection, stream: &str, messages: u64) -> anyhow::Result<Duration> {
    const NEXT: &str = "\"next_offset\":";
    let started = Instant::now();
    let mut next = 0;
    while next < messages {
        let target = format!("/streams/{stream}/messages?from={next}&limit=100000&max_bytes=16777216");
        let mut end = Vec::new();
        connection.exchange(&get(&target, "application/json"), |piece| {
            end.extend_from_slice(&piece[piece.len().saturating_sub(200)..]);
            end.drain(..end.len().saturating_sub(200));
        })?;
        let text = String::from_utf8_lossy(&end);
        let (_, rest) = text.rsplit_once(NEXT).context("a page says where to go on")?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let after: u64 = rest[..digits].parse()?;
        ensure!(after > next, "a page goes on");
        next = after;
    }
    ensure!(next == messages, "the stream has {next} messages, not {messages}");
    Ok(started.elapsed())
}
