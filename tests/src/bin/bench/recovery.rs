//! A vault of a thousand streams on Azurite: how soon a new leader takes the first append of a stream, whichever it is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use vault_tests::azurite::{self, Azurite};
use vault_tests::client::Client;
use vault_tests::replicas::{Replicas, free_port, on_azurite, status};
use vault_tests::wait::until;

use crate::figures::{ms, rounded, spread};
use crate::{Options, progress};

const PREFIX: &str = "many-";

/// As many as a vault may have.
const STREAMS: usize = 1_000;

/// How many streams are appended to at once as soon as somebody leads.
const FIRST_APPENDS: usize = 16;

/// How many requests make the streams at once.
const MAKERS: usize = 8;

/// From the end of which nobody led to the first append of every one of these streams.
const GOAL: Duration = Duration::from_secs(2);

fn name(stream: usize) -> String {
    format!("stream-{stream:04}")
}

/// Appends one message to each of these streams, of all that there are every so many; how long each took.
fn first_appends(address: SocketAddr, round: usize) -> anyhow::Result<Vec<Duration>> {
    let streams = (0..FIRST_APPENDS).map(|n| (n * STREAMS / FIRST_APPENDS + round * 7) % STREAMS);
    std::thread::scope(|scope| {
        let appends: Vec<_> = streams
            .map(|stream| {
                scope.spawn(move || -> anyhow::Result<Duration> {
                    let (client, begun) = (Client::new(address), Instant::now());
                    client.append_text(&name(stream), "first");
                    Ok(begun.elapsed())
                })
            })
            .collect();
        appends.into_iter().map(|append| append.join().expect("an append does not panic")).collect()
    })
}

fn make_streams(azurite: &Azurite) -> anyhow::Result<()> {
    let mut server = on_azurite(azurite, PREFIX, free_port()).start();
    let address = server.address();
    let made = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..MAKERS)
            .map(|maker| {
                scope.spawn(move || {
                    let client = Client::new(address);
                    for stream in (maker..STREAMS).step_by(MAKERS) {
                        client.append_text(&name(stream), "a message that was there before");
                    }
                })
            })
            .collect();
        makers.into_iter().try_for_each(|maker| maker.join().map_err(|_| ()))
    });
    // Who comes next finds the lease free.
    server.stop_in_order();
    made.ok().context("not every stream could be made")
}

pub(crate) fn measure(options: &Options) -> anyhow::Result<Value> {
    let azurite = azurite::Setup::in_memory().start();
    progress(format!("recovery: making {STREAMS} streams"));
    make_streams(&azurite)?;
    let (mut starts, mut first, mut failovers) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..usize::try_from(options.rounds)? {
        progress(format!("recovery: round {}", round + 1));
        let begun = Instant::now();
        let mut server = on_azurite(&azurite, PREFIX, free_port()).start();
        let leads = || status(server.address()).filter(|status| status["role"] == "leader").map(|_| ());
        until("the server leads", Duration::from_secs(30), leads);
        starts.push(begun.elapsed());
        first.extend(first_appends(server.address(), round)?);
        server.stop_in_order();
    }
    let mut replicas = Replicas::start([0, 1].map(|_| on_azurite(&azurite, PREFIX, free_port())));
    for round in 0..usize::try_from(options.rounds)? {
        progress(format!("recovery: failover {}", round + 1));
        let (leader, survivor) = replicas.settled();
        replicas.server_mut(leader).kill();
        let begun = Instant::now();
        replicas.until_leads(survivor, Duration::from_secs(30));
        failovers.push(begun.elapsed().as_secs_f64());
        first.extend(first_appends(replicas.addresses()[survivor], round)?);
        replicas.server_mut(leader).restart();
    }
    let longest = first.iter().max().copied().unwrap_or_default();
    ensure!(!first.is_empty(), "nothing was appended");
    let starts: Vec<_> = starts.into_iter().map(|start| start.as_secs_f64()).collect();
    Ok(json!({
        "streams": STREAMS,
        "start_to_lead_seconds": spread(&starts),
        "kill_to_lead_seconds": spread(&failovers),
        "first_appends": first.len(),
        "first_append_ms": crate::figures::latencies(first),
        "goal_ms": ms(GOAL),
        "within_goal": longest < GOAL,
        "longest_seconds": rounded(longest.as_secs_f64()),
    }))
}
