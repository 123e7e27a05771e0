//! Running the controllers: what is watched, and what a change of it calls for.

use std::convert::Infallible;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, PredicateConfig, WatchStreamExt, controller, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::owned::vault_of;
use super::{Operator, streams, vaults};
use crate::api::names::FIELD_MANAGER;
use crate::api::{MessageVault, VaultStream};
use crate::lease::Tenure;
use crate::limits::{DEBOUNCE, STREAMS_AT_ONCE, VAULTS_AT_ONCE};

/// Resources of one namespace, or of all.
#[must_use]
pub fn scope<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// A watch of resources that fills a store.
type Watched<K> = std::pin::Pin<Box<dyn Stream<Item = Result<K, watcher::Error>> + Send>>;

/// Watches resources, for a store and for whom their changes call. `seen` tells when all were read once; the store itself
/// wakes but one of those who wait for that, and the controller is one.
fn watched<K>(
    api: Api<K>,
    writer: Writer<K>,
    seen: CancellationToken,
    gone: impl Fn(&K) + Send + 'static,
) -> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let events = watcher(api, watcher::Config::default()).default_backoff();
    let events = reflector(writer, events).inspect_ok(move |event| match event {
        watcher::Event::InitDone => seen.cancel(),
        // Of what goes without a finalizer no reconciliation is told.
        watcher::Event::Delete(resource) => gone(resource),
        watcher::Event::Init | watcher::Event::InitApply(_) | watcher::Event::Apply(_) => {}
    });
    events.touched_objects().boxed()
}

/// The stores of what is watched and where they are filled from.
pub struct Stores {
    vaults: (Store<MessageVault>, Writer<MessageVault>),
    streams: (Store<VaultStream>, Writer<VaultStream>),
    /// Whether all vaults, and all streams, were read once.
    seen: [CancellationToken; 2],
}

impl Default for Stores {
    fn default() -> Self {
        Self { vaults: reflector::store(), streams: reflector::store(), seen: Default::default() }
    }
}

impl Stores {
    /// Every MessageVault that is watched.
    #[must_use]
    pub fn vaults(&self) -> Store<MessageVault> {
        self.vaults.0.clone()
    }

    /// Every VaultStream that is watched.
    #[must_use]
    pub fn streams(&self) -> Store<VaultStream> {
        self.streams.0.clone()
    }

    /// Ends when everything that is watched has been read once.
    pub fn seen_once(&self) -> impl Future<Output = ()> + use<> {
        let [vaults, streams] = self.seen.clone();
        async move {
            vaults.cancelled().await;
            streams.cancelled().await;
        }
    }
}

/// Reconciles until `stop`; then what is under way ends first. What is still under way when the tenure ends is dropped.
pub async fn run(
    operator: Arc<Operator>,
    stores: Stores,
    namespace: Option<&str>,
    tenure: &Tenure,
    stop: &CancellationToken,
) {
    let Stores { vaults: (vault_store, vault_writer), streams: (stream_store, stream_writer), seen } = stores;
    let [vaults_seen, streams_seen] = seen;
    let all_streams = streams_seen.clone();
    let client = &operator.client;
    // What this operator writes into a status must not call for the next look.
    let gone = {
        let operator = Arc::clone(&operator);
        move |vault: &MessageVault| operator.forget_vault(vault)
    };
    let vault_events = watched(scope(client, namespace), vault_writer, vaults_seen, gone);
    let vaults = Controller::for_stream(
        vault_events.predicate_filter(intent, PredicateConfig::default()),
        vault_store,
    );
    let vaults = owns_all(vaults, client, namespace)
        .reconcile_all_on(changes(operator.options.clone()))
        .with_config(controller::Config::default().debounce(DEBOUNCE).concurrency(VAULTS_AT_ONCE))
        .graceful_shutdown_on(stop.clone().cancelled_owned());

    let gone = {
        let operator = Arc::clone(&operator);
        move |stream: &VaultStream| operator.forget_stream(stream)
    };
    let stream_events = watched(scope(client, namespace), stream_writer, streams_seen, gone);
    let streams = Controller::for_stream(
        stream_events.predicate_filter(intent, PredicateConfig::default()),
        stream_store.clone(),
    );
    // A vault that is made, changed or paused, or has found its storage, concerns all of its streams; who leads it does
    // not.
    let events =
        watcher(scope::<MessageVault>(client, namespace), watcher::Config::default()).default_backoff();
    let vault_changes =
        events.touched_objects().predicate_filter(concerns_streams, PredicateConfig::default());
    let streams = streams
        .watches_stream(vault_changes, move |vault| {
            let of_vault = (vault.namespace().unwrap_or_default(), vault.name_any());
            let all = stream_store.state();
            let theirs = all.into_iter().filter(move |stream| vault_of(stream) == of_vault);
            theirs.map(|stream| ObjectRef::from_obj(&*stream)).collect::<Vec<_>>()
        })
        .with_config(controller::Config::default().debounce(DEBOUNCE).concurrency(STREAMS_AT_ONCE))
        .graceful_shutdown_on(stop.clone().cancelled_owned());

    // Each reconciliation is a task of its own, and has to end with the tenure by itself.
    let held = tenure.clone();
    let vault = move |vault, operator| {
        // Which streams need a vault, so that it may not go before them, is known when all were read once.
        let all_streams = all_streams.clone();
        guarded(held.clone(), async move {
            all_streams.cancelled().await;
            vaults::reconcile(vault, operator).await
        })
    };
    let vaults = drain(vaults.run(vault, nothing_fails, Arc::clone(&operator)));
    let held = tenure.clone();
    let stream = move |stream, operator| guarded(held.clone(), streams::reconcile(stream, operator));
    let streams = drain(streams.run(stream, nothing_fails, Arc::clone(&operator)));
    tokio::join!(vaults, streams);
}

