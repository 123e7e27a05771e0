//! The Azurite process, an emulator of Azure Storage: start, pause, kill, restart.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::proxy::Proxy;
use crate::server::temporary_directory;
use crate::signals;
use crate::wait::{LONG, until};

/// The account that Azurite has unless it is given another. Its key is the same everywhere and no secret.
pub const ACCOUNT: (&str, &str) = (
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
);

const LISTENING: &str = "successfully listens on ";

/// Where the program is.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("AZURITE_BLOB") {
        return path.into();
    }
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("install-azurite");
    let answer = Command::new(&install).arg("--where").output().expect("the script can be run");
    let path = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    assert!(path.is_file(), "Azurite is not installed: run {}, or set AZURITE_BLOB", install.display());
    path
}

/// How Azurite is started.
#[derive(Clone, Debug)]
pub struct Setup {
    directory: Option<PathBuf>,
    certificate: Option<(PathBuf, PathBuf)>,
    account: (String, String),
    more_accounts: Vec<(String, String)>,
    /// Instead of those that these tests choose.
    arguments: Option<Vec<String>>,
    port: u16,
}

impl Default for Setup {
    fn default() -> Self {
        let (name, key) = ACCOUNT;
        let account = (name.to_owned(), key.to_owned());
        Self {
            directory: None,
            certificate: None,
            account,
            more_accounts: Vec::new(),
            arguments: None,
            port: 0,
        }
    }
}

impl Setup {
    /// Everything in memory.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// Everything in `directory`, so that it outlives the process.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self { directory: Some(directory.to_owned()), ..Self::default() }
    }

    /// With these arguments, at any port of loopback that is free instead of those that they name.
    #[must_use]
    pub fn with_arguments(arguments: &[String]) -> Self {
        Self { arguments: Some(arguments.to_vec()), ..Self::default() }
    }

    /// Over https, with a certificate and its key, both PEM. Tokens are accepted as well then, unverified.
    #[must_use]
    pub fn https(self, certificate: &Path, key: &Path) -> Self {
        Self { certificate: Some((certificate.to_owned(), key.to_owned())), ..self }
    }

    /// With an account and its key in base64 instead of [`ACCOUNT`].
    #[must_use]
    pub fn account(self, name: &str, key: &str) -> Self {
        Self { account: (name.to_owned(), key.to_owned()), ..self }
    }

    /// With a further account and its key in base64.
    #[must_use]
    pub fn and_account(mut self, name: &str, key: &str) -> Self {
        self.more_accounts.push((name.to_owned(), key.to_owned()));
        self
    }

    /// On this port instead of any that is free.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Starts it and waits until it listens.
    #[must_use]
    pub fn start(self) -> Azurite {
        let scratch = temporary_directory();
        let (child, url) = self.spawn(scratch.path());
        Azurite { setup: self, child, url, scratch, running: true }
    }

    fn spawn(&self, scratch: &Path) -> (Child, String) {
        let mut command = Command::new(program());
        if let Some(arguments) = &self.arguments {
            let elsewhere = |argument: &&String| {
                !argument.starts_with("--blobHost=") && !argument.starts_with("--blobPort=")
            };
            command.args(arguments.iter().filter(elsewhere));
        } else {
            command.args(["--silent", "--disableTelemetry"]);
            match &self.directory {
                Some(directory) => command.arg("--location").arg(directory),
                None => command.arg("--inMemoryPersistence"),
            };
        }
        command.args(["--blobHost", "127.0.0.1"]).arg("--blobPort").arg(self.port.to_string());
        if let Some((certificate, key)) = &self.certificate {
            command.arg("--cert").arg(certificate).arg("--key").arg(key).args(["--oauth", "basic"]);
        }
        let accounts = std::iter::once(&self.account).chain(&self.more_accounts);
        let accounts: Vec<_> = accounts.map(|(name, key)| format!("{name}:{key}")).collect();
        command.env("AZURITE_ACCOUNTS", accounts.join(";"));
        // It would answer nobody for minutes, ten minutes after its start.
        let preload = concat!("--require \"", env!("CARGO_MANIFEST_DIR"), "/azurite/never-collect.cjs\"");
        command.env("NODE_OPTIONS", preload);
        // It leaves files where it runs.
        command.current_dir(scratch).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("Azurite can be started; it needs node");
        let said = [keep(child.stdout.take()), keep(child.stderr.take())];
        let told = || said.iter().map(|said| lock(said).clone()).collect::<String>();
        let url = until("Azurite listens", LONG, || {
            let ended = child.try_wait().expect("the process is ours");
            assert!(ended.is_none(), "Azurite ended at once\n{}", told());
            told().lines().find_map(|line| Some(line.split_once(LISTENING)?.1.trim().to_owned()))
        });
        (child, url)
    }
}

fn lock(said: &Mutex<String>) -> std::sync::MutexGuard<'_, String> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Azurite writes a few lines; the thread ends with it.
fn keep(output: Option<impl Read + Send + 'static>) -> Arc<Mutex<String>> {
    let output = output.expect("both outputs are pipes");
    let said = Arc::new(Mutex::new(String::new()));
    let kept = said.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let mut kept = lock(&kept);
            kept.push_str(&line);
            kept.push('\n');
        }
    });
    said
}

/// A running Azurite. It ends with the value.
#[derive(Debug)]
pub struct Azurite {
    setup: Setup,
    child: Child,
    url: String,
    scratch: TempDir,
    running: bool,
}

impl Azurite {
    /// One in memory for all tests of a program that run at the moment: each takes 150 MB.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Azurite>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Setup::in_memory().start());
            *shared = Arc::downgrade(&started);
            started
        })
    }

    /// The URL of the account's blob service.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}/{}", self.url, self.setup.account.0)
    }

    /// The connection string of its account, with the key.
    #[must_use]
    pub fn connection_string(&self) -> String {
        let (name, key) = &self.setup.account;
        format!("AccountName={name};AccountKey={key};BlobEndpoint={};", self.endpoint())
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        let port = self.url.rsplit(':').next().and_then(|port| port.parse().ok());
        port.expect("Azurite says on which port it listens")
    }

    /// A way to it that can be made to fail, and the connection string of the same account that leads over it.
    ///
    /// # Errors
    ///
    /// Where there is no port.
    pub async fn behind_proxy(&self, seed: u64) -> std::io::Result<(Proxy, String)> {
        let proxy = Proxy::before(SocketAddr::from(([127, 0, 0, 1], self.port())), seed).await?;
        let [direct, over] = [self.port(), proxy.address().port()].map(|port| format!(":{port}/"));
        Ok((proxy, self.connection_string().replace(&direct, &over)))
    }

    /// Stops it where it stands. Connections are accepted, but nobody answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it at once, as a crash would. What it was told in its last five seconds it may forget.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Ends it in order, so that it forgets nothing that stands in a directory.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    fn end(&mut self, signal: Signal) {
        self.signal(signal);
        self.child.wait().expect("the process is ours");
        self.running = false;
    }

    /// Starts it again, after it has ended, on the same port. What it had in memory is gone, what stands in a
    /// directory is there again.
    pub fn restart(&mut self) {
        assert!(!self.running, "only one that has ended is started again");
        self.setup.port = self.port();
        (self.child, self.url) = self.setup.spawn(self.scratch.path());
        self.running = true;
    }

    fn signal(&self, signal: Signal) {
        signals::send(Pid::from_child(&self.child), signal);
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        if self.running {
            // It may have ended by itself; there is nobody left to tell.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
