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
use vault_server::election::{Candidacy, Election};
use vault_server::env::Env;
use vault_server::http::app::{App, HttpSettings};
use vault_server::http::serve::Listening;
use vault_server::http::tls::{self, Tls};
use vault_server::http::{internal_router, router, serve, status};
use vault_server::limits::{HANDOVER_GRACE, MAX_INTERNAL_CONNECTIONS, START_PATIENCE};
use vault_server::log::Options;
use vault_server::log::vault::Vault;
use vault_server::logging;
use vault_server::storage::Storage;
use vault_server::storage::accounts::Accounts;
use vault_server::storage::azure::{self, AzureSettings, AzureStorage};
use vault_server::storage::counted::Counted;
use vault_server::storage::file::FileStorage;
use vault_server::storage::memory::MemoryStorage;
use vault_server::traces::environment::Exporting;

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
        let access = match &config.access {
            None => Access::for_everybody(Env::real()),
            Some(path) => Access::from_file(path.clone(), Env::real())?,
        };
        let traces = Exporting::begin(|name| std::env::var(name).ok())?;
        Ok(Self { azure: azure_settings(config)?, tls, trusted, access, traces })
    }
}

fn start(config: Config, mut given: Given) -> anyhow::Result<()> {
    logging::init(&config.log, config.log_format).map_err(anyhow::Error::from_boxed)?;
    let traces = given.traces.take();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(run(config, given, traces.is_some()));
    if let Some(traces) = traces {
        traces.end();
    }
    ended
}

async fn run(config: Config, given: Given, traced: bool) -> anyhow::Result<()> {
    // From here on a signal ends the server in order, also while it starts.
    let signals = Signals::new()?;
    serve::raise_file_limit();
    let env = Env::real();
    let Opened { storage, accounts } = open_storage(&config, given.azure, &env).await?;
    let storage: Arc<Counted<dyn Storage>> = Arc::new(Counted::new(storage, &env));
    let options = Options {
        patience: config.request_timeout,
        max_puts_in_flight: config.storage.max_puts_in_flight(),
        put_interval: config.storage.put_interval(),
        accounts,
    };
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
    let (vault, reign_over) =
        Vault::new(Arc::clone(&storage) as Arc<dyn Storage>, env.clone(), config.prefix.clone(), options);
    let candidacy = Candidacy { endpoint: advertise.clone(), vault_uid: config.vault_uid.clone() };
    let mut election = Election::new(vault.clone(), reign_over, candidacy);
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
        local_names_only: config.access.is_none()
            && !config.allow_anonymous
            && config.listen.ip().is_loopback(),
        access: Arc::clone(&given.access),
        traced,
    };
    let app = App::new(vault, env, storage, settings, election.standing());
    let ending = tokio::spawn(signals.end(app.stopping.clone()));
    let (access_kept, access_over) = {
        let over = CancellationToken::new();
        let until = over.clone();
        (tokio::spawn(async move { given.access.run(&until).await }), over)
    };
    let hand_over = CancellationToken::new();
    let mut elected = {
        let hand_over = hand_over.clone();
        tokio::spawn(async move { election.run(&hand_over).await })
    };
    let watching = given.tls.map(|tls| tokio::spawn(tls.watch(app.env.clone(), app.stopping.clone())));
    let mut serving = {
        let mut servings = JoinSet::new();
        let listening =
            Listening { listener, tls: app.settings.tls.clone(), max_connections: config.max_connections() };
        servings.spawn(serve::serve(Arc::clone(&app), router(Arc::clone(&app)), listening));
        if let Some(listener) = internal {
            let listening = Listening { listener, tls: None, max_connections: MAX_INTERNAL_CONNECTIONS };
            servings.spawn(serve::serve(Arc::clone(&app), internal_router(Arc::clone(&app)), listening));
        }
        tokio::spawn(servings.join_all())
    };
    tokio::select! {
        // Only a conflict, or a broken invariant, ends it before it is told to.
        ended = &mut elected => return Ok(ended.context("the election broke down")??),
        () = ready(&app) => greet(&address),
        () = app.stopping.cancelled() => {}
    }
    tokio::select! {
        ended = &mut elected => return Ok(ended.context("the election broke down")??),
        () = app.stopping.cancelled() => {}
    }
    // Requests in flight get a moment to finish. Then somebody else leads, however long the others take.
    let served = app.env.timeout(HANDOVER_GRACE, &mut serving).await.is_ok();
    hand_over.cancel();
    elected.await.context("the election broke down")??;
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

/// Storage as the settings name it.
struct Opened {
    storage: Arc<dyn Storage>,
    /// The accounts in which streams may live, the main one first.
    accounts: Vec<String>,
}

async fn open_storage(config: &Config, azure: Vec<AzureSettings>, env: &Env) -> anyhow::Result<Opened> {
    let storage: Arc<dyn Storage> = match &config.storage {
        StorageSetting::Memory => {
            tracing::warn!("messages are kept in memory: everything is lost when the server ends");
            Arc::new(MemoryStorage::new(env.clone()))
        }
        StorageSetting::File(directory) => Arc::new(FileStorage::open(directory, env.clone())?),
        StorageSetting::Azure(_) => return open_azure(azure, env).await,
    };
    Ok(Opened { storage, accounts: Vec::new() })
}

/// The storage accounts, the main one first, as the environment has them; none where storage is something else.
fn azure_settings(config: &Config) -> Result<Vec<AzureSettings>, String> {
    let StorageSetting::Azure(spec) = &config.storage else { return Ok(Vec::new()) };
    let variable = |name: &str| std::env::var(name).ok();
    let mut all = vec![azure::from_environment(spec, variable)?];
    for name in &config.accounts {
        let settings = azure::from_environment_named(name, variable)?;
        if all.iter().any(|other| other.account().name == settings.account().name) {
            return Err(format!("the storage account `{}` is named twice", settings.account().name));
        }
        all.push(settings);
    }
    Ok(all)
}

async fn open_azure(all: Vec<AzureSettings>, env: &Env) -> anyhow::Result<Opened> {
    let mut accounts: Vec<(String, Arc<dyn Storage>)> = Vec::new();
    for settings in all {
        let name = settings.account().name.clone();
        let storage = AzureStorage::connect(settings, env)?;
        match storage.why_unfit().await {
            Ok(None) => {}
            Ok(Some(why)) => anyhow::bail!(why),
            // It may come back, and a key or a role may be put right: the status tells until then.
            Err(error) => {
                tracing::warn!(account = name, %error, "the storage account cannot be asked what it is");
            }
        }
        accounts.push((name, Arc::new(storage)));
    }
    let names = accounts.iter().map(|(name, _)| name.clone()).collect();
    Ok(Opened { storage: Arc::new(Accounts::new(accounts)), accounts: names })
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
