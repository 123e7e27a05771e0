//! The `vault-server` program: settings, storage, election, HTTP, and an orderly end.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use vault_server::access::Access;
use vault_server::authorities;
use vault_server::config::{Config, NoConfig, StorageSetting};
use vault_server::env::Env;
use vault_server::http::app::{App, HttpSettings};
use vault_server::http::serve::Listening;
use vault_server::http::tls::{self, Tls};
use vault_server::http::{serve, status};
use vault_server::limits::{HANDOVER_GRACE, MAX_INTERNAL_CONNECTIONS, START_PATIENCE};
use vault_server::log::Options;
use vault_server::logging;
use vault_server::node::Node;
use vault_server::storage::azure::AzureSettings;
use vault_server::storage::open::{self, Opened};
use vault_server::traces::environment::Exporting;

/// Bodies and puts of megabytes come and go: the C library's allocator gives their memory back to the system and asks for
/// it anew, page by page, with every other one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    let given = match Given::read(&config) {
        Ok(given) => given,
        Err(sentence) => return fail(&sentence, ExitCode::from(WRONG_SETTINGS)),
    };
    match start(config, given) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}"), ExitCode::FAILURE),
    }
}

/// What the settings point at: variables of the environment, and files.
struct Given {
    azure: Vec<AzureSettings>,
    tls: Option<Tls>,
    trusted: Vec<reqwest::Certificate>,
    access: Arc<Access>,
    traces: Option<Exporting>,
}

impl Given {
    /// Fails with a sentence where something is missing or wrong.
    fn read(config: &Config) -> Result<Self, String> {
        let tls = config.tls_cert.as_deref().zip(config.tls_key.as_deref());
        let tls = tls.map(|(certificate, key)| tls::open(certificate, key)).transpose()?;
        let trusted = config.tls_ca.as_deref().map_or(Ok(Vec::new()), authorities::from_file)?;
        let access = if config.access.is_empty() {
            Access::for_everybody(Env::real())
        } else {
            Access::from_files(config.access.clone(), Env::real())?
        };
        let traces = Exporting::begin(|name| std::env::var(name).ok())?;
        let variable = |name: &str| std::env::var(name).ok();
        let azure = open::azure_settings(&config.storage, &config.accounts, variable)?;
        Ok(Self { azure, tls, trusted, access, traces })
    }
}

fn start(config: Config, mut given: Given) -> anyhow::Result<()> {
    logging::init(&config.log, config.log_format).map_err(anyhow::Error::from_boxed)?;
    #[cfg(feature = "canaries")]
    make_mistakes()?;
    let traces = given.traces.take();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(run(config, given, traces.is_some()));
    if let Some(traces) = traces {
        traces.end();
    }
    ended
}

/// Makes the mistake on purpose that the environment names, in builds for tests of tests.
#[cfg(feature = "canaries")]
fn make_mistakes() -> anyhow::Result<()> {
    use vault_format::canary::{Canary, VARIABLE};
    let Ok(name) = std::env::var(VARIABLE) else { return Ok(()) };
    let canary = Canary::named(&name).with_context(|| format!("{VARIABLE}: there is no mistake `{name}`"))?;
    tracing::warn!(name, "a mistake is made on purpose");
    canary.switch_on_everywhere();
    Ok(())
}

async fn run(config: Config, given: Given, traced: bool) -> anyhow::Result<()> {
    // From here on a signal ends the server in order, also while it starts.
    let signals = Signals::new()?;
    serve::raise_file_limit();
    let env = Env::real();
    if config.storage == StorageSetting::Memory {
        tracing::warn!("messages are kept in memory: everything is lost when the server ends");
    }
    let Opened { storage, accounts } = open::open(&config.storage, given.azure, &env).await?;
    let options = Options { patience: config.request_timeout, pacing: config.storage.pacing(), accounts };
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}; choose another --listen", config.listen))?;
    let scheme = if given.tls.is_some() { "https" } else { "http" };
    let address = format!("{scheme}://{}", listener.local_addr()?);
    let internal = match config.internal_listen {
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen on {address}; choose another --internal-listen"))?,
        ),
        None => None,
    };
    let advertise = config.advertise.clone().unwrap_or_else(|| address.clone());
    let settings = HttpSettings {
        auto_create: config.auto_create(),
        max_message_bytes: config.max_message_bytes(),
        append_timeout: config.append_timeout,
        idle_timeout: config.idle_timeout,
        advertise,
        storage: config.storage.kind(),
        prefix: config.prefix.as_str().to_owned(),
        internal_listener: internal.is_some(),
        tls: given.tls.clone(),
        trusted: given.trusted,
        tls_name: config.tls_name.clone(),
        local_names_only: config.access.is_empty()
            && !config.allow_anonymous
            && config.listen.ip().is_loopback(),
        access: Arc::clone(&given.access),
        traced,
        carrier: None,
    };
    let mut node =
        Node::start(storage, env, config.prefix.clone(), config.vault_uid.clone(), options, settings);
    let app = node.app();
    let ending = tokio::spawn(signals.end(app.stopping.clone()));
    let (access_kept, access_over) = {
        let over = CancellationToken::new();
        let until = over.clone();
        (tokio::spawn(async move { given.access.run(&until).await }), over)
    };
    let watching = given.tls.map(|tls| tokio::spawn(tls.watch(app.env.clone(), app.stopping.clone())));
    let mut serving = {
        let mut servings = JoinSet::new();
        let listening =
            Listening { listener, tls: app.settings.tls.clone(), max_connections: config.max_connections() };
        servings.spawn(serve::serve(Arc::clone(&app), node.router(), listening));
        if let Some(listener) = internal {
            let listening = Listening { listener, tls: None, max_connections: MAX_INTERNAL_CONNECTIONS };
            servings.spawn(serve::serve(Arc::clone(&app), node.internal_router(), listening));
        }
        tokio::spawn(servings.join_all())
    };
    tokio::select! {
        ended = node.ended() => return Ok(ended?),
        () = ready(&app) => greet(&address),
        () = app.stopping.cancelled() => {}
    }
    tokio::select! {
        ended = node.ended() => return Ok(ended?),
        () = app.stopping.cancelled() => {}
    }
    // Requests in flight get a moment to finish. Then somebody else leads, however long the others take.
    let served = app.env.timeout(HANDOVER_GRACE, &mut serving).await.is_ok();
    node.hand_over().await?;
    if !served {
        serving.await.context("the listener broke down")?;
    }
    if let Some(watching) = watching {
        watching.await.context("looking at files broke down")?;
    }
    ending.abort();
    access_over.cancel();
    access_kept.await.context("keeping the access file broke down")?;
    tracing::info!("ended");
    Ok(())
}

/// Waits until this server can serve reads, and appends as well where it is the one that will lead; not for ever.
async fn ready(app: &App) {
    let mut standing = app.standing.clone();
    let ready = standing.wait_for(|standing| standing.why_not_ready().is_none() && standing.leader.is_some());
    if app.env.timeout(START_PATIENCE, ready).await.is_err() {
        let why = app.standing.borrow().trouble.clone().unwrap_or_else(|| "no server leads yet".to_owned());
        tracing::warn!(why, "not ready yet; trying on");
    }
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
