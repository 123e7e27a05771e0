//! One consumer that reads a whole stream, beside nginx that serves the segment's file.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use vault_tests::process::cpu;
use vault_tests::segments::segments;
use vault_tests::server::Setup;

use crate::connection::{Connection, get};
use crate::figures::{gib, median, rounded, spread};
use crate::nginx::Nginx;
use crate::{Options, load, progress};

/// Fits in one segment, and in the page cache of any machine.
const STREAM_BYTES: u64 = 2 << 30;

const BUFFER_BYTES: usize = 256 << 10;

const GOAL_GIB_PER_SECOND: f64 = 1.0;
const GOAL_RATIO: f64 = 0.5;

pub(crate) fn measure(options: &Options) -> anyhow::Result<Value> {
    let directory = options.directory()?;
    let vault = directory.path().join("vault");
    let server = Setup::in_directory(&vault).start();
    progress("replay: filling a stream");
    load::fill(server.address(), "replay", STREAM_BYTES)?;

    let everything = format!("/streams/replay/messages?limit={0}&max_bytes={0}", u64::MAX);
    let everything = get(&everything, "application/vnd.messagevault.batches");
    let mut consumer = Connection::open(server.address(), BUFFER_BYTES)?;
    // What is not measured warms the page cache, and says how long the same bytes are as a file.
    let (bytes, _) = read(&mut consumer, &everything)?;
    ensure!(bytes >= STREAM_BYTES, "the stream has {bytes} bytes");
    let segments = segments(&vault, "replay");
    let segment = segments.first().context("the stream has no segment")?;
    let nginx = Nginx::start(&segment.path, options.directory()?)?;
    if nginx.is_none() {
        progress("replay: nginx is not installed, so there is no figure beside the server's");
    }
    let last = bytes - 1;
    let range =
        format!("GET /file HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-{last}\r\n\r\n").into_bytes();
    let mut peer = nginx.as_ref().map(|nginx| Connection::open(nginx.address, BUFFER_BYTES)).transpose()?;
    if let Some(peer) = &mut peer {
        read(peer, &range)?;
    }

    let (mut rates, mut peers, mut ratios, mut cpu_per_gib) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        if let Some(peer) = &mut peer {
            let (read, elapsed) = read(peer, &range)?;
            ensure!(read == bytes, "nginx sent {read} bytes, not {bytes}");
            peers.push(gib(bytes) / elapsed.as_secs_f64());
        }
        let before = cpu(server.pid())?;
        let (read, elapsed) = read(&mut consumer, &everything)?;
        ensure!(read == bytes, "the server sent {read} bytes, not {bytes}");
        let rate = gib(bytes) / elapsed.as_secs_f64();
        rates.push(rate);
        cpu_per_gib.push((cpu(server.pid())? - before).as_secs_f64() / gib(bytes));
        ratios.extend(peers.last().map(|peer| rate / peer));
        progress(format_args!("replay, round {round}: {rate:.2} GiB/s, nginx {:?}", peers.last()));
    }
    let reached = median(&rates) >= GOAL_GIB_PER_SECOND || median(&ratios) >= GOAL_RATIO;
    Ok(json!({
        "bytes": bytes,
        "gib_per_second": spread(&rates),
        "server_cpu_seconds_per_gib": rounded(median(&cpu_per_gib)),
        "nginx_gib_per_second": if peers.is_empty() { Value::Null } else { spread(&peers) },
        "ratio": if ratios.is_empty() { Value::Null } else { spread(&ratios) },
        "goal_gib_per_second": GOAL_GIB_PER_SECOND,
        "or_goal_ratio": GOAL_RATIO,
        "reached": reached,
    }))
}

fn read(connection: &mut Connection, request: &[u8]) -> anyhow::Result<(u64, Duration)> {
    let mut bytes = 0;
    let started = Instant::now();
    connection.exchange(request, |piece| bytes += piece.len() as u64)?;
    Ok((bytes, started.elapsed()))
}
