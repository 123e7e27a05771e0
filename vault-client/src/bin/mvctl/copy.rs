//! `mvctl copy`: streams are copied to a directory, and copies are kept up to date.

use std::path::PathBuf;

use futures::future::{TryFutureExt, try_join_all};
use indicatif::ProgressBar;
use serde_json::json;
use vault_client::Client;
use vault_client::archive::copy::Copied;

use vault_client::archive::{self, ArchiveError, Place, Progress, ServerSource, Source, StorageSource};
use vault_format::names::StreamName;

use crate::cli::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::storage::{Failed, Options, of_stream};
use crate::streams::short_name;
use crate::{progress, units};

/// From where, to where.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The streams; all of them where none is named.
    #[arg(value_name = "STREAM")]
    streams: Vec<String>,

    /// The directory of the copy: made where it is not there, brought up to date where it is. It is a vault, which a server
    /// can be started on.
    #[arg(long, value_name = "DIRECTORY")]
    to: PathBuf,

    /// Read from storage, named as for the server's --storage (`file:<directory>`, `azure:...`), and not through servers.
    #[arg(long, value_name = "STORAGE", help_heading = "Storage")]
    from_storage: Option<String>,

    /// Read what no longer changes from Blob storage, with the leave of the servers, and not through them.
    #[arg(long, conflicts_with = "from_storage")]
    direct: bool,

    /// Go on at the end, and copy what comes, until Ctrl-C.
    #[arg(long, short)]
    follow: bool,

    #[command(flatten)]
    options: Options,

    /// One JSON object a line and stream.
    #[arg(long)]
    json: bool,
}

/// Copies streams: one after the other, or all at once where they are followed.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let work = copy_all(context, &arguments);
    tokio::select! {
        ended = work => ended,
        () = context.interrupt.wait() => Err(Failure::interrupted()),
    }
}

async fn copy_all(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let options = &arguments.options;
    let from = From::of(context, arguments).await?;
    let names = from.names(arguments).await?;
    let target = options.directory(&arguments.to).await?;
    if arguments.follow {
        let bar = progress::of_bytes(context, None).with_message("copying");
        let copies = names.iter().map(|name| copy(&from, &target, name, true, &bar));
        let copies = copies.zip(&names).map(|(copied, name)| copied.map_err(|error| of_stream(error, name)));
        return try_join_all(copies).await.map(|_| ());
    }
    let mut output = Output::open()?;
    let mut failed = Failed::default();
    for name in &names {
        let bar = progress::of_bytes(context, Some(0)).with_message(format!("copying {name}"));
        let copied = copy(&from, &target, name, false, &bar).await;
        bar.finish_and_clear();
        match copied {
            Ok(copied) => tell(name, copied, arguments.json, &mut output)?,
            Err(error) => failed.take(error, name, names.len())?,
        }
    }
    failed.end("copied")
}

/// Where streams are copied from.
enum From {
    Servers { client: Client, direct: bool },
    Storage(Place),
}

impl From {
    async fn of(context: &Context, arguments: &Arguments) -> Result<Self, Failure> {
        Ok(match &arguments.from_storage {
            Some(storage) => Self::Storage(arguments.options.existing(storage).await?),
            None => Self::Servers { client: context.patient_client()?.build()?, direct: arguments.direct },
        })
    }

    /// The streams that were named, or all; with their names on the servers.
    async fn names(&self, arguments: &Arguments) -> Result<Vec<StreamName>, Failure> {
        let options = &arguments.options;
        match self {
            Self::Storage(place) => options.streams(place, &arguments.streams).await,
            Self::Servers { client, .. } if arguments.streams.is_empty() => {
                let listed = client.list_streams("").await?;
                listed.iter().map(|of| options.stream(&of.name)).collect()
            }
            Self::Servers { client, .. } => {
                arguments.streams.iter().map(|name| options.stream(&client.full_name(name))).collect()
            }
        }
    }

    async fn source(&self, name: &StreamName) -> Result<Box<dyn Source>, ArchiveError> {
        Ok(match self {
            Self::Storage(place) => Box::new(StorageSource::open(place, name).await?),
            Self::Servers { client, direct } => {
                let short = short_name(client, name.as_str());
                Box::new(ServerSource::open(client, &short, *direct).await?)
            }
        })
    }
}

async fn copy(
    from: &From,
    target: &Place,
    name: &StreamName,
    follow: bool,
    bar: &ProgressBar,
) -> Result<Copied, ArchiveError> {
    let mut source = from.source(name).await?;
    let mut seen = 0;
    let mut observer = |done: &Progress| {
        if !follow {
            bar.set_length(done.total_bytes.unwrap_or_default().max(done.bytes));
        }
        // Several copies may move one bar.
        bar.inc(done.bytes - seen);
        seen = done.bytes;
    };
    archive::copy(&mut *source, target, name, follow, &mut observer).await
}

fn tell(name: &StreamName, copied: Copied, json: bool, output: &mut Output) -> Result<(), Failure> {
    let Copied { next_offset, progress } = copied;
    if json {
        return Ok(output.json(&json!({
            "stream": name.as_str(),
            "messages": progress.messages,
            "bytes": progress.bytes,
            "next_offset": next_offset.map(|offset| offset.0),
        }))?);
    }
    let Progress { messages, bytes, .. } = progress;
    let end = next_offset.map_or_else(|| "it is empty".to_owned(), |offset| format!("up to offset {offset}"));
    let messages = units::counted(messages, "message", "messages");
    Ok(output.text(&format!("copied {name}: {messages}, {}, {end}\n", units::shown_size(bytes)))?)
}
