//! Reconciling a MessageVault.
//!
//! The order: the way into the storage account; objects that need nothing of it; the vault's system container, which says
//! whose it is; the Deployment; streams; then a look at how it all is. Where the storage account is away, what can be done
//! without it is done.

use std::convert::Infallible;
use std::sync::Arc;

use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use vault_server::storage::StorageError;

use super::owned::{self, Made, vault_of};
use super::report::{now, told};
use super::run::intent;
use super::{Interrupted, Operator, is_being_deleted, is_paused, rollout};
use crate::api::names::{ADOPT, FINALIZER, RECREATE, VAULT_LABEL, lists};
use crate::api::placement::NamespacesFrom;
use crate::api::settings::DeletionPolicy;
use crate::api::status::{MessageVaultStatus, OwnedStreamStatus, StreamStatus};
use crate::api::vault::VaultOwnedStream;
use crate::api::{MessageVault, VaultStream};
use crate::conditions::{READY, Reason, STORAGE_REACHABLE, State, condition};
use crate::desired::{Facts, check, desired};
use crate::limits::{RECONCILE_PATIENCE, WAIT_FOR_STREAMS_TO_GO};
use crate::servers::Seen;
use crate::streams::plan::message_vault_owner;
use crate::vaults::join::{Claimant, join};
use crate::vaults::open::OpenVault;

/// How many streams of one vault are worked on at once.
const STREAMS_AT_ONCE: usize = 8;

/// One reconciliation of a vault, and what its status will say.
struct Work<'a> {
    operator: &'a Operator,
    vault: &'a MessageVault,
    status: MessageVaultStatus,
    /// Whether the storage account answered, and what.
    storage: Option<(bool, Reason)>,
    /// Annotations that were carried out, and what of each is still to be done.
    carried_out: Vec<(&'static str, Option<String>)>,
}

/// A stream of `spec.streams` and what became of it.
struct Own {
    stream: VaultOwnedStream,
    /// Its id, where it is known.
    known: Option<String>,
    made: Result<Made, Interrupted>,
}

/// Reconciles a vault, once.
pub async fn reconcile(vault: Arc<MessageVault>, operator: Arc<Operator>) -> Result<Action, Infallible> {
    let begun = operator.env.clock.monotonic();
    let before = vault.status.clone().unwrap_or_default();
    let mut work = Work {
        operator: &operator,
        vault: &vault,
        status: before.clone(),
        storage: None,
        carried_out: Vec::new(),
    };
    let outcome = match operator.env.timeout(RECONCILE_PATIENCE, work.run()).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Interrupted::TimedOut),
    };
    let uid = vault.uid().unwrap_or_default();
    let state = match outcome {
        Ok(Some(state)) => state,
        // It is gone.
        Ok(None) => {
            operator.forget_vault(&vault);
            return Ok(Action::await_change());
        }
        Err(interrupted) => {
            tracing::warn!(vault = vault.name_any(), namespace = vault.namespace(), why = %interrupted, "not done");
            interrupted.into_state()
        }
    };
    let carried_out = std::mem::take(&mut work.carried_out);
    let status = work.finish(&state);
    let seen = (vault.status.as_ref(), &*before.conditions);
    let written = operator.say(&*vault, seen, (&status, &state)).await;
    // The status says by then which vault and streams they are now.
    for (annotation, rest) in carried_out.into_iter().filter(|_| written.is_ok()) {
        if let Err(error) = operator.set_annotation(&*vault, annotation, rest).await {
            tracing::warn!(vault = vault.name_any(), annotation, %error, "it was carried out and cannot be taken off");
        }
    }
    operator.metrics.reconciled(
        "MessageVault",
        &uid,
        &state,
        operator.env.clock.monotonic().saturating_sub(begun),
    );
    let again = operator.paces.after(&uid, intent(&*vault), &told(state, written), &operator.env);
    // It may have gone meanwhile, and was forgotten before this was noted of it.
    if operator.known_vaults.get(&ObjectRef::from_obj(&*vault)).is_none_or(|known| known.uid() != vault.uid())
    {
        operator.forget_vault(&vault);
    }
    Ok(Action::requeue(again))
}

