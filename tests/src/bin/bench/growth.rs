//! What a stream's length costs: the same steps on a short stream and on a long one, the server restarted before each
//! so that its caches are empty, and the stream's pages dropped from the page cache. The requests to storage say what
//! Azure would be asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, ensure};
use rustix::fs::{Advice, fadvise, statvfs};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use vault_tests::segments::segments;
use vault_tests::server::{Server, Setup};

use crate::connection::{Connection, get};
use crate::figures::{count, median, rounded};
use crate::load::{self, Load, MESSAGE_BYTES, Until, xorshift};
use crate::{Options, progress};

const STREAM: &str = "growth";

/// How much more a step may take on the long stream.
const GOAL: f64 = 2.0;

/// Both streams, what surrounds messages, and some air.
const ROOM_BEYOND_GIB: u64 = 4;

/// Time and storage requests of every time a step was done.
type Steps = BTreeMap<&'static str, Vec<(f64, f64)>>;

struct Vault {
    server: Server,
    /// The times between which messages were appended, in ms since the Unix epoch, and how many there are.
    first_ms: u64,
    last_ms: u64,
    messages: u64,
    steps: Steps,
    root: PathBuf,
    _directory: TempDir,
}

pub(crate) fn measure(options: &Options) -> anyhow::Result<Value> {
    let probe = options.directory()?;
    let disk = statvfs(probe.path())?;
    let (free, needed) = ((disk.f_bavail * disk.f_frsize) >> 30, options.large_gib + ROOM_BEYOND_GIB);
    ensure!(free >= needed, "growth needs {needed} GiB of disk, {free} are free: see --dir and --large-gib");
    let mut small = Vault::filled(options, 1)?;
    let mut large = Vault::filled(options, options.large_gib)?;
    let mut random = 88_172_645_463_325_252;
    for round in 1..=options.restarts {
        for vault in [&mut small, &mut large] {
            random = xorshift(random);
            vault.measure(random)?;
        }
        progress(format_args!("growth: {round} of {} restarts on each stream", options.restarts));
    }
    let mut out = Map::new();
    let mut reached = true;
    for (step, on_small) in &small.steps {
        let on_large = large.steps.get(step).context("both streams were measured alike")?;
        let of = |measured: &[(f64, f64)], pick: fn(&(f64, f64)) -> f64| {
            median(&measured.iter().map(pick).collect::<Vec<_>>())
        };
        let ms = [of(on_small, |step| step.0), of(on_large, |step| step.0)];
        let requests = [of(on_small, |step| step.1), of(on_large, |step| step.1)];
        // A step that asks storage for nothing on either stream costs the same.
        let ratio = |pair: [f64; 2]| if pair[0] == pair[1] { 1.0 } else { pair[1] / pair[0] };
        reached &= ratio(ms) <= GOAL && ratio(requests) <= GOAL;
        out.insert(
            (*step).to_owned(),
            json!({
                "ms": { "at_1_gib": rounded(ms[0]), "at_large": rounded(ms[1]), "ratio": rounded(ratio(ms)) },
                "storage_requests": {
                    "at_1_gib": requests[0], "at_large": requests[1], "ratio": rounded(ratio(requests)),
                },
            }),
        );
    }
    Ok(json!({
        "large_gib": options.large_gib, "restarts": options.restarts, "medians": out, "goal_ratio": GOAL,
        "reached": reached,
    }))
}

impl Vault {
    fn filled(options: &Options, gib: u64) -> anyhow::Result<Self> {
        let directory = options.directory()?;
        let root = directory.path().join("vault");
        let mut server = Setup::in_directory(&root).start();
        progress(format_args!("growth: filling a stream with {gib} GiB"));
        load::fill(server.address(), STREAM, gib << 30)?;
        let about = server.client().get(&format!("/streams/{STREAM}")).expect(200).json();
        let number = |field: &str| about[field].as_u64().with_context(|| format!("no {field} in {about}"));
        let (messages, last_ms) = (number("next_offset")?, number("last_timestamp")?);
        ensure!(messages >= (gib << 30) / MESSAGE_BYTES as u64, "the stream has {messages} messages");
        let first = server.client().get(&format!("/streams/{STREAM}/messages?limit=1")).expect(200).json();
        let first_ms = first["messages"][0]["timestamp"].as_u64().context("no timestamp")?;
        server.stop_in_order();
        Ok(Self { server, first_ms, last_ms, messages, steps: Steps::new(), root, _directory: directory })
    }

    fn measure(&mut self, random: u64) -> anyhow::Result<()> {
        let (append, _) = Load::Singles.request(STREAM, 0);
        let read = |place: String| {
            let target = format!("/streams/{STREAM}/messages?{place}&limit=1&max_bytes=1");
            get(&target, "application/vnd.messagevault.batches")
        };
        let by_offset = read(format!("from={}", random % self.messages));
        let by_time = read(format!("since={}", self.first_ms + random % (self.last_ms - self.first_ms + 1)));

        // A server opens its streams by itself as soon as it leads, so that this is all that a start takes.
        self.forget_pages()?;
        let started = Instant::now();
        self.server.restart();
        self.exchange(&append)?;
        let elapsed = started.elapsed().as_secs_f64() * 1e3;
        let requests = count(self.storage_requests()?);
        self.steps.entry("start_to_first_append").or_default().push((elapsed, requests));
        self.step("append", &append)?;
        self.step("seek_to_offset", &by_offset)?;
        self.server.stop_in_order();

        self.forget_pages()?;
        self.server.restart();
        load::run(self.server.address(), STREAM, Load::Singles, 1, Until::Requests(1))?;
        self.step("seek_to_time", &by_time)?;
        self.server.stop_in_order();
        Ok(())
    }

    /// Drops what the page cache holds of the stream. Otherwise the stream that was filled last would be read from
    /// memory and the other one from the disk.
    fn forget_pages(&self) -> anyhow::Result<()> {
        for segment in segments(&self.root, STREAM) {
            fadvise(File::open(segment.path)?, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &'static str, request: &[u8]) -> anyhow::Result<()> {
        let before = self.storage_requests()?;
        let elapsed = self.exchange(request)?;
        let requests = self.storage_requests()? - before;
        self.steps.entry(step).or_default().push((elapsed, count(requests)));
        Ok(())
    }

    /// How long an answer takes, in ms, on a connection that is open already.
    fn exchange(&self, request: &[u8]) -> anyhow::Result<f64> {
        let mut connection = Connection::open(self.server.address(), 64 << 10)?;
        let started = Instant::now();
        connection.exchange(request, |_| {})?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    }

    fn storage_requests(&self) -> anyhow::Result<u64> {
        let status = self.server.client().get("/status").expect(200).json();
        let counts = status["storage_requests"].as_object().context("no storage_requests")?;
        Ok(counts.values().filter_map(Value::as_u64).sum())
    }
}
