//! `mvctl append`: lines, JSON or a whole file become messages.
//!
//! | module | subject |
//! |---|---|
//! | `input` | a file or stdin, cut into lines |
//! | `key` | keys out of lines of JSON |
//! | `ledger` | what became of the messages |

mod input;
mod key;
mod ledger;

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use indicatif::ProgressBar;
use serde_json::value::RawValue;
use vault_client::{Client, Message, Offset, Producer, Run, SendError};

use self::input::{Cutter, Input, Piece};
use self::key::Pointer;
use self::ledger::Ledger;
use crate::cli::Context;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::{progress, units};

/// How long what is on its way is waited for after Ctrl-C.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// What, and into which stream.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The stream.
    stream: String,

    /// The file; stdin where there is none, or `-`.
    file: Option<PathBuf>,

    /// What a message is.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = InputFormat::Lines)]
    format: InputFormat,

    /// The key of every message; with `ndjson` a JSON pointer (RFC 6901) to the key in each line, such as /user/id.
    #[arg(long, value_name = "KEY|POINTER")]
    key: Option<String>,

    /// A header of every message; can be given several times.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,

    /// Append only if this is the stream's next offset; with --format whole, and a value that fits in one message.
    #[arg(long, value_name = "OFFSET")]
    expected_offset: Option<u64>,

    /// The longest value of one message that the servers take, their --max-message-bytes; longer ones travel as several.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = units::memory_size)]
    message_bytes: usize,

    /// The longest value that is appended at all. So much memory may be taken.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = units::memory_size)]
    value_bytes: usize,

    /// One JSON object on stdout: what was acknowledged, what not, and where to go on.
    #[arg(long)]
    json: bool,
}

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum InputFormat {
    /// Each line, without the line feed at its end.
    Lines,
    /// Each line that is not empty, which must be JSON, without its line end.
    Ndjson,
    /// All of the input.
    Whole,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("give a name and a value, such as source=shop")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Why no more of the input is taken.
enum Stop {
    /// It has ended.
    End,
    /// The producer has; its ledger says why.
    Producer,
    /// Something in the input is wrong.
    Input(Failure),
    Interrupted,
}

/// Appends messages.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let make = Make::new(&arguments)?;
    let name = arguments.file.as_ref().map_or("stdin".into(), |path| path.display().to_string());
    let input = Input::open(arguments.file.as_deref());
    let input = input.map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    let client = context.patient_client()?.message_bytes(arguments.message_bytes).build()?;
    let bar = match input.is_typed {
        true => ProgressBar::hidden(),
        false => progress::of_bytes(context, input.bytes).with_message("appending"),
    };
    let cutter = Cutter::new(arguments.format == InputFormat::Whole, arguments.value_bytes);
    let limit = format!("--value-bytes, {}", units::shown_exact_size(arguments.value_bytes as u64));
    let mut work = Work { context, make, name, limit, input, cutter, ledger: Ledger::default(), bar };
    let stop = match arguments.expected_offset {
        Some(offset) => return work.conditionally(&client, &arguments, Offset(offset)).await,
        None => work.all(&client, &arguments).await?,
    };
    work.bar.finish_and_clear();
    work.tell(&arguments, stop)
}

/// Makes messages of lines.
struct Make {
    format: InputFormat,
    template: Message,
    pointer: Option<Pointer>,
}

