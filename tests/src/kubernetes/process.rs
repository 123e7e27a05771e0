//! A process with a log that ends with its value.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal};

use crate::signals;

/// How much of a log is shown where something failed.
const LINES_SHOWN: usize = 40;

/// A running process, or one that has ended and was not replaced yet.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts it. What it writes to either output goes behind what stands in `log`.
    pub fn start(mut command: Command, log: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Self { child: command.spawn()?, log: log.to_owned(), ended: None })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// How it ended, once it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("the process is ours");
        }
        self.ended
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            signals::send(self.pid(), signal);
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            // It may have ended by itself; there is nobody left to tell.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// The end of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log.
#[must_use]
pub fn tail(log: &Path) -> String {
    let text = text(log);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    shown.iter().map(|line| format!("{line}\n")).collect()
}

/// All that stands in a log. There may be none yet.
#[must_use]
pub fn text(log: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
}