/// A reconciliation, as long as the tenure lasts.
async fn guarded(
    tenure: Tenure,
    reconciliation: impl Future<Output = Result<controller::Action, Infallible>>,
) -> Result<controller::Action, Infallible> {
    tenure.during(reconciliation).await.unwrap_or_else(|| Ok(controller::Action::await_change()))
}

/// Something for each change.
fn changes<T: Send + Sync + 'static>(of: watch::Receiver<T>) -> impl Stream<Item = ()> + Send {
    futures::stream::unfold(of, async |mut of| of.changed().await.ok().map(|()| ((), of)))
}

/// Adds what belongs to vaults: its changes call for their owner.
fn owns_all(
    controller: Controller<MessageVault>,
    client: &Client,
    namespace: Option<&str>,
) -> Controller<MessageVault> {
    let ours = || watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={FIELD_MANAGER}"));
    // Of most of it nothing but the fact of a change matters.
    fn metadata<K>(client: &Client, namespace: Option<&str>, ours: watcher::Config) -> Metadata<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug
            + Send
            + Sync
            + 'static,
    {
        let api: Api<PartialObjectMeta<K>> = scope(client, namespace);
        watcher(api, ours).default_backoff().touched_objects().boxed()
    }
    controller
        .owns(scope::<Deployment>(client, namespace), ours())
        .owns_stream(metadata::<ServiceAccount>(client, namespace, ours()))
        .owns_stream(metadata::<ConfigMap>(client, namespace, ours()))
        .owns_stream(metadata::<Service>(client, namespace, ours()))
        .owns_stream(metadata::<PodDisruptionBudget>(client, namespace, ours()))
        .owns_stream(metadata::<NetworkPolicy>(client, namespace, ours()))
}

type Metadata<K> = std::pin::Pin<Box<dyn Stream<Item = Result<PartialObjectMeta<K>, watcher::Error>> + Send>>;

/// What somebody wants of a resource, as opposed to what its status says.
#[must_use]
pub fn intent(resource: &impl Resource) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let meta = resource.meta();
    (meta.generation, &meta.annotations, &meta.finalizers).hash(&mut hasher);
    meta.deletion_timestamp.is_some().hash(&mut hasher);
    Some(hasher.finish())
}

/// What of a vault concerns its streams.
fn concerns_streams(vault: &MessageVault) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let status = vault.status.as_ref();
    vault.metadata.generation.hash(&mut hasher);
    vault.metadata.annotations.hash(&mut hasher);
    vault.metadata.deletion_timestamp.is_some().hash(&mut hasher);
    status.and_then(|status| status.vault_uid.as_ref()).hash(&mut hasher);
    status.and_then(|status| status.endpoint.as_ref()).hash(&mut hasher);
    streams::is_another_vaults(vault).is_some().hash(&mut hasher);
    Some(hasher.finish())
}

async fn drain<T>(results: impl Stream<Item = Result<T, controller::Error<Infallible, watcher::Error>>>) {
    let told = results.for_each(|result| {
        match result {
            Ok(_) => {}
            // It went, and something that belonged to it as well.
            Err(controller::Error::ObjectNotFound(resource)) => tracing::debug!(%resource, "it is gone"),
            Err(error) => tracing::warn!(%error, "a watch was interrupted; it is taken up again"),
        }
        std::future::ready(())
    });
    told.await;
}

/// Reconciliations say in the resource's status what is wrong, and when to look again.
fn nothing_fails<K>(_resource: Arc<K>, error: &Infallible, _operator: Arc<Operator>) -> controller::Action {
    match *error {}
}