impl Make {
    fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let mut template = Message { headers: arguments.headers.clone(), ..Message::default() };
        let mut pointer = None;
        match (&arguments.key, arguments.format) {
            (Some(key), InputFormat::Ndjson) => pointer = Some(Pointer::parse(key).map_err(Failure::usage)?),
            (Some(key), _) => template = template.key(key.clone()),
            (None, _) => {}
        }
        if arguments.expected_offset.is_some() && arguments.format != InputFormat::Whole {
            return Err(Failure::usage("--expected-offset goes with --format whole"));
        }
        // A wrong key or header is one of every message.
        Run::of([template.clone()]).map_err(|error| Failure::usage(error.reason.to_string()))?;
        Ok(Self { format: arguments.format, template, pointer })
    }

    /// The message of a line, `None` of one that is none.
    fn message(&self, piece: &Piece) -> Result<Option<Message>, String> {
        let mut message = Message { value: piece.bytes.clone(), ..self.template.clone() };
        if self.format == InputFormat::Ndjson {
            let line = piece.bytes.strip_suffix(b"\r").unwrap_or(&piece.bytes);
            if line.is_empty() {
                return Ok(None);
            }
            let text = str::from_utf8(line).map_err(|error| error.to_string())?;
            let json: &RawValue = serde_json::from_str(text).map_err(|error| not_json(&error))?;
            message.value = piece.bytes.slice(..line.len());
            if let Some(pointer) = &self.pointer {
                message = message.key(pointer.key(json)?);
            }
        }
        Ok(Some(message))
    }
}

struct Work<'a> {
    context: &'a Context,
    make: Make,
    name: String,
    /// The longest value, for people.
    limit: String,
    input: Input,
    cutter: Cutter,
    ledger: Ledger,
    bar: ProgressBar,
}