impl Work<'_> {
    /// `None` once the resource is gone.
    async fn run(&mut self) -> Result<Option<State>, Interrupted> {
        let (operator, vault) = (self.operator, self.vault);
        if is_paused(vault) {
            return Ok(Some(State::Paused));
        }
        if vault.metadata.deletion_timestamp.is_some() {
            return self.delete().await;
        }
        // Before the vault is joined there is nothing in storage that could have to be deleted. One that is there already
        // stays: what is looked at may be older than the vault's joining.
        let joined = self.status.vault_uid.is_some();
        if joined {
            operator.set_finalizer(vault, self.wants_finalizer()).await?;
        }
        let open = operator.vaults.open(vault, true).await?;
        self.check_access()?;
        let known = self.status.vault_uid.clone();
        let facts = |vault_uid: Option<String>| Facts {
            vault_uid,
            tenant_id: open.way_in().tenant(),
            credential_hash: open.way_in().credential_hash(),
        };
        let options = operator.options_for(vault).await?;
        // The ServiceAccount may be the way in, and servers must not start where the vault has become another one's.
        operator.apply(vault, &desired(vault, &options, &facts(None))).await?;
        let claimant = Claimant::of(vault, operator.cluster.as_ref());
        let uid = match join(&open, &claimant).await {
            Ok(Ok(uid)) => uid,
            Ok(Err(state)) => {
                self.storage = Some(reached(None));
                // Whoever has the vault now is served by servers of their own.
                operator.stop_servers(vault).await?;
                return Err(Interrupted::State(state));
            }
            Err(error) => {
                let error = match error {
                    StorageError::Refused(why) => StorageError::Refused(open.way_in().refused(vault, &why)),
                    error => error,
                };
                self.storage = Some(reached(Some(&error)));
                // What can be done and seen without storage is done and told all the same. Before the vault in storage is
                // known servers are not wanted; those that there are stay.
                if known.is_some() {
                    let objects = desired(vault, &options, &facts(known));
                    operator.apply(vault, &objects).await?;
                    operator.prune(vault, &objects).await?;
                    self.observe(&open).await?;
                }
                return Err(error.into());
            }
        };
        self.storage = Some(reached(None));
        self.status.vault_uid = Some(uid.clone());
        self.status.account = Some(open.main_account().to_owned());
        if !joined {
            operator.set_finalizer(vault, self.wants_finalizer()).await?;
        }
        // One that stayed would take the vault back from whoever adopts it later.
        self.carried_out.push((ADOPT, None));
        let objects = desired(vault, &options, &facts(Some(uid)));
        operator.apply(vault, &objects).await?;
        operator.prune(vault, &objects).await?;
        let streams = self.streams(&open).await?;
        let failed = streams.iter().find_map(|own| match &own.made {
            Err(Interrupted::Storage(error)) => Some(error),
            _ => None,
        });
        self.storage = Some(reached(failed));
        let rollout = self.observe(&open).await?;
        let troubled = self.note_streams(&open, streams).await;
        let ready = || State::Ready(Reason::new("Ready", "all servers are ready, and one leads"));
        Ok(Some(troubled.or(rollout).unwrap_or_else(ready)))
    }

    fn namespace(&self) -> String {
        self.vault.namespace().unwrap_or_default()
    }

    fn owner(&self) -> String {
        message_vault_owner(&self.namespace(), &self.vault.name_any())
    }

    /// Whether streams must be deleted from storage before the resource may go: its own, or VaultStreams' that need it to
    /// find the storage.
    fn wants_finalizer(&self) -> bool {
        let own =
            self.vault.spec.streams.iter().any(|stream| stream.deletion_policy == DeletionPolicy::Delete);
        own || self.operator.known_streams.state().iter().any(|stream| self.is_deleted_through_it(stream))
    }

    /// Whether a VaultStream is one of this vault's, and deleted with all its messages. Namespaces that the vault does not
    /// admit have no say.
    fn is_deleted_through_it(&self, stream: &VaultStream) -> bool {
        stream.spec.deletion_policy == DeletionPolicy::Delete
            && vault_of(stream) == (self.namespace(), self.vault.name_any())
            && (stream.namespace() == self.vault.namespace()
                || self.vault.spec.allowed_namespaces.from != NamespacesFrom::Same)
    }

    /// What the CRD's rules cannot see.
    fn check_access(&self) -> Result<(), Interrupted> {
        check(self.vault, &self.operator.options()).map_err(|unworkable| {
            Interrupted::State(State::Stalled(Reason::new("InvalidAccess", unworkable.to_string())))
        })
    }

    /// Makes the containers of `spec.streams`, and tells servers of what changed.
    async fn streams(&mut self, open: &OpenVault) -> Result<Vec<Own>, Interrupted> {
        let (operator, vault) = (self.operator, self.vault);
        let routine = is_routine(vault.metadata.generation, &self.status.conditions);
        let recreate = vault.annotations().get(RECREATE);
        let all = vault.spec.streams.iter().cloned().map(|stream| {
            let known = self.status.streams.iter().find(|seen| seen.name == stream.name);
            let known = known.and_then(|seen| seen.stream.stream_id.clone());
            let again = lists(recreate, &stream.name);
            let mut wanted = owned::wanted(open, self.owner(), &stream.name, &stream.settings, known, again);
            async move {
                let made = operator.make_stream(open, vault, &mut wanted, routine && !again).await;
                Own { stream, known: wanted.known, made }
            }
        });
        let mut all: Vec<_> = stream::iter(all).buffer_unordered(STREAMS_AT_ONCE).collect().await;
        all.sort_by(|one, other| one.stream.name.cmp(&other.stream.name));
        let done: Vec<_> = all.iter().filter_map(|own| own.made.as_ref().ok()?.done.clone()).collect();
        for reason in &done {
            operator.event(vault, EventType::Normal, reason).await;
        }
        if !done.is_empty() {
            operator.tell_servers(vault).await?;
        }
        self.note_recreated(&all).await;
        Ok(all)
    }

    /// Which streams are still to begin anew, of those that the annotation lists.
    async fn note_recreated(&mut self, all: &[Own]) {
        let Some(listed) = self.vault.annotations().get(RECREATE) else { return };
        let (mut rest, mut unknown) = (Vec::new(), Vec::new());
        for name in listed.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match all.iter().find(|own| own.stream.name == name) {
                Some(own) if own.made.is_ok() => {}
                Some(_) => rest.push(name),
                None => unknown.push(name),
            }
        }
        if !unknown.is_empty() {
            let unknown = unknown.join(", ");
            let sentence = format!(
                "messagevault.io/recreate: spec.streams has no {unknown}; a VaultStream has an annotation of its own"
            );
            let reason = Reason::new("UnknownStream", sentence);
            self.operator.event(self.vault, EventType::Warning, &reason).await;
        }
        self.carried_out.push((RECREATE, (!rest.is_empty()).then(|| rest.join(","))));
    }

    /// Looks at Deployment, pods and servers; answers what is still on its way.
    async fn observe(&mut self, open: &OpenVault) -> Result<Option<State>, Interrupted> {
        let (operator, vault) = (self.operator, self.vault);
        let deployments: Api<Deployment> = Api::namespaced(operator.client.clone(), &self.namespace());
        let deployment = deployments.get_opt(&vault.name_any()).await?;
        let (pods, servers) = operator.servers_of(vault).await?;
        let seen = operator.servers.look(&servers, true).await;
        let (replicas, ready, on_its_way) = rollout::judge(deployment.as_ref(), &pods, vault.spec.replicas);
        let status = &mut self.status;
        (status.replicas, status.ready_replicas) = (replicas, ready);
        status.selector = Some(format!("{VAULT_LABEL}={}", vault.name_any()));
        status.endpoint = Some(crate::desired::endpoint(vault));
        status.leader = seen.leader.as_ref().map(|(pod, _)| pod.clone());
        status.term = seen.leader.as_ref().and_then(|(_, term)| i64::try_from(*term).ok());
        if let Some(streams) = &seen.streams {
            status.stream_count = i64::try_from(streams.len()).ok();
        }
        let state = on_its_way.or_else(|| not_led(&seen));
        open.note_seen(seen).await;
        Ok(state)
    }

    /// What the status says of the vault's own streams, and what is wrong with the first of them that is not well. What is
    /// not known now stays as it was.
    async fn note_streams(&mut self, open: &OpenVault, all: Vec<Own>) -> Option<State> {
        // It was noted a moment ago.
        let seen = open.seen(true, async { Seen::default() }).await;
        let before = std::mem::take(&mut self.status.streams);
        let mut troubled = None;
        for Own { stream: VaultOwnedStream { name, .. }, known, made } in all {
            let (stream, last_error, trouble) = match made {
                Ok(made) => {
                    let seen = seen.streams.as_ref().and_then(|streams| streams.get(&name));
                    let last_error = seen.and_then(|seen| seen.trouble.clone());
                    let trouble = owned::troubled(&name, &made.meta, seen);
                    (owned::stream_status(&made.meta, seen), last_error, trouble)
                }
                Err(error) => {
                    let old = before.iter().find(|seen| seen.name == name);
                    let old = old.map(|seen| seen.stream.clone()).unwrap_or_default();
                    let last_error = Some(error.to_string());
                    (StreamStatus { stream_id: known, ..old }, last_error, Some(of_stream(&name, error)))
                }
            };
            self.status.streams.push(OwnedStreamStatus { name, stream, last_error });
            troubled = troubled.or(trouble);
        }
        troubled
    }

    /// Deletes the streams that go with the vault, then lets it go.
    async fn delete(&mut self) -> Result<Option<State>, Interrupted> {
        let (operator, vault) = (self.operator, self.vault);
        if !vault.finalizers().iter().any(|name| name == FINALIZER) {
            return Ok(None);
        }
        let (going, staying): (Vec<_>, Vec<_>) =
            vault.spec.streams.iter().partition(|own| own.deletion_policy == DeletionPolicy::Delete);
        let mut waiting = None;
        // Without a vault in storage there is no stream either.
        let begun = vault.status.as_ref().is_some_and(|status| status.vault_uid.is_some());
        let staying: Vec<_> = staying.into_iter().filter(|_| begun).map(|own| own.name.clone()).collect();
        operator.keep_streams(vault, vault, &self.owner(), &staying).await;
        if !going.is_empty() && begun {
            let open = operator.vaults.open(vault, true).await?;
            operator.check_ours(&open, vault).await?;
            for own in going {
                waiting = waiting.or(operator.delete_stream(&open, vault, &self.owner(), &own.name).await?);
            }
        }
        if let Some(waiting) = waiting.or_else(|| self.dependents()) {
            return Ok(Some(waiting));
        }
        operator.set_finalizer(vault, false).await?;
        Ok(None)
    }

    /// VaultStreams that are about to be deleted with all their messages, which needs the vault to find the storage.
    fn dependents(&self) -> Option<State> {
        let deleted = self.vault.metadata.deletion_timestamp.as_ref()?.0;
        let elapsed = k8s_openapi::jiff::Timestamp::now().duration_since(deleted);
        let recent = elapsed.as_secs() < i64::try_from(WAIT_FOR_STREAMS_TO_GO.as_secs()).unwrap_or(i64::MAX);
        let streams = self.operator.known_streams.state();
        let mut theirs = streams.iter().filter(|stream| self.is_deleted_through_it(stream));
        let waits_for = theirs.find(|stream| {
            let going = stream.metadata.deletion_timestamp.is_some();
            recent || (going && stream.finalizers().iter().any(|name| name == FINALIZER))
        })?;
        Some(State::Reconciling(Reason::new(
            "WaitingForStreams",
            format!(
                "the VaultStream {}/{} may be about to be deleted with its messages, which needs this vault",
                waits_for.namespace().unwrap_or_default(),
                waits_for.name_any()
            ),
        )))
    }

    /// The status with its conditions.
    fn finish(mut self, state: &State) -> MessageVaultStatus {
        let generation = self.vault.metadata.generation;
        let before = std::mem::take(&mut self.status.conditions);
        let now = now();
        let mut all = state.conditions(&before, generation, &now);
        match &self.storage {
            Some((answered, reason)) => {
                all.push(condition(STORAGE_REACHABLE, Some(*answered), reason, &before, generation, &now));
            }
            None => all.extend(before.iter().find(|it| it.type_ == STORAGE_REACHABLE).cloned()),
        }
        all.sort_by(|one, other| one.type_.cmp(&other.type_));
        self.status.conditions = all;
        if !matches!(state, State::Paused) {
            self.status.observed_generation = generation;
        }
        self.status
    }
}

