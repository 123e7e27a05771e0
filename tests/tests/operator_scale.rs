//! Many streams at one operator: how long until all are ready, and what it costs to keep them so.
#![expect(clippy::print_stdout, reason = "the figures are what one runs this for")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::ListParams;
use serde_json::json;
use vault_tests::azurite;
use vault_tests::kubernetes::Cluster;
use vault_tests::operator::{Field, STREAM, VAULT, condition};
use vault_tests::wait::until;

const STREAMS: usize = 500;

/// All of them at once, on a machine that others use as well.
const PATIENCE: Duration = Duration::from_secs(240);

/// How often each stream is looked at here, though nothing changes: much more often than every five minutes.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How many looks at each stream are awaited, so that none is left out: they come up to a fifth earlier or later.
const LOOKS: u32 = 3;

/// What an operator may ask of the API server when it has looked at everything once and nothing has changed: of a vault's
/// objects, and for pods a few times.
const REQUESTS_A_LOOK: usize = 60;

/// What it may ask of the storage account then: a listing tells of all streams at once.
const STORAGE_REQUESTS_A_LOOK: usize = 10;

const MAX_RESIDENT_BYTES: u64 = 120 << 20;

#[test]
fn five_hundred_streams_become_ready_and_cost_little() {
    let azurite = azurite::Setup::in_memory().start();
    let field = Field::with(Arc::new(Cluster::start()), Arc::new(azurite));
    let look_every = format!("--look-every={}s", LOOK_EVERY.as_secs());
    let mut field = field.flag("--log=info,kube_client=debug").flag(&look_every).start();
    field.apply(VAULT, "events", &field.vault(&field.prefix()));
    field.until_ready(VAULT, "events");
    let begun = Instant::now();
    for number in 0..STREAMS {
        field.apply(STREAM, &format!("stream-{number}"), &json!({"vaultRef": {"name": "events"}}));
    }
    let applied = begun.elapsed();
    let api = field.api(STREAM, &field.namespace);
    until("all streams are ready", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(200));
        let all = field.cluster.block_on(api.list(&ListParams::default())).ok()?;
        let ready = all.items.iter().filter(|stream| {
            let stream = serde_json::to_value(stream).unwrap_or_default();
            condition(&stream, "Ready")["status"] == "True"
        });
        (ready.count() == STREAMS).then_some(())
    });
    let ready = begun.elapsed();

    // What was on its way when the last one became ready comes to its end first.
    std::thread::sleep(LOOK_EVERY);
    let (before, looked) = (requests(&field), reconciles(&field));
    assert!(before.0 > STREAMS && before.1 > STREAMS, "requests are counted: {before:?}");
    std::thread::sleep(LOOK_EVERY * LOOKS);
    let (after, looked) = (requests(&field), reconciles(&field) - looked);
    assert!(looked >= 2 * STREAMS, "each stream was looked at: {looked}");
    let a_look = |before: usize, after: usize| (after - before) * STREAMS / looked;
    let (api_requests, storage_requests) = (a_look(before.0, after.0), a_look(before.1, after.1));
    let resident = field.resident_bytes();
    println!(
        "{STREAMS} streams: applied in {:.1} s, ready in {:.1} s; {} MiB resident; idle: {api_requests} requests to \
         the API server and {storage_requests} to storage for a look at all",
        applied.as_secs_f64(),
        ready.as_secs_f64(),
        resident >> 20
    );
    assert!(api_requests <= REQUESTS_A_LOOK, "{api_requests} requests to the API server");
    assert!(storage_requests <= STORAGE_REQUESTS_A_LOOK, "{storage_requests} requests to storage");
    assert!(resident <= MAX_RESIDENT_BYTES, "{resident} bytes resident");
}

/// How often the operator has looked at a stream.
fn reconciles(field: &Field) -> usize {
    let (_, metrics) = field.ask("/metrics").unwrap_or_else(|error| panic!("no metrics: {error}"));
    let looks = metrics
        .lines()
        .filter(|line| line.starts_with("messagevault_operator_reconciles_total{kind=\"VaultStream\""));
    looks.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

/// Requests to the API server, as the operator's log has them, and to storage, as it counts them.
fn requests(field: &Field) -> (usize, usize) {
    let (_, metrics) = field.ask("/metrics").unwrap_or_else(|error| panic!("no metrics: {error}"));
    let storage = metrics.lines().filter(|line| line.starts_with("messagevault_operator_storage_requests{"));
    let counts = storage.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
    (field.log().matches(": requesting").count(), counts.sum())
}
