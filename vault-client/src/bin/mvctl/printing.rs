//! What `read` and `merge` share: which messages, how they are written, and when.

use std::io::{ErrorKind, IsTerminal};

use futures::FutureExt;
use futures::stream::{Stream, StreamExt};
use indicatif::ProgressBar;
use vault_client::{ReaderBuilder, Start};

use crate::cli::Context;
use crate::failure::Failure;
use crate::format::Format;
use crate::output::Output;
use crate::progress;
use crate::units::{self, When};

/// So many messages come out before the progress bar is moved, and before Ctrl-C is looked for.
const MESSAGES_BETWEEN_LOOKS: u64 = 1_024;

/// Which messages, and how they are written.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Begin with the first message appended at this time or later: RFC 3339, ms since 1970, or so long ago, such as 15m.
    #[arg(long, value_name = "TIME", value_parser = units::when)]
    since: Option<When>,

    /// End after so many messages.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) limit: Option<u64>,

    /// Go on at the end, and wait for what comes.
    #[arg(long, short)]
    pub(crate) follow: bool,

    /// Read what no longer changes from Blob storage, with the leave of the servers, and not through them.
    #[arg(long)]
    direct: bool,

    /// Go on with the first message that is kept where those that are wanted are deleted.
    #[arg(long)]
    skip_deleted: bool,

    /// Leave values that are longer than one message in their parts, as they are stored, so that no offset is left out.
    #[arg(long)]
    parts: bool,

    /// One JSON object a line, with the members that the server's application/x-ndjson has.
    #[arg(long, conflicts_with = "raw")]
    json: bool,

    /// The bytes of the values, and nothing between them.
    #[arg(long)]
    raw: bool,

    /// The longest value that is put together of several messages.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = units::memory_size)]
    value_bytes: usize,
}

impl Options {
    /// A reader from `from` on, or from the time that was given.
    pub(crate) fn reader(&self, reader: ReaderBuilder, from: Start) -> ReaderBuilder {
        let from = self.since.map_or(from, |since| Start::Time(since.timestamp()));
        let mut reader = reader.from(from).value_bytes(self.value_bytes);
        if self.follow {
            reader = reader.follow();
        }
        if self.direct {
            reader = reader.direct();
        }
        if self.skip_deleted {
            reader = reader.skip_deleted();
        }
        if self.parts {
            reader = reader.parts();
        }
        reader
    }

    fn format(&self) -> Format {
        match (self.json, self.raw) {
            (true, _) => Format::Json,
            (_, true) => Format::Raw,
            _ => Format::Text,
        }
    }
}

/// Messages from wherever they come.
pub(crate) trait Messages: Stream<Item = Result<Self::Message, Failure>> + Unpin {
    type Message;

    fn write(message: &Self::Message, format: Format, out: &mut Vec<u8>);

    /// About how many messages are left, where that is known.
    fn left(&self) -> Option<u64>;
}

/// Writes messages to stdout. What there is is written before more is waited for, so that whoever reads on sees it.
pub(crate) async fn print<M: Messages>(
    context: &Context,
    options: &Options,
    mut messages: M,
) -> Result<(), Failure> {
    let mut output = Output::open()?;
    let mut bar = None;
    let printed = copy(context, options, &mut messages, &mut output, &mut bar).await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    // Whatever went wrong, what came before it is written.
    let flushed = output.flush().map_err(Failure::from);
    flushed.and(printed)
}

async fn copy<M: Messages>(
    context: &Context,
    options: &Options,
    messages: &mut M,
    output: &mut Output,
    bar: &mut Option<ProgressBar>,
) -> Result<(), Failure> {
    let format = options.format();
    let most = options.limit.unwrap_or(u64::MAX);
    let mut printed = 0;
    let mut interrupted = std::pin::pin!(context.interrupt.wait());
    let mut closed = std::pin::pin!(output.closed());
    while printed < most {
        let message = match messages.next().now_or_never() {
            Some(message) => message,
            None => {
                output.flush()?;
                tokio::select! {
                    message = messages.next() => message,
                    () = &mut interrupted => return Err(Failure::interrupted()),
                    () = &mut closed => return Err(std::io::Error::from(ErrorKind::BrokenPipe).into()),
                }
            }
        };
        let Some(message) = message else { break };
        M::write(&message?, format, &mut output.buffer);
        output.flush_if_much()?;
        printed += 1;
        if printed % MESSAGES_BETWEEN_LOOKS == 0 {
            let bar = bar.get_or_insert_with(|| begin_bar(context, options, messages.left(), printed));
            bar.set_position(printed);
            if interrupted.as_mut().now_or_never().is_some() {
                return Err(Failure::interrupted());
            }
        }
    }
    Ok(())
}

/// How far it is, where stdout is not the terminal that the bar would be drawn on.
fn begin_bar(context: &Context, options: &Options, left: Option<u64>, printed: u64) -> ProgressBar {
    if std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let all = left.filter(|_| !options.follow).map(|left| left.saturating_add(printed));
    let all = all.into_iter().chain(options.limit).min();
    progress::of_messages(context, all).with_message("reading")
}
