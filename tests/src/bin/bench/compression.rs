//! The same JSON-like text appended to streams of each codec, and read again as JSON.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Map, Value, json};
use vault_format::codec::Codec;
use vault_format::record::Message;
use vault_tests::process::cpu;
use vault_tests::server::{Server, Setup};

use crate::connection::{Connection, post};
use crate::figures::{count, gib, median, mib, rounded, spread};
use crate::json_replay::pages;
use crate::load::xorshift;
use crate::{Options, progress};

/// Of values, in each round and for each codec.
const STREAM_BYTES: u64 = 256 << 20;

const PRODUCERS: u64 = 4;

/// Of a request.
const MESSAGES: usize = 400;

/// Different ones, of each producer: what repeats beyond a batch is not found by any codec.
const REQUESTS: u64 = 16;

/// What was measured for a codec, one figure a round.
#[derive(Default)]
struct Figures {
    appended: Vec<f64>,
    append_cpu: Vec<f64>,
    stored: Vec<f64>,
    replayed: Vec<f64>,
    replay_cpu: Vec<f64>,
}

pub(crate) fn measure(options: &Options) -> anyhow::Result<Value> {
    let directory = options.directory()?;
    let server = Setup::in_directory(&directory.path().join("vault")).start();
    let producers: Vec<_> = (1..=PRODUCERS).map(requests).collect();
    let mut figures = Codec::ALL.map(|codec| (codec, Figures::default()));
    for round in 1..=options.rounds {
        for (codec, figures) in &mut figures {
            one(&server, *codec, &producers, figures)?;
            progress(format_args!(
                "compression with {codec}, round {round}: appended {:.0} MiB/s, stored {:.3}, replayed {:.0} MiB/s",
                figures.appended.last().unwrap_or(&0.0),
                figures.stored.last().unwrap_or(&0.0),
                figures.replayed.last().unwrap_or(&0.0),
            ));
        }
    }
    let mut out = Map::new();
    out.insert("producers".to_owned(), json!(PRODUCERS));
    out.insert("messages_per_request".to_owned(), json!(MESSAGES));
    for (codec, figures) in &figures {
        let measured = json!({
            "appended_mib_per_second": spread(&figures.appended),
            "append_server_cpu_seconds_per_gib": rounded(median(&figures.append_cpu)),
            "stored_bytes_per_byte": spread(&figures.stored),
            "json_replay_mib_per_second": spread(&figures.replayed),
            "json_replay_server_cpu_seconds_per_gib": rounded(median(&figures.replay_cpu)),
        });
        out.insert(codec.to_string(), measured);
    }
    Ok(Value::Object(out))
}

/// The bodies of a producer's requests, and how many bytes of values each has.
fn requests(producer: u64) -> Vec<(Vec<u8>, u64)> {
    let mut random = producer;
    (0..REQUESTS)
        .map(|_| {
            let (mut body, mut bytes) = (Vec::new(), 0);
            for _ in 0..MESSAGES {
                let value = order(&mut random);
                Message { value: value.as_bytes(), ..Message::default() }.encode(0, &mut body);
                bytes += value.len() as u64;
            }
            (body, bytes)
        })
        .collect()
}

/// A document as many systems write them: names repeat, numbers and ids do not.
fn order(random: &mut u64) -> String {
    const CITIES: [&str; 7] = ["Zürich", "Berlin", "Paris", "Lima", "Oslo", "Kyoto", "Accra"];
    const CUSTOMERS: [&str; 6] = ["alice", "bob", "carla", "dietmar", "eve", "farouk"];
    let mut below = |limit: usize| {
        *random = xorshift(*random);
        usize::try_from(*random % limit as u64).unwrap_or_default()
    };
    let (city, customer) = (CITIES[below(CITIES.len())], CUSTOMERS[below(CUSTOMERS.len())]);
    let (id, low) = (below(1 << 40), below(1 << 32));
    format!(
        "{{\"order\":{},\"customer\":\"{customer}\",\"city\":\"{city}\",\"time\":\"2026-11-21T{:02}:{:02}:{:02}.{:03}Z\",\
         \"id\":\"{id:010x}{low:08x}\",\"items\":[{{\"sku\":\"A-{}\",\"price\":{}.{:02},\"count\":{}}}],\
         \"status\":\"paid\",\"note\":null}}",
        below(10_000_000),
        below(24),
        below(60),
        below(60),
        below(1_000),
        below(5_000),
        below(300),
        below(100),
        1 + below(9),
    )
}

fn one(
    server: &Server,
    codec: Codec,
    producers: &[Vec<(Vec<u8>, u64)>],
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let stream = format!("compression-{codec}");
    let path = format!("/streams/{stream}");
    let client = server.client();
    client.put(&path, &json!({ "codec": codec.name() })).expect(201);
    let before = cpu(server.pid())?;
    let (messages, bytes, elapsed) = append(server.address(), &stream, producers)?;
    figures.append_cpu.push((cpu(server.pid())? - before).as_secs_f64() / gib(bytes));
    figures.appended.push(mib(bytes) / elapsed.as_secs_f64());
    let stored = client.get(&path).expect(200).json()["bytes"].as_u64().context("a stream has a size")?;
    figures.stored.push(count(stored) / count(bytes));
    let before = cpu(server.pid())?;
    let mut consumer = Connection::open(server.address(), 256 << 10)?;
    let elapsed = pages(&mut consumer, &stream, messages)?;
    figures.replay_cpu.push((cpu(server.pid())? - before).as_secs_f64() / gib(bytes));
    figures.replayed.push(mib(bytes) / elapsed.as_secs_f64());
    client.delete(&path).expect(204);
    Ok(())
}

/// Appends until there is enough: how many messages, how many bytes of values, and how long it took.
fn append(
    address: SocketAddr,
    stream: &str,
    producers: &[Vec<(Vec<u8>, u64)>],
) -> anyhow::Result<(u64, u64, Duration)> {
    let target = format!("/streams/{stream}/messages");
    let started = Instant::now();
    let sent: anyhow::Result<Vec<(u64, u64)>> = std::thread::scope(|scope| {
        let running: Vec<_> = producers
            .iter()
            .map(|bodies| {
                scope.spawn(|| {
                    let mut connection = Connection::open(address, 4 << 10)?;
                    let encode = |(body, bytes): &(Vec<u8>, u64)| {
                        (post(&target, "application/vnd.messagevault.records", body), *bytes)
                    };
                    let requests: Vec<_> = bodies.iter().map(encode).collect();
                    let (mut messages, mut sent) = (0, 0);
                    for (request, bytes) in requests.iter().cycle() {
                        if sent >= STREAM_BYTES / PRODUCERS {
                            break;
                        }
                        connection.exchange(request, |_| {})?;
                        (messages, sent) = (messages + MESSAGES as u64, sent + bytes);
                    }
                    Ok((messages, sent))
                })
            })
            .collect();
        running.into_iter().map(|one| one.join().expect("no producer panics")).collect()
    });
    let elapsed = started.elapsed();
    let sent = sent?;
    Ok((sent.iter().map(|one| one.0).sum(), sent.iter().map(|one| one.1).sum(), elapsed))
}
