//! `mvctl restore`: streams are made anew from a copy.

use std::path::PathBuf;

use serde_json::json;
use vault_client::archive::restore::Restored;
use vault_client::archive::{self, Progress};
use vault_format::names::StreamName;

use crate::cli::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::storage::{Failed, Options};
use crate::{progress, units};

/// From where, to where.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The streams; all of the copy where none is named.
    #[arg(value_name = "STREAM")]
    streams: Vec<String>,

    /// The directory that holds the copy.
    #[arg(long, value_name = "DIRECTORY", required_unless_present = "from_storage")]
    from: Option<PathBuf>,

    /// Restore from storage in place of a directory, such as one that is damaged; named as for the server's --storage. No
    /// server may append there meanwhile.
    #[arg(long, value_name = "STORAGE", conflicts_with = "from", help_heading = "Storage")]
    from_storage: Option<String>,

    /// The storage in which the streams are made, named as for the server's --storage: `file:<directory>` or `azure:...`
    /// Streams of these names must not be there.
    #[arg(long, value_name = "STORAGE", help_heading = "Storage")]
    to_storage: String,

    /// Save what is intact where the copy is damaged. Each lost message gets a placeholder with the header `mv-lost`.
    #[arg(long)]
    repair: bool,

    #[command(flatten)]
    options: Options,

    /// One JSON object a line and stream.
    #[arg(long)]
    json: bool,
}

/// Restores streams, one after the other.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let work = restore(context, &arguments);
    tokio::select! {
        ended = work => ended,
        () = context.interrupt.wait() => Err(Failure::interrupted()),
    }
}

async fn restore(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let options = &arguments.options;
    let source = match (&arguments.from, &arguments.from_storage) {
        (Some(directory), _) => crate::storage::in_directory(directory)?,
        (None, storage) => storage.clone().unwrap_or_default(),
    };
    let source = options.existing(&source).await?;
    let target = options.place(&arguments.to_storage).await?;
    let mut output = Output::open()?;
    let names = options.streams(&source, &arguments.streams).await?;
    let mut failed = Failed::default();
    for name in &names {
        let bar = progress::of_bytes(context, Some(0)).with_message(format!("restoring {name}"));
        let mut observer = |done: &Progress| {
            bar.set_length(done.total_bytes.unwrap_or_default().max(done.bytes));
            bar.set_position(done.bytes);
        };
        let restored = archive::restore(&source, &target, name, arguments.repair, &mut observer).await;
        bar.finish_and_clear();
        match restored {
            Ok(restored) => tell(name, &restored, arguments.json, &mut output)?,
            Err(error) => failed.take(error, name, names.len())?,
        }
    }
    failed.end("restored")
}

fn tell(name: &StreamName, restored: &Restored, json: bool, output: &mut Output) -> Result<(), Failure> {
    let Restored { report, gaps } = restored;
    if json {
        let lost = |gap: &vault_server::log::inspect::Gap| {
            json!({
                "detail": gap.damage.to_string(),
                "from": gap.from.0,
                "to": gap.to.map(|to| to.0),
            })
        };
        return Ok(output.json(&json!({
            "stream": name.as_str(),
            "first_offset": report.first_offset.map(|offset| offset.0),
            "next_offset": report.next_offset.0,
            "messages": report.counts.messages,
            "bytes": report.counts.bytes,
            "lost": gaps.iter().map(lost).collect::<Vec<_>>(),
        }))?);
    }
    let messages = units::counted(report.counts.messages, "message", "messages");
    let size = units::shown_size(report.counts.bytes);
    let mut text = format!("restored {name}: {messages}, {size}, and read it again\n");
    for gap in gaps {
        let lost = match gap.to {
            Some(to) if to == gap.from => "no messages".to_owned(),
            Some(to) => format!("offsets {} to {}", gap.from, to.0 - 1),
            None => format!("whatever stood at offset {} and behind it", gap.from),
        };
        text.push_str(&format!("  lost: {lost}: {}\n", gap.damage));
    }
    Ok(output.text(&text)?)
}
