//! The flags that all commands share, and the commands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use vault_client::{Client, ClientBuilder};

use crate::failure::{Failure, HELP};
use crate::interrupt::Interrupt;
use crate::units;
use crate::{
    append, bench, completions, copy, create, delete, info, merge, read, restore, status, streams, verify,
};

/// For how long a request of a command that moves messages is sent again: longer than a change of leader takes.
const LONG_TIMEOUT: Duration = Duration::from_secs(60);

/// The same for the others, for which somebody waits.
const SHORT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a command may take to end in order after Ctrl-C: appends wait for what is on its way.
const PATIENCE_OF_APPENDS: Duration = Duration::from_secs(10);

/// The same for others, which may be writing where nobody reads.
const PATIENCE: Duration = Duration::from_secs(1);

/// Message Vault from a command line: streams, messages in and out, and how the servers are.
///
/// What goes to stdout is the answer, what goes to stderr is for people. With --json every command that answers writes
/// JSON, one object a line.
#[derive(Debug, Parser)]
#[command(name = "mvctl", version, after_help = HELP, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List streams.
    Streams(streams::Arguments),
    /// Create a stream, or confirm that it is there with these settings.
    Create(create::Arguments),
    /// Change settings of a stream.
    Change(create::Arguments),
    /// Describe a stream.
    Info(info::Arguments),
    /// Delete a stream and all its messages.
    Delete(delete::Arguments),
    /// Append messages from a file or stdin.
    Append(append::Arguments),
    /// Read messages.
    Read(read::Arguments),
    /// Read messages of several streams as one, in the order of their ids: by time, then by offset.
    Merge(merge::Arguments),
    /// Show how the servers are.
    Status(status::Arguments),
    /// Copy streams to a directory, or bring such a copy up to date.
    Copy(copy::Arguments),
    /// Make streams anew from a copy, without a server.
    Restore(restore::Arguments),
    /// Check that streams are whole, every message of them.
    Verify(verify::Arguments),
    /// Measure appends, following readers and replay, and check that what comes out is what went in.
    Bench(bench::Arguments),
    /// Print a shell's completions.
    Completions(completions::Arguments),
}

impl Command {
    /// How long it may take to end in order once it is asked to.
    pub(crate) fn patience(&self) -> Duration {
        match self {
            Self::Append(_) | Self::Bench(_) => PATIENCE_OF_APPENDS,
            _ => PATIENCE,
        }
    }
}

/// Which vault, as whom, with which streams.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The servers of the vault: a URL, or several with commas between.
    #[arg(
        long,
        global = true,
        env = "MESSAGEVAULT_URL",
        value_name = "URL[,URL]",
        default_value = "http://127.0.0.1:8480",
        help_heading = "Vault"
    )]
    pub(crate) server: String,

    /// A bearer token. [env: MESSAGEVAULT_TOKEN, which others on this machine do not see]
    #[arg(long, global = true, value_name = "TOKEN", help_heading = "Vault")]
    token: Option<String>,

    /// A file with a bearer token; read again while the command runs. [env: MESSAGEVAULT_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Vault")]
    token_file: Option<PathBuf>,

    /// A user's name; the password stands in --password-file or MESSAGEVAULT_PASSWORD. [env: MESSAGEVAULT_USER]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Vault")]
    user: Option<String>,

    /// A file with the user's password; a line end behind it does not count.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Vault")]
    password_file: Option<PathBuf>,

    /// Certificates of authorities, PEM, that are trusted besides those of the system.
    #[arg(long, global = true, env = "MESSAGEVAULT_CA", value_name = "FILE", help_heading = "Vault")]
    ca: Option<PathBuf>,

    /// What is put in front of the name of every stream; streams without it are not seen.
    #[arg(
        long,
        global = true,
        env = "MESSAGEVAULT_STREAM_PREFIX",
        value_name = "PREFIX",
        default_value = "",
        hide_default_value = true,
        help_heading = "Vault"
    )]
    stream_prefix: String,

    /// For how long a request is sent again that may succeed later; 0s sends it once. [default: 60s for append, read,
    /// merge, copy, verify and bench, else 10s]
    #[arg(
        long,
        global = true,
        env = "MESSAGEVAULT_TIMEOUT",
        value_name = "DURATION",
        value_parser = units::duration,
        help_heading = "Vault"
    )]
    timeout: Option<Duration>,

    /// No progress bar, and nothing on stderr but what went wrong.
    #[arg(long, short, global = true, help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Log to stderr what is done and tried again; -vv logs what libraries do as well.
    #[arg(long, short, global = true, action = ArgAction::Count, help_heading = "Output")]
    verbose: u8,
}

/// What every command is given.
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) interrupt: Interrupt,
}

impl Context {
    /// A client for commands that somebody waits for.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(self.global.builder(&self.global.server, SHORT_TIMEOUT)?.build()?)
    }

    /// A client for commands that move messages.
    pub(crate) fn patient_client(&self) -> Result<ClientBuilder, Failure> {
        self.global.builder(&self.global.server, LONG_TIMEOUT)
    }
}

impl Global {
    /// A client for the servers at `urls`.
    pub(crate) fn builder(&self, urls: &str, timeout: Duration) -> Result<ClientBuilder, Failure> {
        let builder = Client::builder(urls)
            .stream_prefix(&self.stream_prefix)
            .retry_time(self.timeout.unwrap_or(timeout));
        let builder = match &self.ca {
            Some(path) => builder.authorities(contents(path)?),
            None => builder,
        };
        self.credentials(builder)
    }

    /// One way to say who asks. Flags count before variables.
    fn credentials(&self, builder: ClientBuilder) -> Result<ClientBuilder, Failure> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (mut token, mut file, mut user) =
            (self.token.clone(), self.token_file.clone(), self.user.clone());
        if token.is_none() && file.is_none() && user.is_none() {
            token = variable("MESSAGEVAULT_TOKEN");
            file = variable("MESSAGEVAULT_TOKEN_FILE").map(PathBuf::from);
            user = variable("MESSAGEVAULT_USER");
        }
        match (token, file, user) {
            (None, None, None) if self.password_file.is_some() => {
                Err(Failure::usage("--password-file goes with --user"))
            }
            (None, None, None) => Ok(builder),
            (Some(token), None, None) => Ok(builder.bearer_token(token.trim())),
            (None, Some(file), None) => Ok(builder.token_file(file)),
            (None, None, Some(user)) => Ok(builder.password(&user, &self.password()?)),
            _ => Err(Failure::usage(
                "--token, --token-file and --user (or their variables) are three ways to say who asks: give one",
            )),
        }
    }

    fn password(&self) -> Result<String, Failure> {
        if let Some(path) = &self.password_file {
            let text = String::from_utf8(contents(path)?)
                .map_err(|_| Failure::usage(format!("{}: the password is not UTF-8", path.display())))?;
            return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
        }
        std::env::var("MESSAGEVAULT_PASSWORD").map_err(|_| {
            Failure::usage("--user needs a password: name a --password-file, or set MESSAGEVAULT_PASSWORD")
        })
    }

    /// Begins to log where that is wanted.
    pub(crate) fn begin_to_log(&self) {
        use std::io::IsTerminal;
        let filter = match self.verbose {
            0 => "error",
            1 => "warn,mvctl=debug,vault_client=debug",
            2 => "debug",
            _ => "trace",
        };
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        // A second subscriber is what cannot be: this is called once.
        let _ = log.with_ansi(std::io::stderr().is_terminal()).try_init();
    }
}

fn contents(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }
}