impl Work<'_> {
    /// Sends all of the input, and waits for what becomes of it.
    async fn all(&mut self, client: &Client, arguments: &Arguments) -> Result<Stop, Failure> {
        let producer = client.producer(&arguments.stream).value_bytes(arguments.value_bytes).start()?;
        let interrupt = self.context.interrupt.clone();
        let stop = tokio::select! {
            stop = self.send(&producer) => stop,
            () = interrupt.wait() => Stop::Interrupted,
        };
        if matches!(stop, Stop::Interrupted) {
            // What is not acknowledged by then is given up with the producer.
            let _ = tokio::time::timeout(LAST_WAIT, producer.close()).await;
            self.ledger.settle_all().await;
            return Ok(stop);
        }
        let ledger = &mut self.ledger;
        let bar = &self.bar;
        let settled = async {
            let watched = async {
                loop {
                    ledger.settled().await;
                    bar.set_position(ledger.acknowledged_bytes);
                }
            };
            tokio::select! {
                _ = producer.close() => {}
                () = watched => {}
            }
        };
        let interrupted = tokio::select! {
            () = settled => false,
            () = interrupt.wait() => true,
        };
        self.ledger.settle_all().await;
        Ok(match stop {
            _ if interrupted => Stop::Interrupted,
            Stop::End if self.ledger.failure.is_some() => Stop::Producer,
            stop => stop,
        })
    }

    async fn send(&mut self, producer: &Producer) -> Stop {
        loop {
            let block = tokio::select! {
                block = self.input.next() => block,
                () = self.ledger.settled() => {
                    self.bar.set_position(self.ledger.acknowledged_bytes);
                    if self.ledger.failure.is_some() {
                        return Stop::Producer;
                    }
                    continue;
                }
            };
            let ended = block.is_none();
            match block {
                Some(Ok(block)) => self.cutter.feed(block),
                Some(Err(error)) => return self.wrong(&error.to_string()),
                None => {}
            }
            loop {
                let piece = match self.cutter.next() {
                    Ok(Some(piece)) => piece,
                    Ok(None) if !ended => break,
                    Ok(None) => match self.cutter.rest() {
                        Some(piece) => piece,
                        None => return Stop::End,
                    },
                    Err(too_long) => {
                        self.ledger.refused(too_long.line);
                        return self.wrong_line(too_long.line, &format!("it is longer than {}", self.limit));
                    }
                };
                if let Some(stop) = self.send_piece(producer, &piece).await {
                    return stop;
                }
                if ended && self.make.format == InputFormat::Whole {
                    return Stop::End;
                }
            }
            self.ledger.settle();
            self.bar.set_position(self.ledger.acknowledged_bytes);
        }
    }

    async fn send_piece(&mut self, producer: &Producer, piece: &Piece) -> Option<Stop> {
        let message = match self.make.message(piece) {
            Ok(message) => message?,
            Err(reason) => {
                self.ledger.refused(piece.line);
                return Some(self.wrong_line(piece.line, &reason));
            }
        };
        self.ledger.begin(piece.line);
        match producer.send(message).await {
            Ok(receipt) => {
                self.ledger.sent(piece.line, piece.bytes.len() as u64 + 1, receipt);
                None
            }
            Err(error @ (SendError::Message(_) | SendError::ValueTooLong { .. })) => {
                self.ledger.refused(piece.line);
                Some(self.wrong_line(piece.line, &error.to_string()))
            }
            Err(_) => {
                self.ledger.refused(piece.line);
                Some(Stop::Producer)
            }
        }
    }

    fn wrong(&self, reason: &str) -> Stop {
        Stop::Input(Failure::new(Exit::Failed, format!("{}: {reason}", self.name)))
    }

    fn wrong_line(&self, line: u64, reason: &str) -> Stop {
        match self.make.format {
            InputFormat::Whole => self.wrong(reason),
            _ => self.wrong(&format!("line {line}: {reason}")),
        }
    }

    /// One message, where the stream is as long as somebody says.
    async fn conditionally(
        &mut self,
        client: &Client,
        arguments: &Arguments,
        offset: Offset,
    ) -> Result<(), Failure> {
        loop {
            let block = tokio::select! {
                block = self.input.next() => block,
                () = self.context.interrupt.wait() => return Err(Failure::interrupted()),
            };
            let Some(block) = block else { break };
            self.cutter.feed(block?);
        }
        let too_long = || {
            let bytes = arguments.message_bytes;
            Failure::new(Exit::Failed, format!("{}: with --expected-offset at most {bytes} bytes", self.name))
        };
        let _ = self.cutter.next().map_err(|_| too_long())?;
        let value = self.cutter.rest().map(|piece| piece.bytes).unwrap_or_default();
        if value.len() > arguments.message_bytes {
            return Err(too_long());
        }
        let run = Run::of([Message { value, ..self.make.template.clone() }])
            .map_err(|error| Failure::new(Exit::Failed, error.reason.to_string()))?;
        let appended = client.append(&arguments.stream, run, Some(offset)).await;
        let appended = appended.map_err(Failure::of_change)?;
        self.bar.finish_and_clear();
        let offset = appended.first_offset.0;
        if arguments.json {
            let document = serde_json::json!({
                "acknowledged": 1, "not_stored": 0, "unknown": 0,
                "first_offset": offset, "last_offset": offset, "next_line": 2,
            });
            Output::open()?.json(&document)?;
        }
        say(self.context, &format!("appended 1 message, offset {offset}"));
        Ok(())
    }

    fn tell(&self, arguments: &Arguments, stop: Stop) -> Result<(), Failure> {
        let next = self.cutter.next_line();
        if arguments.json {
            Output::open()?.json(&self.ledger.document(next))?;
        }
        let (mut exit, reason) = match stop {
            Stop::End => {
                say(self.context, &self.ledger.success());
                return Ok(());
            }
            Stop::Interrupted => (Exit::Interrupted, "interrupted".to_owned()),
            Stop::Input(failure) => (failure.exit, failure.sentence),
            Stop::Producer => {
                let closed = SendError::Closed { side_effects: vault_client::SideEffects::None };
                let failure = Failure::from(self.ledger.failure.clone().unwrap_or(closed));
                (failure.exit, failure.sentence)
            }
        };
        if self.ledger.unknown > 0 && exit != Exit::Interrupted {
            exit = Exit::Unknown;
        }
        if self.make.format == InputFormat::Whole && self.ledger.unknown == 0 {
            // There is one message, and no line to go on at.
            return Err(Failure::new(exit, format!("{reason}; nothing is stored")));
        }
        Err(Failure::new(exit, format!("{reason}; {}", self.ledger.account(next))))
    }
}

/// What is wrong with a line, which is the only one that the parser has seen.
fn not_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split_once(" at line ").map_or(&*text, |(what, _)| what);
    format!("not JSON: {what} at column {}", error.column())
}

/// A line for people.
fn say(context: &Context, sentence: &str) {
    use std::io::Write;
    if !context.global.quiet {
        // Where stderr is closed nobody wants to be told.
        let _ = writeln!(std::io::stderr().lock(), "{sentence}");
    }
}
