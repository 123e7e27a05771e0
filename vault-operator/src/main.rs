//! The `vault-operator` program.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use vault_operator::config::{Arguments, Command};
use vault_operator::program;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match arguments.command {
        Some(Command::Crds) => {
            let mut out = std::io::stdout().lock();
            // Nobody may be listening any more.
            let _ = out.write_all(vault_operator::crds::yaml().as_bytes()).and_then(|()| out.flush());
            return ExitCode::SUCCESS;
        }
        Some(Command::Run(config)) => *config,
        None => arguments.config,
    };
    match program::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "vault-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
