//! Producers in a closed loop, beside the bare disk in the same directory.

use serde_json::{Value, json};
use vault_tests::process::cpu;
use vault_tests::server::Setup;

use crate::figures::{count, gib, latencies, median, mib, rounded, spread};
use crate::load::{self, Load, MESSAGE_BYTES, Until};
use crate::{Options, disk, progress};

const PRODUCERS: u64 = 16;

/// What of the disk's bytes a second the server must reach with large requests.
const BATCHES_GOAL: f64 = 0.25;

/// What of the disk's synced writes a second the server must reach with single messages.
const SINGLES_GOAL: f64 = 0.75;

/// 100 messages of 1 KiB a request.
pub(crate) fn batches(options: &Options) -> anyhow::Result<Value> {
    measure(options, Load::Batches(100))
}

/// One message of 1 KiB a request.
pub(crate) fn singles(options: &Options) -> anyhow::Result<Value> {
    measure(options, Load::Singles)
}

fn measure(options: &Options, load: Load) -> anyhow::Result<Value> {
    let directory = options.directory()?;
    let server = Setup::in_directory(&directory.path().join("vault")).start();
    let (mut rates, mut peers, mut ratios, mut cpu_per_gib) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut waited = Vec::new();
    for round in 1..=options.rounds {
        let peer = match load {
            Load::Batches(_) => disk::large_mib(directory.path(), options.duration())?,
            Load::Singles => disk::small_writes(directory.path(), options.duration())?,
        };
        let stream = format!("round-{round}");
        // The first append makes the stream, which is not what is measured.
        load::run(server.address(), &stream, load, 1, Until::Requests(1))?;
        let before = cpu(server.pid())?;
        let duration = Until::Elapsed(options.duration());
        let outcome = load::run(server.address(), &stream, load, PRODUCERS, duration)?;
        let used = cpu(server.pid())? - before;
        load::check(server.address(), &stream, load, &outcome, load.messages() as u64)?;
        server.client().delete(&format!("/streams/{stream}")).expect(204);

        let messages = outcome.requests() * load.messages() as u64;
        let rate = count(messages) / outcome.elapsed.as_secs_f64();
        let comparable = match load {
            Load::Batches(_) => mib(messages * MESSAGE_BYTES as u64) / outcome.elapsed.as_secs_f64(),
            Load::Singles => rate,
        };
        let ratio = comparable / peer;
        progress(format_args!(
            "{load:?}, round {round}: {comparable:.0}, the disk {peer:.0}, ratio {ratio:.3}"
        ));
        rates.push(rate);
        peers.push(peer);
        ratios.push(ratio);
        cpu_per_gib.push(used.as_secs_f64() / gib(messages * MESSAGE_BYTES as u64));
        waited.extend(outcome.latencies);
    }
    let (peer_name, goal) = match load {
        Load::Batches(_) => ("disk_mib_per_second_in_4_mib", BATCHES_GOAL),
        Load::Singles => ("disk_writes_per_second_of_4_kib", SINGLES_GOAL),
    };
    let mib_rates: Vec<f64> =
        rates.iter().map(|rate| rate * MESSAGE_BYTES as f64 / f64::from(1 << 20)).collect();
    Ok(json!({
        "producers": PRODUCERS,
        "messages_per_request": load.messages(),
        "message_bytes": MESSAGE_BYTES,
        "messages_per_second": spread(&rates),
        "mib_per_second": spread(&mib_rates),
        "latency": latencies(waited),
        "server_cpu_seconds_per_gib": rounded(median(&cpu_per_gib)),
        peer_name: spread(&peers),
        "ratio": spread(&ratios),
        "goal": goal,
        "reached": median(&ratios) >= goal,
        "acknowledged_and_found": true,
    }))
}
