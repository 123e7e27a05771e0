//! One consumer that reads a whole stream and throws it away, beside nginx that serves as many bytes of a file.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::line;
use super::load::{Load, Outcome, Until};
use super::protocol::How;
use super::running::Running;
use super::watch::Watch;
use super::{Kind, Run, in_turn};
use crate::connection::{Connection, get};
use crate::figures::{gib, mib};
use crate::load::MESSAGE_BYTES;
use crate::nginx::Nginx;
use crate::progress;

const BUFFER_BYTES: usize = 256 << 10;

/// What fills a stream: batches as long as every system takes them.
const FILL_PRODUCERS: u16 = 4;
const FILL_MESSAGES: usize = 1_000;

pub(super) fn replay(run: &mut Run) -> anyhow::Result<()> {
    let systems = run.start(Kind::Replay)?;
    let bytes = run.options.replay_mib << 20;
    let stream = "replay";
    let mut filled = Vec::new();
    for running in &systems {
        let fill = || -> anyhow::Result<_> {
            running.create(stream)?;
            let mut outcome = fill(running, stream, bytes)?;
            outcome.check(running)?;
            Ok(outcome.messages)
        };
        filled.push((running, running.named("filling", fill)?));
    }
    let nginx = serve(run, bytes)?;
    run.settle()?;
    let mut connection = Connection::open(nginx.address, BUFFER_BYTES)?;
    for round in 0..=run.options.rounds {
        let mut read = 0;
        let started = Instant::now();
        connection.exchange(&get("/file", "*/*"), |piece| read += piece.len() as u64)?;
        let rate = mib(bytes) / started.elapsed().as_secs_f64();
        ensure!(read == bytes, "nginx sent {read} bytes, not {bytes}");
        // The first round warms up.
        if round > 0 {
            run.results.add("replay", "nginx", "mib_per_second", rate);
        }
        for (running, messages) in in_turn(&filled, round) {
            let what = format!("replay, round {round}");
            let reading = || {
                let turn = turn(running, stream, u64::from(round), *messages)?;
                ensure!(turn.messages == *messages, "{} messages came, not {messages}", turn.messages);
                Ok(turn)
            };
            let turn = running.named(&what, reading)?;
            progress(format_args!("{what}: {} {:.0} MiB/s", running.system.name(), turn.mib_per_second));
            if round > 0 {
                let system = running.system.name();
                let mut add = |figure, value| run.results.add("replay", system, figure, value);
                add("mib_per_second", turn.mib_per_second);
                add("cpu_seconds_per_gib", turn.cpu_seconds_per_gib);
                add("load_program_cores", turn.load_program_cores);
            }
        }
    }
    Ok(())
}

/// Fills a stream.
pub(super) fn fill(running: &Running, stream: &str, bytes: u64) -> anyhow::Result<Outcome> {
    let each = (FILL_MESSAGES * MESSAGE_BYTES) as u64 * u64::from(FILL_PRODUCERS);
    progress(format_args!("filling {} with {:.0} MiB", running.system.name(), mib(bytes)));
    let load = Load {
        producers: FILL_PRODUCERS,
        messages: FILL_MESSAGES,
        streams: vec![stream.to_owned()],
        pace: None,
        until: Until::Requests(bytes.div_ceil(each)),
    };
    load.run(running)
}

/// What reading a stream came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replayed {
    pub(super) messages: u64,
    pub(super) mib_per_second: f64,
    pub(super) cpu_seconds_per_gib: f64,
    pub(super) load_program_cores: f64,
}

/// Reads so many messages from the beginning, and the rest of the last one's batch.
pub(super) fn turn(running: &Running, stream: &str, number: u64, messages: u64) -> anyhow::Result<Replayed> {
    let mut consumer = running.read(stream, number + 1, How::Skim);
    let watch = Watch::begin(running.pid())?;
    let started = Instant::now();
    let messages = line::read(running.address, consumer.as_mut(), messages, &mut |_| Ok(()))?;
    let seconds = started.elapsed().as_secs_f64();
    let used = watch.end()?;
    let bytes = messages * MESSAGE_BYTES as u64;
    Ok(Replayed {
        messages,
        mib_per_second: mib(bytes) / seconds,
        cpu_seconds_per_gib: used.cpu.as_secs_f64() / gib(bytes),
        load_program_cores: used.own_cpu.as_secs_f64() / seconds,
    })
}

/// nginx with a file of so many bytes.
fn serve(run: &Run, bytes: u64) -> anyhow::Result<Nginx> {
    let directory = tempfile::Builder::new().prefix("nginx").tempdir_in(run.directory.path())?;
    let path = directory.path().join("file");
    let mut file = std::fs::File::create(&path)?;
    let piece: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
    for _ in 0..bytes >> 20 {
        file.write_all(&piece)?;
    }
    let nginx = Nginx::start(&path, directory)?;
    nginx.context(
        "nginx is missing: on Debian, run 'apt-get install nginx-light', or leave replay out with --loads",
    )
}
