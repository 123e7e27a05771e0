//! `mvctl bench`: how fast a vault is, and whether what comes out is what went in.
//!
//! ```text
//!   append   producers, each with one batch on its way      |
//!   tail     readers that follow meanwhile                  |  at the same time
//!   replay   readers that read all of it from the start        afterwards
//! ```
//!
//! | module | subject |
//! |---|---|
//! | `body` | what stands in a message |
//! | `work` | who appends, who reads, and what they hold against each other |
//! | `figures` | what was measured |

mod body;
mod figures;
mod work;

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use vault_client::{Client, Settings};

use self::figures::{Figures, Measured};
use self::work::{Course, follow, produce, replay};
use crate::cli::Context;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::{progress, units};

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Producers that append at the same time, each one batch after the other.
    #[arg(long, value_name = "NUMBER", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    producers: u32,

    /// Messages of a batch, which is one request where it has at most 3 MiB.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,

    /// Bytes of a message, 20 to 1MiB.
    #[arg(long, value_name = "SIZE", default_value = "1024", value_parser = message_size)]
    size: usize,

    /// How long messages are appended.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,

    /// Readers that follow while messages are appended, and that read all of it afterwards.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    readers: u32,

    /// What the name of the stream begins with, which is created for this.
    #[arg(long, value_name = "PREFIX", default_value = "bench")]
    stream: String,

    /// Keep the stream; it is deleted at the end otherwise.
    #[arg(long)]
    keep: bool,

    /// One JSON object.
    #[arg(long)]
    json: bool,
}

fn message_size(text: &str) -> Result<usize, String> {
    let range = body::HEAD_BYTES..=1 << 20;
    let size = units::memory_size(text)?;
    range.contains(&size).then_some(size).ok_or_else(|| format!("give {} bytes to 1MiB", body::HEAD_BYTES))
}

/// What was measured of the three phases.
struct Phases {
    append: Figures,
    tail: Figures,
    replay: Figures,
}

/// Measures.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.patient_client()?.build()?;
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let stream = format!("{}-{:08x}", arguments.stream, u32::from_le_bytes(random));
    client.create_stream(&stream, &Settings::default()).await.map_err(Failure::of_change)?;
    let measured = tokio::select! {
        measured = measure(context, &client, &stream, &arguments) => measured,
        () = context.interrupt.wait() => Err(Failure::interrupted()),
    };
    if !arguments.keep {
        let deleted = client.delete_stream(&stream).await.map_err(Failure::of_change);
        // What went wrong first is what counts.
        measured.as_ref().ok().map_or(Ok(()), |_| deleted)?;
    }
    show(&arguments, &stream, &measured?)
}

async fn measure(
    context: &Context,
    client: &Client,
    stream: &str,
    arguments: &Arguments,
) -> Result<Phases, Failure> {
    let began = Instant::now();
    let course = Course {
        client: client.clone(),
        stream: stream.to_owned(),
        producers: arguments.producers,
        batch: arguments.batch,
        size: arguments.size,
        began,
    };
    let (told, acknowledged) = watch::channel(None);
    let mut readers = JoinSet::new();
    for _ in 0..arguments.readers {
        readers.spawn(follow(course.clone(), acknowledged.clone()));
    }
    let length = Duration::from_secs(arguments.seconds);
    let bar = progress::of_time(context, length).with_message("appending");
    let mut producers = JoinSet::new();
    for producer in 0..arguments.producers {
        let work = produce(course.clone(), producer, began + length);
        producers.spawn(async move { work.await.map(|measured| (producer, measured)) });
    }
    let mut appended = Measured::new();
    let mut counts = vec![0; arguments.producers as usize];
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            ended = producers.join_next() => {
                let Some(ended) = ended else { break };
                let (producer, measured) = joined(ended)?;
                counts[producer as usize] = measured.messages;
                appended.add(&measured);
            }
            Some(ended) = readers.join_next() => {
                joined(ended)?;
                return Err(Failure::new(Exit::Failed, "a following reader ended before the producers did"));
            }
            _ = ticks.tick() => {
                bar.set_position(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
            }
        }
    }
    let append_time = began.elapsed();
    // Those who read may be gone.
    let _ = told.send(Some(counts.clone()));
    let tail = all_of(&mut readers).await?;
    let tail_time = began.elapsed();
    bar.set_message("replaying");
    let replay_began = Instant::now();
    for _ in 0..arguments.readers {
        readers.spawn(replay(course.clone(), counts.clone()));
    }
    let replayed = all_of(&mut readers).await?;
    let replay_time = replay_began.elapsed();
    bar.finish_and_clear();
    Ok(Phases {
        append: appended.figures(arguments.size, append_time),
        tail: tail.figures(arguments.size, tail_time),
        replay: replayed.figures(arguments.size, replay_time),
    })
}

async fn all_of(work: &mut JoinSet<Result<Measured, Failure>>) -> Result<Measured, Failure> {
    let mut all = Measured::new();
    while let Some(ended) = work.join_next().await {
        all.add(&joined(ended)?);
    }
    Ok(all)
}

fn joined<T>(ended: Result<Result<T, Failure>, tokio::task::JoinError>) -> Result<T, Failure> {
    ended.unwrap_or_else(|error| Err(Failure::new(Exit::Failed, error.to_string())))
}

fn show(arguments: &Arguments, stream: &str, phases: &Phases) -> Result<(), Failure> {
    let mut output = Output::open()?;
    let Phases { append, tail, replay } = phases;
    if arguments.json {
        return Ok(output.json(&json!({
            "stream": stream,
            "producers": arguments.producers,
            "batch": arguments.batch,
            "size": arguments.size,
            "readers": arguments.readers,
            "append": append,
            "tail": tail,
            "replay": replay,
        }))?);
    }
    let mut text = Figures::shown(&[("append", append), ("tail", tail), ("replay", replay)]);
    if arguments.readers > 0 {
        text.push_str(
            "every acknowledged message was read once, in order, with the bytes that were written\n",
        );
    }
    Ok(output.text(&text)?)
}
