//! The `vault-server` process: start, kill, pause, restart, its log.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::client::Client;
use crate::wait::{LONG, until};
use crate::{process, signals};

const LINES_KEPT: usize = 2_000;
const LISTENING: [&str; 2] = ["listening on http://", "listening on https://"];

/// An empty directory that goes with the value. It honours `TMPDIR`.
#[must_use]
pub fn temporary_directory() -> TempDir {
    tempfile::Builder::new()
        .prefix("message-vault-test-")
        .tempdir()
        .expect("there is room for temporary files")
}

/// Where a program of the workspace is, next to the one that runs; `None` where it is not built.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let this = std::env::current_exe().expect("the running program has a path");
    let mut built = this.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    built.find(|path| path.is_file())
}

/// The same, where it must be there.
#[must_use]
pub fn program_named(name: &str) -> PathBuf {
    find_program(name).unwrap_or_else(|| {
        panic!("there is no {name} beside the test program: run ./tests/run, which builds it first")
    })
}

/// Where the server is.
#[must_use]
pub fn program() -> PathBuf {
    program_named("vault-server")
}

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Setup {
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    wrapper: Vec<OsString>,
}

impl Setup {
    /// No settings at all, and none from this process's environment either.
    #[must_use]
    pub fn bare() -> Self {
        Self { arguments: Vec::new(), environment: Vec::new(), wrapper: Vec::new() }
    }

