//! The program from its start to an orderly end.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client, ResourceExt};
use kube_lease_manager::LeaseManagerBuilder;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vault_server::env::Env;
use vault_server::logging;

use crate::api::names::FIELD_MANAGER;
use crate::api::{MessageVault, VaultStream};
use crate::bootstrap;
use crate::config::Config;
use crate::controller::pace::Paces;
use crate::controller::run::{Stores, scope};
use crate::controller::{self, Operator};
use crate::desired::{ClusterIssuer, Options};
use crate::health::{self, Health};
use crate::limits::{END_PATIENCE, LEASE_GRACE_SECONDS, LEASE_LET_GO, LEASE_SECONDS, LOOK_AT_FILES_EVERY};
use crate::metrics::Metrics;
use crate::servers::Servers;
use crate::vaults::Vaults;

/// The Lease of the operator that works.
const LEASE: &str = "message-vault-operator";

/// Runs the operator until it is told to end.
pub fn run(config: Config) -> anyhow::Result<()> {
    logging::init(&config.log, config.log_format).map_err(anyhow::Error::from_boxed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run_on(config))
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
    let outcome = work(&config, &metrics, &ready, &stop).await;
    over.cancel();
    serving.await.context("health and metrics broke down")??;
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

async fn work(
    config: &Config,
    metrics: &Arc<Metrics>,
    ready: &watch::Sender<Option<String>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let env = Env::real();
    let client = Client::try_default().await.context(
        "there is no API server: run in a pod with a ServiceAccount, or with a kubeconfig (KUBECONFIG, ~/.kube/config)",
    )?;
    if !until_installed(&client, &env, config, ready, stop).await {
        return Ok(());
    }
    let mut lead = match Lead::take(&client, &env, config, ready, stop).await? {
        Some(lead) => lead,
        None => return Ok(()),
    };
    metrics.set_leading(true);
    let stores = Stores::default();
    let operator = Arc::new(operator(client.clone(), &env, config, metrics, &stores).await?);
    count_requests(&operator);
    let seen = stores.seen_once();
    let controllers = CancellationToken::new();
    let running = {
        let (operator, controllers, namespace) =
            (Arc::clone(&operator), controllers.clone(), config.watch_namespace.clone());
        tokio::spawn(async move {
            controller::run::run(operator, stores, namespace.as_deref(), &controllers).await;
        })
    };
    let applying = config.bootstrap.clone().map(|directory| {
        let (client, env, namespace, stop) =
            (client.clone(), env.clone(), config.namespace.clone(), controllers.clone());
        tokio::spawn(async move { bootstrap::run(client, env, &directory, &namespace, &stop).await })
    });
    ready.send_replace(Some("reading the resources for the first time".to_owned()));
    let lost = tokio::select! {
        () = stop.cancelled() => false,
        () = lead.lost() => true,
        () = async {
            seen.await;
            ready.send_replace(None);
            tracing::info!("ready");
            std::future::pending::<()>().await;
        } => false,
    };
    metrics.set_leading(false);
    ready.send_replace(Some("ending".to_owned()));
    controllers.cancel();
    if lost {
        // Another one may be at work already: nothing more may be changed.
        anyhow::bail!("the Lease {LEASE} was lost to another operator");
    }
    if env.timeout(END_PATIENCE, running).await.is_err() {
        tracing::warn!(
            "a reconciliation takes too long; it is left, and taken up again by the next operator"
        );
    }
    if let Some(applying) = applying {
        applying.await.context("applying files broke down")?;
    }
    lead.give_back(&env).await;
    Ok(())
}

/// Waits until the API server knows the kinds; `false` where the program is to end before.
async fn until_installed(
    client: &Client,
    env: &Env,
    config: &Config,
    ready: &watch::Sender<Option<String>>,
    stop: &CancellationToken,
) -> bool {
    let namespace = config.watch_namespace.as_deref();
    let (vaults, streams) =
        (scope::<MessageVault>(client, namespace), scope::<VaultStream>(client, namespace));
    let one = ListParams::default().limit(1);
    loop {
        let why = match (vaults.list(&one).await, streams.list(&one).await) {
            (Ok(_), Ok(_)) => return true,
            (Err(kube::Error::Api(status)), _) | (_, Err(kube::Error::Api(status))) if status.code == 404 => {
                "the CustomResourceDefinitions of messagevault.io are not installed: run `vault-operator crds | kubectl \
                 apply --server-side -f -`, or install the chart with crds.enabled"
                    .to_owned()
            }
            (Err(error), _) | (_, Err(error)) => format!("the resources cannot be listed: {error}"),
        };
        let news = ready.borrow().as_deref() != Some(why.as_str());
        if news {
            tracing::error!("{why}");
            ready.send_replace(Some(why));
        }
        tokio::select! {
            () = stop.cancelled() => return false,
            () = env.clock.sleep(LOOK_AT_FILES_EVERY) => {}
        }
    }
}

/// The right to work, where several operators run.
enum Lead {
    /// There is but one.
    Alone,
    /// By a Lease.
    Lease {
        held: watch::Receiver<bool>,
        keeping: tokio::task::JoinHandle<kube_lease_manager::Result<kube_lease_manager::LeaseManager>>,
    },
}

impl Lead {
    /// Waits for the right to work; `None` where the program is to end before.
    async fn take(
        client: &Client,
        env: &Env,
        config: &Config,
        ready: &watch::Sender<Option<String>>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<Self>> {
        if !config.leader_elect {
            return Ok(Some(Self::Alone));
        }
        let mut builder = LeaseManagerBuilder::new(client.clone(), LEASE)
            .with_namespace(&config.namespace)
            .with_duration(LEASE_SECONDS.unsigned_abs().into())
            .with_grace(LEASE_GRACE_SECONDS);
        if let Some(identity) = &config.identity {
            builder = builder.with_identity(identity).with_field_manager(identity);
        }
        let manager = builder.build().await.with_context(|| {
            format!("the Lease {LEASE} in the namespace {} cannot be used", config.namespace)
        })?;
        let (mut held, keeping) = manager.watch().await;
        // A standby is as ready as it can be: a rollout must not wait for it to work.
        ready.send_replace(None);
        tracing::info!(lease = LEASE, "waiting for the Lease");
        let taken = tokio::select! {
            () = stop.cancelled() => false,
            taken = held.wait_for(|held| *held) => taken.is_ok(),
        };
        if taken {
            tracing::info!(lease = LEASE, "this operator works");
            return Ok(Some(Self::Lease { held, keeping }));
        }
        drop(held);
        // It gives up when nobody listens.
        let _ = env.timeout(LEASE_LET_GO, keeping).await;
        Ok(None)
    }

    /// Ends when the right is lost.
    async fn lost(&mut self) {
        match self {
            Self::Alone => std::future::pending().await,
            // Its sender ends when the Lease cannot be kept.
            Self::Lease { held, .. } => {
                let _ = held.wait_for(|held| !held).await;
            }
        }
    }

    /// Lets another one work, which looks when the Lease would have run out that it saw last.
    async fn give_back(self, env: &Env) {
        if let Self::Lease { held, keeping } = self {
            drop(held);
            if env.timeout(END_PATIENCE, keeping).await.is_err() {
                tracing::warn!("the Lease is left to run out");
            }
        }
    }
}

async fn operator(
    client: Client,
    env: &Env,
    config: &Config,
    metrics: &Arc<Metrics>,
    stores: &Stores,
) -> anyhow::Result<Operator> {
    let issuer = match &config.cluster_issuer {
        Some(url) => Some(url.clone()),
        None => issuer(&client).await,
    };
    let options = Options {
        server_image: config.server_image.clone(),
        cluster_issuer: issuer.map(|url| ClusterIssuer { in_cluster: is_in_cluster(&url), url }),
        monitoring: false,
    };
    let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: config.identity.clone() };
    Ok(Operator {
        cluster: cluster(&client).await,
        vaults: Vaults::new(client.clone(), env.clone(), config.tenant_id.clone(), config.look_every),
        servers: Servers::new()?,
        known_vaults: stores.vaults(),
        known_streams: stores.streams(),
        recorder: Recorder::new(client.clone(), reporter),
        metrics: Arc::clone(metrics),
        paces: Paces::new(config.look_every),
        options,
        env: env.clone(),
        client,
    })
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

/// Who signs the tokens of this cluster's ServiceAccounts, as the API server says.
async fn issuer(client: &Client) -> Option<String> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
    }
    let request = http::Request::get("/.well-known/openid-configuration").body(Vec::new()).ok()?;
    match client.request::<Discovery>(request).await {
        Ok(found) => Some(found.issuer),
        Err(error) => {
            tracing::warn!(%error, "the API server does not say who signs the tokens of ServiceAccounts");
            None
        }
    }
}

/// Whether an issuer's keys are to be had from within the cluster alone: its name is no public one.
fn is_in_cluster(url: &str) -> bool {
    let host = url.strip_prefix("https://").unwrap_or(url);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    host.parse::<std::net::IpAddr>().is_ok()
        || host.starts_with('[')
        || !host.contains('.')
        || host.starts_with("kubernetes.default")
        || host.ends_with(".local")
}

/// What tells this cluster from others.
async fn cluster(client: &Client) -> Option<String> {
    match Api::<Namespace>::all(client.clone()).get("kube-system").await {
        Ok(namespace) => namespace.uid(),
        Err(error) => {
            tracing::warn!(%error, "this cluster cannot be told from others: the namespace kube-system cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_issuers_are_told_from_those_of_the_cluster() {
        for url in [
            "https://kubernetes.default.svc.cluster.local",
            "https://kubernetes.default.svc",
            "https://10.0.0.1:6443",
            "https://[::1]:1",
        ] {
            assert!(is_in_cluster(url), "{url}");
        }
        for url in ["https://westeurope.oic.prod-aks.azure.com/t/i/", "https://issuer.example"] {
            assert!(!is_in_cluster(url), "{url}");
        }
    }
}
