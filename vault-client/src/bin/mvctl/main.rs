//! The `mvctl` program: streams are looked after, filled, read and measured from a command line.
//!
//! | module | subject |
//! |---|---|
//! | `cli` | the flags that all commands share, and the commands |
//! | `streams`, `create`, `info`, `delete` | streams are listed, created and changed, described, deleted |
//! | `append` | messages go in: lines, JSON, or a whole file |
//! | `read`, `merge`, `printing` | messages come out, of one stream or of several |
//! | `status` | how the servers are |
//! | `copy`, `restore`, `verify`, `storage` | copies of streams, and whether streams are whole |
//! | `bench` | how fast a vault is, and whether what comes out is what went in |
//! | `completions` | what shells complete |
//! | `format` | messages as text, as JSON, as bytes |
//! | `units` | sizes and times, as they are written and shown |
//! | `output`, `progress`, `interrupt` | stdout, the progress bar, Ctrl-C |
//! | `failure` | sentences for people, exit codes for programs |

mod append;
mod bench;
mod cli;
mod completions;
mod copy;
mod create;
mod delete;
mod failure;
mod format;
mod info;
mod interrupt;
mod merge;
mod output;
mod printing;
mod progress;
mod read;
mod restore;
mod status;
mod storage;
mod streams;
mod units;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use self::cli::{Cli, Command, Context};
use self::failure::{Exit, Failure};
use self::interrupt::Interrupt;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::of_usage(&error),
    };
    cli.global.begin_to_log();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::new(Exit::Failed, format!("cannot start: {error}")).tell(),
    };
    let ended = runtime.block_on(Box::pin(run(cli)));
    // What still waits for stdin must not hold the program up.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let interrupt = Interrupt::listen(cli.command.patience())?;
    let context = Context { global: cli.global, interrupt };
    match cli.command {
        Command::Streams(arguments) => streams::run(&context, arguments).await,
        Command::Create(arguments) => create::create(&context, arguments).await,
        Command::Change(arguments) => create::change(&context, arguments).await,
        Command::Info(arguments) => info::run(&context, arguments).await,
        Command::Delete(arguments) => delete::run(&context, arguments).await,
        Command::Append(arguments) => append::run(&context, arguments).await,
        Command::Read(arguments) => read::run(&context, arguments).await,
        Command::Merge(arguments) => merge::run(&context, arguments).await,
        Command::Status(arguments) => status::run(&context, arguments).await,
        Command::Copy(arguments) => copy::run(&context, arguments).await,
        Command::Restore(arguments) => restore::run(&context, arguments).await,
        Command::Verify(arguments) => verify::run(&context, arguments).await,
        Command::Bench(arguments) => bench::run(&context, arguments).await,
        Command::Completions(arguments) => completions::run(&arguments),
    }
}
