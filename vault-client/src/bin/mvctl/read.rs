//! `mvctl read`: messages come out.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use futures::stream::{Stream, StreamExt};
use vault_client::{Offset, Reader, Received, Start};

use crate::cli::Context;
use crate::failure::Failure;
use crate::format::Format;
use crate::printing::{Messages, Options, print};

/// Which messages, and how they are written.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The stream.
    stream: String,

    /// Where to begin: earliest, latest, or an offset.
    #[arg(long, value_name = "PLACE", default_value = "earliest", value_parser = place, conflicts_with = "since")]
    from: Start,

    /// End before this offset.
    #[arg(long, value_name = "OFFSET")]
    to: Option<u64>,

    #[command(flatten)]
    options: Options,
}

fn place(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        _ => {
            let offset = text.parse().map_err(|_| "give earliest, latest or an offset".to_owned())?;
            Ok(Start::Offset(Offset(offset)))
        }
    }
}

/// Reads messages.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.patient_client()?.build()?;
    let mut reader = arguments.options.reader(client.reader(&arguments.stream), arguments.from);
    if let Some(to) = arguments.to {
        reader = reader.to(Offset(to));
    }
    let one = OneStream { reader: reader.start(), to: arguments.to.unwrap_or(u64::MAX) };
    print(context, &arguments.options, one).await
}

struct OneStream {
    reader: Reader,
    to: u64,
}

impl Stream for OneStream {
    type Item = Result<Received, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.reader.poll_next_unpin(context).map(|next| next.map(|message| Ok(message?)))
    }
}

impl Messages for OneStream {
    type Message = Received;

    fn write(message: &Received, format: Format, out: &mut Vec<u8>) {
        format.write(message, None, out);
    }

    fn left(&self) -> Option<u64> {
        let (next, end) = (self.reader.next_offset()?, self.reader.end_offset()?);
        Some(end.0.min(self.to).saturating_sub(next.0))
    }
}
