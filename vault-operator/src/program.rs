//! The program from its start to an orderly end.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use kube::Client;
use kube::api::ListParams;
use kube::runtime::events::{Recorder, Reporter};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vault_server::env::Env;
use vault_server::logging;

use crate::api::names::FIELD_MANAGER;
use crate::api::{MessageVault, VaultStream};
use crate::bootstrap;
use crate::cluster::{Asking, Facts};
use crate::config::Config;
use crate::connection::{self, explained};
use crate::controller::pace::Paces;
use crate::controller::run::{Stores, scope};
use crate::controller::{self, Operator};
use crate::desired::Options;
use crate::health::{self, Health};
use crate::lease::{ApiLease, Contender, Held, Lost, Tenure};
use crate::limits::{END_PATIENCE, LET_GO, LOOK_AT_FILES_EVERY, RETRY_FIRST};
use crate::metrics::Metrics;
use crate::servers::Servers;
use crate::vaults::Vaults;

/// Runs the operator until it is told to end.
pub fn run(config: Config) -> anyhow::Result<()> {
    logging::init(&config.log, config.log_format).map_err(anyhow::Error::from_boxed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(run_on(config));
    // A name that is being looked up, for one, is not waited for.
    runtime.shutdown_timeout(LET_GO);
    outcome
}

async fn run_on(config: Config) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    tokio::spawn(end_on_signals(stop.clone())?);
    let metrics = Arc::new(Metrics::new()?);
    let (ready, why_not_ready) = watch::channel(Some("starting".to_owned()));
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}; choose another --listen", config.listen))?;
    tracing::info!(address = %listener.local_addr()?, "health and metrics");
    // It answers until all else has ended.
    let over = CancellationToken::new();
    let health = Health { metrics: Arc::clone(&metrics), why_not_ready };
    let serving = tokio::spawn(health::serve(listener, health, over.clone()));
    let env = Env::real();
    let program = Program { config, env: env.clone(), metrics, ready, stop };
    let outcome = program.run().await;
    over.cancel();
    // Somebody who asks slowly does not keep the next operator from its work.
    if let Ok(served) = env.timeout(LET_GO, serving).await {
        served.context("health and metrics broke down")??;
    }
    outcome?;
    tracing::info!("ended");
    Ok(())
}

/// The first signal ends the program in order, the second at once.
fn end_on_signals(stop: CancellationToken) -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        for last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if last {
                tracing::warn!("ended by a second signal");
                std::process::exit(1);
            }
            tracing::info!("ending: what is under way is finished first; a second signal ends at once");
            stop.cancel();
        }
    })
}

/// What the program goes by.
struct Program {
    config: Config,
    env: Env,
    metrics: Arc<Metrics>,
    /// Why it is not ready; `None` where it is.
    ready: watch::Sender<Option<String>>,
    /// That it is to end.
    stop: CancellationToken,
}

/// What works once the Lease is held.
struct Work {
    operator: Arc<Operator>,
    stores: Stores,
    asking: Asking,
    options: watch::Sender<Options>,
}

impl Program {
    async fn run(&self) -> anyhow::Result<()> {
        let Self { config, env, .. } = self;
        let (client, api_server) = connection::connect(env).await.map_err(anyhow::Error::from_boxed).context(
            "there is no API server: run in a pod with a ServiceAccount, or with a kubeconfig (KUBECONFIG, \
             ~/.kube/config)",
        )?;
        if !self.until_installed(&client).await {
            return Ok(());
        }
        let asking = Asking::new(client.clone(), api_server, config);
        let Some(facts) = self.until_known(&asking).await else { return Ok(()) };
        let lease = ApiLease::new(client.clone(), &config.namespace, &config.lease);
        let contender = Contender::new(Arc::new(lease), env.clone(), &config.identity);
        let work = self.prepare(client, asking, facts)?;
        tracing::info!(lease = config.lease, identity = contender.identity(), "waiting for the Lease");
        // A standby is as ready as it can be: a rollout must not wait for it to work.
        let Some(held) = contender.take(&self.stop, |trouble| self.tell_of_lease(trouble)).await else {
            return Ok(());
        };
        tracing::info!(lease = config.lease, "this operator works");
        self.metrics.set_leading(true);
        let outcome = self.work(work, held).await;
        self.metrics.set_leading(false);
        outcome.with_context(|| format!("the operator has stopped working (Lease {})", config.lease))
    }

