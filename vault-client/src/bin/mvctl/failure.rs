//! Sentences for people, exit codes for programs.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use vault_client::{Error, ReadError, SendError, SideEffects};

/// How the program ends, for whoever called it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Nobody reads what it writes any more: all that was wanted was done.
    ClosedPipe = 0,
    /// A server refused, could not be reached, or found something amiss.
    Failed = 1,
    /// A flag or an argument is wrong.
    Usage = 2,
    /// There is no such stream.
    NoStream = 3,
    /// Stored data is damaged or missing.
    Damage = 4,
    /// What was to be changed or appended may be, or not.
    Unknown = 5,
    /// Ctrl-C.
    Interrupted = 130,
}

/// The exit codes as `--help` lists them.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done; also where whoever reads the output has had enough
  1    failed: a server refused, or could not be reached
  2    a flag or an argument is wrong
  3    there is no such stream
  4    stored data is damaged or missing
  5    messages, or a change, may be stored or not
  130  interrupted

Every command, with lines to try: docs/mvctl.md";

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What is wrong and what to do, without an end.
    pub(crate) sentence: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: sentence.into() }
    }

    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Usage, sentence)
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "")
    }

    /// Of a request that changes something: whoever asked for it wants to know whether it was carried out.
    pub(crate) fn of_change(error: Error) -> Self {
        let unknown = error.side_effects() == SideEffects::Possible;
        let failure = Self::from(error);
        if unknown && failure.exit == Exit::Failed {
            let sentence = format!("{}; it may have been carried out all the same", failure.sentence);
            return Self::new(Exit::Unknown, sentence);
        }
        failure
    }

    /// Where there are several streams, says which one it is about.
    pub(crate) fn in_stream(self, stream: &str) -> Self {
        Self::new(self.exit, format!("{stream}: {}", self.sentence))
    }

    /// Writes the sentence to stderr, where there is one.
    pub(crate) fn tell(&self) -> ExitCode {
        if self.exit != Exit::ClosedPipe && !self.sentence.is_empty() {
            // Where stderr is closed nobody can be told.
            let _ = writeln!(std::io::stderr().lock(), "mvctl: {}", self.sentence);
        }
        ExitCode::from(self.exit as u8)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match (&error, error.code()) {
            (Error::Settings(_) | Error::Message(_), _) => Exit::Usage,
            (_, Some("stream_not_found")) => Exit::NoStream,
            (_, Some("corrupt" | "data_missing" | "two_accounts" | "format_too_new")) => Exit::Damage,
            _ => Exit::Failed,
        };
        let advice = match (&error, error.code()) {
            (Error::Unreachable { .. } | Error::TimedOut { .. } | Error::Nonsense { .. }, _) => {
                "; --server says where to ask, --timeout for how long"
            }
            (_, Some("stream_not_found")) => "; `mvctl streams` lists those that there are",
            (_, Some("unauthenticated")) => "; say who you are with --token, --token-file or --user",
            (_, Some("no_such_route")) => "; --server says where to ask",
            (_, Some("other_settings")) => "; `mvctl change` changes settings",
            _ => "",
        };
        Self::new(exit, format!("{}{advice}", error.to_string().trim_end_matches('.')))
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Request(error) => error.into(),
            ReadError::BelowFirst { .. } => {
                Self::new(Exit::Failed, format!("{error}; --skip-deleted goes on there"))
            }
            ReadError::Damaged { .. } => Self::new(Exit::Damage, error.to_string()),
            error => Self::new(Exit::Failed, error.to_string()),
        }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        let unknown = error.side_effects() == SideEffects::Possible;
        let exit = |failure: Self| {
            if unknown { Self::new(Exit::Unknown, failure.sentence) } else { failure }
        };
        match error {
            SendError::Request { error, .. } | SendError::AfterFailure { error, .. } => exit(error.into()),
            error => exit(Self::new(Exit::Failed, error.to_string())),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let exit = if error.kind() == ErrorKind::BrokenPipe { Exit::ClosedPipe } else { Exit::Failed };
        Self::new(exit, error.to_string())
    }
}

/// Says what is wrong with the arguments, or what was asked for: help, the version.
pub(crate) fn of_usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Where nobody reads it, nobody wanted it.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            return ExitCode::from(Exit::Usage as u8);
        }
        _ => {}
    }
    Failure::usage(format!("{} (mvctl --help tells more)", usage_sentence(&error.to_string()))).tell()
}

/// What is wrong with the arguments, in one line, with what may have been meant.
fn usage_sentence(text: &str) -> String {
    // What follows the first empty line are tips and usage.
    let mut lines = text.lines().map(str::trim);
    let wrong: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let wrong = wrong.join(" ");
    let mut sentence = wrong.strip_prefix("error: ").unwrap_or(&wrong).to_owned();
    for tip in lines.filter_map(|line| line.strip_prefix("tip: ")).filter(|tip| tip.contains("similar")) {
        sentence = format!("{sentence}; {tip}");
    }
    sentence
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn what_may_have_been_meant_is_said() {
        for (arguments, sentence) in [
            ("strems", "unrecognized subcommand 'strems'; a similar subcommand exists: 'streams'"),
            ("read orders --jsn", "unexpected argument '--jsn' found; a similar argument exists: '--json'"),
            ("read", "the following required arguments were not provided: <STREAM>"),
        ] {
            let error = Cli::try_parse_from(["mvctl"].into_iter().chain(arguments.split(' '))).unwrap_err();
            assert_eq!(usage_sentence(&error.to_string()), sentence);
        }
    }
}
