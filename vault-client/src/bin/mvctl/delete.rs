//! `mvctl delete`: a stream and all its messages, once its name was typed.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::cli::Context;
use crate::failure::Failure;
use crate::output::Output;

/// Which stream.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The stream.
    name: String,

    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

/// Deletes a stream.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.client()?;
    let name = &arguments.name;
    if !arguments.yes {
        if !io::stdin().is_terminal() {
            return Err(Failure::usage(format!(
                "nobody is there to be asked whether {name} is to be deleted: say --yes"
            )));
        }
        let description = client.describe_stream(name).await?;
        let messages = match (description.first_offset, description.next_offset) {
            (Some(first), Some(next)) => format!("{} messages", next - first),
            _ => "messages that cannot be counted".to_owned(),
        };
        let full_name = client.full_name(name);
        let asked =
            format!("{full_name} has {messages}, which will be gone for ever. Type {name} to delete it: ");
        tokio::select! {
            typed = tokio::task::spawn_blocking(move || ask(&asked)) => {
                let typed = typed.map_err(|error| Failure::usage(error.to_string()))??;
                if typed.trim() != name {
                    return Err(Failure::usage(format!("that is not the name: {name} was not deleted")));
                }
            }
            () = context.interrupt.wait() => return Err(Failure::interrupted()),
        }
    }
    client.delete_stream(name).await.map_err(Failure::of_change)?;
    Ok(Output::open()?.text(&format!("deleted {name}\n"))?)
}

fn ask(question: &str) -> io::Result<String> {
    let mut stderr = io::stderr().lock();
    stderr.write_all(question.as_bytes())?;
    stderr.flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line)
}