    /// File storage in `directory`, on a free port of this machine.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self::at(directory, "127.0.0.1:0")
    }

    /// File storage in `directory`, listening on `address`.
    #[must_use]
    pub fn at(directory: &Path, address: &str) -> Self {
        let mut storage = OsString::from("file:");
        storage.push(directory);
        Self::bare().with(["--listen", address, "--log-format", "human", "--storage"]).with([storage])
    }

    /// With further arguments.
    #[must_use]
    pub fn with<T: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Started by another program, which must become the server (`exec`) so that signals reach it.
    #[must_use]
    pub fn wrapped_in<T: Into<OsString>>(mut self, wrapper: impl IntoIterator<Item = T>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    fn spawn(&self) -> Child {
        let mut words = self.wrapper.iter().cloned().chain([program().into_os_string()]);
        let first = words.next().expect("there is the server at least");
        let mut command = Command::new(first);
        command.args(words).args(&self.arguments).env_remove("RUST_LOG");
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("MESSAGEVAULT_") || name_text.starts_with("AZURE_") {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the server can be started")
    }

    /// Starts the server and waits until it can be used.
    #[must_use]
    pub fn start(&self) -> Server {
        Server::start(self.clone())
    }

    /// Starts the server and waits until it listens on `address`, which its settings name; it may not be ready.
    #[must_use]
    pub fn start_unready(&self, address: SocketAddr) -> Server {
        let mut server = Server::spawn(self.clone());
        server.address = address;
        let client = server.client();
        until("the server listens", LONG, || {
            server.assert_runs();
            client.send("GET", "/livez", &[], None).ok().filter(|answer| answer.status == 200)
        });
        server
    }

    /// Starts a server that is expected to end by itself: its exit code, and what it wrote to stderr.
    #[must_use]
    pub fn run_to_end(&self, limit: Duration) -> (Option<i32>, String) {
        let mut child = self.spawn();
        let log = Log::default();
        let readers = [log.keep(child.stdout.take(), false), log.keep(child.stderr.take(), true)];
        let status = end_of(&mut child, limit).unwrap_or_else(|| {
            // It is ours, and nothing else would end it.
            let _ = child.kill();
            let _ = child.wait();
            panic!("still running after {limit:?}: {self:?}\n{}", log.shown());
        });
        readers.into_iter().for_each(|reader| reader.join().expect("reading lines does not panic"));
        (status.code(), log.errors())
    }
}

/// A running server, or one that was killed and may be started again. It ends with the value.
#[derive(Debug)]
pub struct Server {
    setup: Setup,
    child: Child,
    address: SocketAddr,
    log: Log,
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

impl Server {
    fn spawn(setup: Setup) -> Self {
        let mut child = setup.spawn();
        let log = Log::default();
        let readers = vec![log.keep(child.stdout.take(), false), log.keep(child.stderr.take(), true)];
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { setup, child, address, log, readers, ended: None }
    }

    fn assert_runs(&mut self) {
        let ended = self.exited(LONG / 1_000);
        assert!(ended.is_none(), "the server ended at once\n{}", self.log.shown());
    }

    fn start(setup: Setup) -> Self {
        let mut server = Self::spawn(setup);
        server.address = until("the server says where it listens", LONG, || {
            server.assert_runs();
            server.log.address()
        });
        if server.setup.arguments.iter().any(|argument| argument == "--tls-cert") {
            // It says where it listens when it is ready, and a client would have to be told whom to trust.
            return server;
        }
        let client = server.client();
        until("the server is ready", LONG, || {
            client.send("GET", "/readyz", &[], None).ok().filter(|answer| answer.status == 200)
        });
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new client, with connections of its own.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// All that it wrote, as far as it is kept.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.shown()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_for_end(LONG);
    }

    /// Asks it to end, and waits at most `limit`.
    pub fn stop(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_for_end(limit)
    }

    /// Asks it to end in order, and panics unless it does so.
    pub fn stop_in_order(&mut self) {
        let status = self.stop(LONG);
        assert_eq!(status.code(), Some(0), "an orderly end");
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        signals::send(self.pid(), signal);
    }

    /// Starts it again, after it has ended, with the same settings.
    pub fn restart(&mut self) {
        assert!(self.ended.is_some(), "only a server that has ended is started again");
        *self = Self::start(self.setup.clone());
    }

    /// Memory that it holds now and held at most, in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> (u64, u64) {
        process::resident(self.pid()).expect("the process runs")
    }

    /// Waits for the end and panics when there is none within `limit`.
    pub fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        let status = self.exited(limit);
        status.unwrap_or_else(|| panic!("the server did not end within {limit:?}"))
    }

    fn exited(&mut self, limit: Duration) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = end_of(&mut self.child, limit);
            if self.ended.is_some() {
                let readers = std::mem::take(&mut self.readers);
                readers.into_iter().for_each(|reader| reader.join().expect("reading lines does not panic"));
            }
        }
        self.ended
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "a test that fails shows what the server said")]
    fn drop(&mut self) {
        if self.ended.is_none() {
            // It may have ended by itself; there is nobody left to tell.
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.readers.drain(..).for_each(|reader| {
                let _ = reader.join();
            });
        }
        if std::thread::panicking() {
            eprintln!("--- what the server wrote\n{}--- end of what the server wrote", self.log.shown());
        }
    }
}

fn end_of(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        let status = child.try_wait().expect("the process is ours");
        if status.is_some() || Instant::now() >= end {
            return status;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The newest lines of both outputs, those of stderr marked.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<VecDeque<(bool, String)>>>);

impl Log {
    fn keep(&self, output: Option<impl Read + Send + 'static>, is_error: bool) -> JoinHandle<()> {
        let output = output.expect("both outputs are pipes");
        let log = self.clone();
        std::thread::spawn(move || {
            // A line that is not text ends the log, not the server.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut lines = log.lines();
                if lines.len() == LINES_KEPT {
                    lines.pop_front();
                }
                lines.push_back((is_error, line));
            }
        })
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<(bool, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self) -> Option<SocketAddr> {
        let lines = self.lines();
        let (_, said) =
            lines.iter().find_map(|(_, line)| LISTENING.iter().find_map(|said| line.split_once(said)))?;
        let end = said.find(|c: char| !(c.is_ascii_digit() || ".:".contains(c))).unwrap_or(said.len());
        said[..end].parse().ok()
    }

    fn shown(&self) -> String {
        self.lines().iter().map(|(_, line)| format!("{line}\n")).collect()
    }

    fn errors(&self) -> String {
        self.lines().iter().filter(|(is_error, _)| *is_error).map(|(_, line)| format!("{line}\n")).collect()
    }
}
