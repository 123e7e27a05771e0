//! The `vault-server` program: settings, storage, leadership, HTTP, and an orderly end.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use vault_server::config::{Config, NoConfig, StorageSetting};
use vault_server::env::Env;
use vault_server::http::app::{App, HttpSettings};
use vault_server::http::{router, serve, status};
use vault_server::limits::LEASE_PATIENCE;
use vault_server::log::Options;
use vault_server::log::leadership::{Leadership, LeadershipError};
use vault_server::log::vault::Vault;
use vault_server::logging;
use vault_server::storage::counted::Counted;
use vault_server::storage::file::FileStorage;
use vault_server::storage::memory::MemoryStorage;
use vault_server::storage::{LeaseId, Storage};

/// A setting is missing or wrong.
const WRONG_SETTINGS: u8 = 2;

fn main() -> ExitCode {
    let config = match Config::read(std::env::args_os()) {
        Ok(config) => config,
        Err(NoConfig::Asked(text)) => {
            say(&text);
            return ExitCode::SUCCESS;
        }
        Err(NoConfig::Wrong(sentence)) => return fail(&sentence, ExitCode::from(WRONG_SETTINGS)),
    };
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}"), ExitCode::FAILURE),
    }
}

fn start(config: Config) -> anyhow::Result<()> {
    logging::init(&config.log, config.log_format).map_err(anyhow::Error::from_boxed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(config))
}

async fn run(config: Config) -> anyhow::Result<()> {
    // From here on a signal ends the server in order, also while it starts.
    let signals = Signals::new()?;
    serve::raise_file_limit();
    let env = Env::real();
    let storage: Arc<Counted<dyn Storage>> = match &config.storage {
        StorageSetting::Memory => {
            tracing::warn!("messages are kept in memory: everything is lost when the server ends");
            Arc::new(Counted::new(Arc::new(MemoryStorage::new(env.clone()))))
        }
        StorageSetting::File(directory) => {
            Arc::new(Counted::new(Arc::new(FileStorage::open(directory, env.clone())?)))
        }
    };
    let options =
        Options { patience: config.request_timeout, max_puts_in_flight: config.storage.max_puts_in_flight() };
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}; choose another --listen", config.listen))?;
    let address = format!("http://{}", listener.local_addr()?);
    let (vault, reign_over) =
        Vault::new(Arc::clone(&storage) as Arc<dyn Storage>, env.clone(), config.prefix.clone(), options);
    let mut leadership = Leadership::new(vault.clone(), reign_over);
    let settings = HttpSettings {
        auto_create: config.auto_create,
        max_message_bytes: config.max_message_bytes(),
        append_timeout: config.append_timeout,
        idle_timeout: config.idle_timeout,
        advertise: config.advertise.clone().unwrap_or_else(|| address.clone()),
        storage: config.storage.kind(),
        prefix: config.prefix.as_str().to_owned(),
    };
    let app = App::new(vault, env, storage, settings);
    let ending = tokio::spawn(signals.end(app.stopping.clone()));

    let lease = tokio::select! {
        lease = leadership.acquire(LEASE_PATIENCE) => lease?,
        () = app.stopping.cancelled() => return Ok(()),
    };
    let step_down = CancellationToken::new();
    let leading = tokio::spawn(lead(leadership, lease, Arc::clone(&app), step_down.clone()));
    app.vault.until_led(LEASE_PATIENCE).await;
    greet(&address);
    serve::serve(Arc::clone(&app), router(Arc::clone(&app)), listener, config.max_connections()).await;
    // Only now that nobody can append any more is the rest stored and the lease given back.
    step_down.cancel();
    leading.await.context("the leadership broke down")?;
    ending.abort();
    tracing::info!("ended");
    Ok(())
}

/// Leads until `step_down`; where the lease is lost, tries to get it again for ever.
async fn lead(mut leadership: Leadership, mut lease: LeaseId, app: Arc<App>, step_down: CancellationToken) {
    loop {
        match leadership.lead(lease, &step_down).await {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(%error, "this server no longer leads");
                app.set_standing(error.to_string());
            }
        }
        lease = loop {
            // Storage that fails at once is not asked again at once.
            let tried = async {
                app.env.clock.sleep(vault_server::limits::TRY_LEASE_EVERY).await;
                leadership.acquire(LEASE_PATIENCE).await
            };
            let acquired = tokio::select! {
                () = step_down.cancelled() => return,
                acquired = tried => acquired,
            };
            match acquired {
                Ok(lease) => break lease,
                Err(error) => note_waiting(&app, &error),
            }
        };
    }
}

fn note_waiting(app: &App, error: &LeadershipError) {
    tracing::warn!(%error, "cannot lead yet");
    app.set_standing(error.to_string());
}

/// The signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// The first signal cancels `stopping`, the second ends the process at once.
    async fn end(mut self, stopping: CancellationToken) {
        self.next().await;
        tracing::info!("ending: requests in flight finish first; a second signal ends at once");
        stopping.cancel();
        self.next().await;
        tracing::warn!("ended by a second signal");
        std::process::exit(1);
    }
}

/// Says where the server listens, in a line that programs may look for, and what to try to people.
fn greet(address: &str) {
    tracing::info!(address, "listening");
    say(&format!("listening on {address}\n"));
    if std::io::stdout().is_terminal() {
        say("\nTry:\n");
        for line in status::examples(address) {
            say(&format!("  {line}\n"));
        }
    }
}

/// Nobody may be listening on stdout, which is no reason to end.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn fail(sentence: &str, code: ExitCode) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "vault-server: {sentence}");
    code
}
