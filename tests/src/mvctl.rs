//! The `mvctl` program: run to its end, or left running.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::server::program_named;
use crate::signals;

/// Where `mvctl` is.
#[must_use]
pub fn program() -> std::path::PathBuf {
    program_named("mvctl")
}

/// The program, asked to speak to one server.
#[derive(Clone, Debug)]
pub struct Mvctl {
    url: String,
    environment: Vec<(String, String)>,
}

/// What it did.
#[derive(Clone, Debug)]
pub struct Said {
    /// How it ended; `None` where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub out: Vec<u8>,
    /// What it wrote to stderr.
    pub err: String,
}

impl Mvctl {
    /// For the server that listens there.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        Self { url: format!("http://{address}"), environment: Vec::new() }
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The program with these arguments, its outputs gathered. Nothing of this process' settings reaches it.
    #[must_use]
    pub fn command<T: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = T>) -> Command {
        let mut command = Command::new(program());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MESSAGEVAULT_") {
                command.env_remove(name);
            }
        }
        command.env("MESSAGEVAULT_URL", &self.url).envs(self.environment.iter().cloned()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run<T: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = T>) -> Said {
        let output = self.command(arguments).output().expect("mvctl can be started");
        Said::of(output)
    }

    /// Runs it to its end with something on stdin.
    #[must_use]
    pub fn run_with<T: AsRef<OsStr>>(&self, input: &[u8], arguments: impl IntoIterator<Item = T>) -> Said {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("mvctl can be started");
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // It may have had enough.
                let _ = stdin.write_all(input);
            });
            Said::of(child.wait_with_output().expect("the process is ours"))
        })
    }

    /// Starts it, and leaves it running, with pipes to all three.
    #[must_use]
    pub fn start<T: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = T>) -> Child {
        self.command(arguments).stdin(Stdio::piped()).spawn().expect("mvctl can be started")
    }
}

/// The lines of a running process, as they come. Whoever waits for one in vain learns it from the time-out.
#[must_use]
pub fn lines(stdout: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Presses Ctrl-C.
pub fn interrupt(child: &Child) {
    signals::send(Pid::from_child(child), Signal::INT);
}

impl Said {
    /// What a process did that has ended.
    #[must_use]
    pub fn of(output: std::process::Output) -> Self {
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { code: output.status.code(), out: output.stdout, err }
    }

    /// It must have ended so.
    #[track_caller]
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.text(), self.err);
        self
    }

    /// It must have refused, in one sentence that says this.
    #[track_caller]
    pub fn refuses(self, code: i32, saying: &str) {
        let said = self.expect(code);
        let sentence = said.err.trim_end();
        assert!(sentence.starts_with("mvctl: ") && !sentence.contains('\n'), "{sentence}");
        assert!(sentence.contains(saying), "`{saying}` is not in: {sentence}");
    }

    /// What it wrote to stdout, as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// What it wrote to stdout, a JSON document a line.
    #[track_caller]
    #[must_use]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON: {error}: {line}"))
        };
        self.text().lines().map(parse).collect()
    }

    /// What it wrote to stdout, one JSON document.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        let mut lines = self.json_lines();
        assert_eq!(lines.len(), 1, "one document: {}", self.text());
        lines.remove(0)
    }
}
