//! A seed in a process of its own. tokio counts the runtimes of a process and lets the count into the order in which it
//! does things, so that only the first run of a process can be the same each time.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a process said of its seed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Played {
    /// Whether every promise was kept.
    pub well: bool,
    /// What the trace comes to.
    pub trace: String,
    /// How long it was for those in it.
    pub simulated: Duration,
    /// What is to be shown: what was broken, and how it went.
    pub text: String,
}

/// Plays a seed with the program `sim`, given more arguments.
pub fn play(sim: &Path, seed: u64, more: &[&str]) -> io::Result<Played> {
    let mut command = Command::new(sim);
    command.args(["--quiet", "--seed", &seed.to_string()]).args(more);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut played =
        Played { well: output.status.success(), trace: String::new(), simulated: Duration::ZERO, text };
    if let Some((first, rest)) = played.text.split_once('\n')
        && let Some((trace, ms)) = first.strip_prefix("trace ").and_then(|first| first.split_once(' '))
    {
        played.trace = trace.to_owned();
        played.simulated = Duration::from_millis(ms.parse().unwrap_or_default());
        played.text = rest.trim_end().to_owned();
    } else {
        played.well = false;
        played.text = format!("BROKEN seed {seed} came to no end: {}\n{}", output.status, played.text);
    }
    Ok(played)
}
