//! `mvctl completions`: what shells complete.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::Output;

/// Which shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell; its documentation says where it looks for completions.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the completions.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut output = Output::open()?;
    clap_complete::generate(arguments.shell, &mut Cli::command(), "mvctl", &mut output.buffer);
    Ok(output.flush()?)
}