    fn prepare(&self, client: Client, asking: Asking, facts: Facts) -> anyhow::Result<Work> {
        let config = &self.config;
        let stores = Stores::default();
        let options = watch::Sender::new(Options {
            server_image: config.server_image.clone(),
            cluster_issuer: facts.issuer,
            monitoring: false,
        });
        let reporter =
            Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(config.identity.clone()) };
        let operator = Arc::new(Operator {
            cluster: facts.uid,
            vaults: Vaults::new(
                client.clone(),
                self.env.clone(),
                config.tenant_id.clone(),
                config.look_every,
            ),
            servers: Servers::new()?,
            known_vaults: stores.vaults(),
            known_streams: stores.streams(),
            recorder: Recorder::new(client.clone(), reporter),
            metrics: Arc::clone(&self.metrics),
            paces: Paces::new(config.look_every),
            options: options.subscribe(),
            env: self.env.clone(),
            client,
        });
        count_requests(&operator);
        Ok(Work { operator, stores, asking, options })
    }

    /// Works until it is to end, or until the Lease is lost. Nothing works any more by the end.
    async fn work(&self, work: Work, mut held: Held) -> anyhow::Result<()> {
        let seen = work.stores.seen_once();
        let controllers = CancellationToken::new();
        let (config, env, tenure) = (self.config.clone(), self.env.clone(), held.tenure());
        let mut working = tokio::spawn(work.until(config, env, tenure, controllers.clone()));
        self.tell(Some("reading the resources for the first time".to_owned()));
        let broken = || anyhow::anyhow!("reconciling broke down; the log says where");
        let mut wrong: Option<anyhow::Error> = tokio::select! {
            () = self.stop.cancelled() => None,
            lost = held.lost() => return self.abandon(held, &working, lost).await,
            _ = &mut working => Some(broken()),
            () = async {
                seen.await;
                self.tell(None);
                tracing::info!("ready");
                std::future::pending::<()>().await;
            } => None,
        };
        self.tell(Some("ending".to_owned()));
        controllers.cancel();
        if wrong.is_none() {
            tokio::select! {
                lost = held.lost() => return self.abandon(held, &working, lost).await,
                ended = self.env.timeout(END_PATIENCE, &mut working) => match ended {
                    Ok(ended) => wrong = ended.is_err().then(broken),
                    Err(_) => tracing::warn!(
                        "a reconciliation takes too long; it is left, and taken up again by the next operator"
                    ),
                }
            }
        }
        working.abort();
        if self.env.timeout(LET_GO, held.stop_work()).await.is_ok() {
            held.give_back().await?;
        } else {
            tracing::error!("a reconciliation cannot be stopped; the Lease is left to run out");
        }
        wrong.map_or(Ok(()), Err)
    }

    /// Gives everything up at once: another operator may be at work already.
    async fn abandon(&self, held: Held, working: &JoinHandle<()>, lost: Lost) -> anyhow::Result<()> {
        working.abort();
        if self.env.timeout(LET_GO, held.stop_work()).await.is_err() {
            tracing::error!("a reconciliation cannot be stopped; the program ends under it");
        }
        Err(lost).context("another operator may work by now")
    }

    /// Notes why the operator is not ready, or that it is; answers whether that is news.
    fn tell(&self, why: Option<String>) -> bool {
        self.ready.send_if_modified(|before| {
            let news = *before != why;
            *before = why;
            news
        })
    }

    fn tell_of_lease(&self, trouble: Option<String>) {
        match trouble {
            Some(why) => self.tell_trouble(&why),
            None => {
                self.tell(None);
            }
        }
    }

    /// Says once what keeps the operator from its work.
    fn tell_trouble(&self, why: &str) {
        if self.tell(Some(why.to_owned())) {
            tracing::error!("{why}");
        }
    }

    /// Waits until the API server has said what must be known of the cluster; `None` where the program is to end before.
    async fn until_known(&self, asking: &Asking) -> Option<Facts> {
        loop {
            let found = tokio::select! {
                () = self.stop.cancelled() => return None,
                found = asking.facts() => found,
            };
            match found {
                Ok(facts) => return Some(facts),
                Err(why) => self.tell_trouble(&why),
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = self.env.clock.sleep(RETRY_FIRST) => {}
            }
        }
    }

    /// Waits until the API server knows the kinds; `false` where the program is to end before.
    async fn until_installed(&self, client: &Client) -> bool {
        let namespace = self.config.watch_namespace.as_deref();
        let (vaults, streams) =
            (scope::<MessageVault>(client, namespace), scope::<VaultStream>(client, namespace));
        let one = ListParams::default().limit(1);
        loop {
            let listed = tokio::select! {
                () = self.stop.cancelled() => return false,
                listed = async { tokio::join!(vaults.list(&one), streams.list(&one)) } => listed,
            };
            let why = match listed {
                (Ok(_), Ok(_)) => return true,
                (Err(kube::Error::Api(status)), _) | (_, Err(kube::Error::Api(status)))
                    if status.code == 404 =>
                {
                    "the CustomResourceDefinitions of messagevault.io are not installed: run `kubectl apply \
                     --server-side -f manifests/crds`, or install the chart with crds.enabled"
                        .to_owned()
                }
                (Err(error), _) | (_, Err(error)) => {
                    format!("the resources cannot be listed: {}", explained(&error))
                }
            };
            self.tell_trouble(&why);
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = self.env.clock.sleep(LOOK_AT_FILES_EVERY) => {}
            }
        }
    }
}

impl Work {
    /// Works until `stop`, and then until what is under way has ended.
    async fn until(self, config: Config, env: Env, tenure: Tenure, stop: CancellationToken) {
        let client = self.operator.client.clone();
        let namespace = config.watch_namespace.as_deref();
        let reconciling = controller::run::run(self.operator, self.stores, namespace, &tenure, &stop);
        let applying = async {
            if let Some(directory) = &config.bootstrap {
                let applying = bootstrap::run(client, env.clone(), directory, &config.namespace, &stop);
                // Where the tenure ends, so does the program.
                let _ = tenure.during(applying).await;
            }
        };
        tokio::select! {
            _ = async { tokio::join!(reconciling, applying) } => {}
            () = self.asking.follow_issuer(&env, config.look_every, &self.options) => {}
        }
    }
}

fn count_requests(operator: &Arc<Operator>) {
    // Whoever is asked for metrics must not keep the operator alive.
    let operator_then = Arc::downgrade(operator);
    operator.metrics.count_requests(Arc::new(move || {
        let mut all = BTreeMap::new();
        for open in operator_then.upgrade().map(|operator| operator.vaults.all()).unwrap_or_default() {
            for (operation, count) in open.storage().snapshot().iter() {
                *all.entry(operation).or_default() += count;
            }
        }
        all
    }));
}
