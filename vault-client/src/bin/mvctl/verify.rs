//! `mvctl verify`: whether streams are whole, on a server or in storage.

use serde_json::{Value, json};

use vault_client::archive::{self, Place, Progress, verify_server};
use vault_client::{Client, Offset};
use vault_format::audit::Counts;
use vault_format::names::StreamName;
use vault_server::log::inspect::Gap;

use crate::cli::Context;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::storage::Options;
use crate::{progress, units};

/// Which streams, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The streams; all of them where none is named.
    #[arg(value_name = "STREAM")]
    streams: Vec<String>,

    /// Look into storage, named as for the server's --storage (`file:<directory>`, `azure:...`), with the servers down; in the
    /// place of asking them.
    #[arg(long, value_name = "STORAGE", help_heading = "Storage")]
    storage: Option<String>,

    #[command(flatten)]
    options: Options,

    /// One JSON object a line and stream.
    #[arg(long)]
    json: bool,
}

/// What was found of a stream.
struct Found {
    name: String,
    first_offset: Option<Offset>,
    next_offset: Option<Offset>,
    counts: Counts,
    /// Damage, each in a sentence, and how many messages are lost by it as far as that is known.
    damage: Vec<(String, Option<u64>)>,
}

/// Verifies streams. All of them are looked at, also behind one that is damaged.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let work = verify(context, &arguments);
    tokio::select! {
        ended = work => ended,
        () = context.interrupt.wait() => Err(Failure::interrupted()),
    }
}

async fn verify(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let mut output = Output::open()?;
    let mut damaged = Vec::new();
    let mut tell = |found: Found| {
        if !found.damage.is_empty() {
            damaged.push(found.name.clone());
        }
        found.tell(arguments.json, &mut output)
    };
    match &arguments.storage {
        Some(storage) => {
            let place = arguments.options.existing(storage).await?;
            for name in arguments.options.streams(&place, &arguments.streams).await? {
                tell(in_storage(context, &place, &name).await?)?;
            }
        }
        None => {
            let client = context.patient_client()?.build()?;
            let mut names = arguments.streams.clone();
            if names.is_empty() {
                let listed = client.list_streams("").await?;
                names = listed.iter().map(|of| crate::streams::short_name(&client, &of.name)).collect();
            }
            for name in names {
                let found = on_a_server(context, &client, &name).await;
                tell(found.map_err(|failure| failure.in_stream(&name))?)?;
            }
        }
    }
    if damaged.is_empty() {
        return Ok(());
    }
    let sentence = format!("damaged: {}; `mvctl restore --repair` saves what is intact", damaged.join(", "));
    Err(Failure::new(Exit::Damage, sentence))
}

async fn in_storage(context: &Context, place: &Place, name: &StreamName) -> Result<Found, Failure> {
    let stream = place.stream(name).await?;
    let bar = progress::of_bytes(context, Some(0)).with_message(format!("verifying {name}"));
    let mut observer = |done: &Progress| {
        bar.set_length(done.total_bytes.unwrap_or_default().max(done.bytes));
        bar.set_position(done.bytes);
    };
    let report = archive::verify(&stream, &mut observer).await?;
    bar.finish_and_clear();
    let lost = |gap: &Gap| (gap.damage.to_string(), gap.to.map(|_| gap.known_lost()));
    Ok(Found {
        name: name.to_string(),
        first_offset: report.first_offset,
        next_offset: Some(report.next_offset),
        counts: report.counts,
        damage: report.gaps.iter().map(lost).collect(),
    })
}

/// A server answers up to damage and no further.
async fn on_a_server(context: &Context, client: &Client, name: &str) -> Result<Found, Failure> {
    let bar = progress::of_bytes(context, Some(0)).with_message(format!("verifying {name}"));
    let mut observer = |done: &Progress| {
        bar.set_length(done.total_bytes.unwrap_or_default().max(done.bytes));
        bar.set_position(done.bytes);
    };
    let report = verify_server(client, name, &mut observer).await?;
    bar.finish_and_clear();
    let damage = report.damage.iter().map(|damage| (damage.to_string(), None)).collect();
    Ok(Found {
        name: name.to_owned(),
        first_offset: Some(report.first_offset),
        next_offset: Some(report.next_offset),
        counts: report.counts,
        damage,
    })
}

impl Found {
    fn tell(&self, json: bool, output: &mut Output) -> Result<(), Failure> {
        if json {
            return Ok(output.json(&self.document())?);
        }
        let counts = &self.counts;
        let mut text = format!(
            "{}: {}, {} in {}, {}{}\n",
            self.name,
            if self.damage.is_empty() { "whole" } else { "damaged" },
            units::counted(counts.messages, "message", "messages"),
            units::counted(counts.batches, "batch", "batches"),
            units::shown_size(counts.bytes),
            self.offsets(),
        );
        for (sentence, lost) in &self.damage {
            let lost = match lost {
                Some(0) => "no messages are lost".to_owned(),
                Some(1) => "1 message is lost".to_owned(),
                Some(lost) => format!("{lost} messages are lost"),
                None => "how many messages are lost is not known".to_owned(),
            };
            text.push_str(&format!("  {sentence}; {lost}\n"));
        }
        Ok(output.text(&text)?)
    }

    fn offsets(&self) -> String {
        match (self.first_offset, self.next_offset) {
            (Some(first), Some(next)) if first < next => format!(", offsets {first} to {}", next.0 - 1),
            _ => String::new(),
        }
    }

    fn document(&self) -> Value {
        let counts = &self.counts;
        let damage = |(sentence, lost): &(String, Option<u64>)| json!({ "detail": sentence, "lost": lost });
        json!({
            "stream": self.name,
            "whole": self.damage.is_empty(),
            "first_offset": self.first_offset.map(|offset| offset.0),
            "next_offset": self.next_offset.map(|offset| offset.0),
            "messages": counts.messages,
            "batches": counts.batches,
            "bytes": counts.bytes,
            "damage": self.damage.iter().map(damage).collect::<Vec<_>>(),
        })
    }
}