/// Whether the storage account was reached, given how a request to it has failed.
fn reached(failed: Option<&StorageError>) -> (bool, Reason) {
    match failed {
        None => (true, Reason::new("Answered", "the storage account answers")),
        Some(error) if is_being_deleted(error) => {
            (true, Reason::new("Answered", "the storage account answers"))
        }
        Some(error @ StorageError::Refused(_)) => (false, Reason::new("Refused", error.to_string())),
        Some(error) => (false, Reason::new("NoAnswer", error.to_string())),
    }
}

/// What keeps a vault's own stream from being made is what the vault waits for.
fn of_stream(name: &str, why: Interrupted) -> State {
    let state = why.into_state();
    let Reason { word, sentence } = state.reason();
    let reason = Reason::new(word, format!("stream {name}: {sentence}"));
    if matches!(state, State::Stalled(_)) { State::Stalled(reason) } else { State::Reconciling(reason) }
}

/// Whether nothing has changed since the resource was found ready: then a look may be some minutes old.
#[must_use]
pub fn is_routine(generation: Option<i64>, conditions: &[Condition]) -> bool {
    let ready = conditions.iter().find(|condition| condition.type_ == READY);
    ready.is_some_and(|ready| ready.status == "True" && ready.observed_generation == generation)
}

fn not_led(seen: &Seen) -> Option<State> {
    if seen.leader.is_some() {
        return None;
    }
    let sentence = match (&seen.trouble, seen.answered) {
        (Some(trouble), _) => format!("no server leads: {trouble}"),
        (None, 0) => {
            "the operator reaches no server on port 8481: does a NetworkPolicy forbid it?".to_owned()
        }
        (None, _) => "no server leads yet".to_owned(),
    };
    Some(State::Reconciling(Reason::new("WaitingForLeader", sentence)))
}
