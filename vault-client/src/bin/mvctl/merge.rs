//! `mvctl merge`: several streams come out as one, in the order of their messages' ids.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use clap::ValueEnum;
use futures::stream::{Stream, StreamExt};
use vault_client::{MergeError, Merged, MergedMessage, Start};

use crate::cli::Context;
use crate::failure::Failure;
use crate::format::Format;
use crate::printing::{Messages, Options, print};

/// Which messages, and how they are written.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The streams.
    #[arg(required = true, value_name = "STREAM")]
    streams: Vec<String>,

    /// Where to begin in each.
    #[arg(long, value_name = "PLACE", value_enum, default_value_t = Place::Earliest, conflicts_with = "since")]
    from: Place,

    #[command(flatten)]
    options: Options,
}

/// Where to begin. Offsets mean something in one stream only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Place {
    /// At the first message that is kept.
    Earliest,
    /// Behind the last one.
    Latest,
}

/// Reads messages.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.patient_client()?.build()?;
    let from = match arguments.from {
        Place::Earliest => Start::Earliest,
        Place::Latest => Start::Latest,
    };
    let mut streams = arguments.streams;
    streams.sort();
    streams.dedup();
    let readers = streams.iter().map(|stream| {
        let reader = arguments.options.reader(client.reader(stream), from);
        (stream.as_str(), reader.start())
    });
    print(context, &arguments.options, Several(Merged::new(readers))).await
}

struct Several(Merged);

impl Stream for Several {
    type Item = Result<MergedMessage, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let next = self.0.poll_next_unpin(context);
        next.map(|next| next.map(|message| message.map_err(in_stream)))
    }
}

fn in_stream(error: MergeError) -> Failure {
    Failure::from(error.error).in_stream(&error.stream)
}

impl Messages for Several {
    type Message = MergedMessage;

    fn write(message: &MergedMessage, format: Format, out: &mut Vec<u8>) {
        format.write(&message.message, Some(&message.stream), out);
    }

    fn left(&self) -> Option<u64> {
        None
    }
}
