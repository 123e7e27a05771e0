//! A seed in a process of its own. tokio counts the runtimes of a process and lets the count into the order in which it
//! does things, so that only the first run of a process can be the same each time.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use vault_tests::history::Tally;
use vault_tests::process::output_within;

/// How long a seed may take, on any clock: one takes seconds, and what is not over by then goes round in circles.
pub const SEED_TIME: Duration = Duration::from_secs(300);

/// The exit status of a program that does not take its arguments.
const USAGE: i32 = 2;

/// What a process said of its seed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Played {
    /// Whether every promise was kept.
    pub well: bool,
    /// What the trace comes to.
    pub trace: String,
    /// How long it was for those in it.
    pub simulated: Duration,
    /// How it went, if it came to an end.
    pub tally: Option<Tally>,
    /// What is to be shown: what was broken, and how it went.
    pub text: String,
}

impl Played {
    fn without_end(text: String) -> Self {
        Self { well: false, trace: String::new(), simulated: Duration::ZERO, tally: None, text }
    }
}

/// Plays a seed with the program `sim`, given more arguments, and ends it after [`SEED_TIME`].
///
/// # Errors
///
/// When it cannot be started, or does not take these arguments.
pub fn play(sim: &Path, seed: u64, more: &[&str]) -> io::Result<Played> {
    play_within(SEED_TIME, sim, seed, more)
}

/// The same with another limit.
///
/// # Errors
///
/// As for [`play`].
pub fn play_within(limit: Duration, sim: &Path, seed: u64, more: &[&str]) -> io::Result<Played> {
    let mut command = Command::new(sim);
    command.args(["--quiet", "--seed", &seed.to_string()]).args(more);
    let Some(output) = output_within(limit, &mut command)? else {
        return Ok(Played::without_end(format!("BROKEN seed {seed} was not over after {limit:?}")));
    };
    let (text, status) = (String::from_utf8_lossy(&output.stdout).into_owned(), output.status);
    if status.code() == Some(USAGE) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{more:?} are no arguments of it")));
    }
    let first = text.split_once('\n').and_then(|(first, rest)| {
        let (trace, ms) = first.strip_prefix("trace ")?.split_once(' ')?;
        Some((trace, ms.parse().ok()?, rest.trim_end()))
    });
    let Some((trace, ms, rest)) = first else {
        return Ok(Played::without_end(format!("BROKEN seed {seed} came to no end: {status}\n{text}")));
    };
    Ok(Played {
        well: status.success(),
        trace: trace.to_owned(),
        simulated: Duration::from_millis(ms),
        tally: rest.lines().last().and_then(|line| Tally::parse(seed, line)),
        text: rest.to_owned(),
    })
}
