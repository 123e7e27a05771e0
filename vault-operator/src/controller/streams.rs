//! Reconciling a VaultStream.

use std::convert::Infallible;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::core::{Selector, SelectorExt};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::owned::{self, stream_name, vault_of};
use super::report::{now, told};
use super::run::intent;
use super::vaults::is_routine;
use super::{Interrupted, Operator, is_paused};
use crate::api::names::{FINALIZER, RECREATE, lists};
use crate::api::placement::NamespacesFrom;
use crate::api::settings::DeletionPolicy;
use crate::api::status::VaultStreamStatus;
use crate::api::{MessageVault, VaultStream};
use crate::conditions::{Reason, STALLED, State};
use crate::limits::RECONCILE_PATIENCE;
use crate::streams::plan::vault_stream_owner;
use crate::vaults::join::ANOTHER_VAULT;

/// One reconciliation of a stream, and what its status will say.
struct Work<'a> {
    operator: &'a Operator,
    stream: &'a VaultStream,
    name: String,
    status: VaultStreamStatus,
    /// Whether the stream is there, begun anew where that was asked for.
    made: bool,
}

/// Reconciles a VaultStream, once.
pub async fn reconcile(stream: Arc<VaultStream>, operator: Arc<Operator>) -> Result<Action, Infallible> {
    let begun = operator.env.clock.monotonic();
    let before = stream.status.clone().unwrap_or_default();
    let name = stream_name(&stream);
    let mut work = Work { operator: &operator, stream: &stream, name, status: before.clone(), made: false };
    let outcome = match operator.env.timeout(RECONCILE_PATIENCE, work.run()).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Interrupted::TimedOut),
    };
    let uid = stream.uid().unwrap_or_default();
    let state = match outcome {
        Ok(Some(state)) => state,
        Ok(None) => {
            operator.forget_stream(&stream);
            return Ok(Action::await_change());
        }
        Err(interrupted) => {
            tracing::warn!(stream = stream.name_any(), namespace = stream.namespace(), why = %interrupted, "not done");
            interrupted.into_state()
        }
    };
    let made = work.made;
    let status = work.finish(&state);
    let seen = (stream.status.as_ref(), &*before.conditions);
    let written = operator.say(&*stream, seen, (&status, &state)).await;
    // The status says by then which stream it is now.
    if written.is_ok()
        && made
        && let Err(error) = operator.set_annotation(&*stream, RECREATE, None).await
    {
        tracing::warn!(stream = stream.name_any(), %error, "an annotation that was carried out could not be taken off");
    }
    operator.metrics.reconciled(
        "VaultStream",
        &uid,
        &state,
        operator.env.clock.monotonic().saturating_sub(begun),
    );
    let again = operator.paces.after(&uid, intent(&*stream), &told(state, written), &operator.env);
    // It may have gone meanwhile, and was forgotten before this was noted of it.
    if operator
        .known_streams
        .get(&ObjectRef::from_obj(&*stream))
        .is_none_or(|known| known.uid() != stream.uid())
    {
        operator.forget_stream(&stream);
    }
    Ok(Action::requeue(again))
}

impl Work<'_> {
    /// `None` once the resource is gone.
    async fn run(&mut self) -> Result<Option<State>, Interrupted> {
        let (operator, stream) = (self.operator, self.stream);
        let vault = self.vault().await?;
        if is_paused(stream) || vault.as_deref().is_some_and(is_paused) {
            return Ok(Some(State::Paused));
        }
        if stream.metadata.deletion_timestamp.is_some() {
            return self.delete(vault.as_deref()).await;
        }
        self.status.stream_name = Some(self.name.clone());
        let deletes = stream.spec.deletion_policy == DeletionPolicy::Delete;
        if !deletes {
            operator.set_finalizer(stream, false).await?;
        }
        let Some(vault) = vault else { return Err(Interrupted::State(self.no_vault())) };
        if vault.metadata.deletion_timestamp.is_some() {
            return Err(waiting(
                "WaitingForVault",
                format!("the MessageVault {} is being deleted", vault.name_any()),
            ));
        }
        self.check_namespace(&vault).await?;
        if let Some(why) = is_another_vaults(&vault) {
            return Err(Interrupted::State(State::Stalled(Reason::new(
                ANOTHER_VAULT,
                format!("the MessageVault {}: {why}", vault.name_any()),
            ))));
        }
        let status = vault.status.clone().unwrap_or_default();
        if status.vault_uid.is_none() {
            return Err(waiting(
                "WaitingForVault",
                format!("the MessageVault {} has not reached its storage yet", vault.name_any()),
            ));
        }
        if deletes {
            // From here on there may be something to delete. The stream's storage is found through the vault.
            operator.set_finalizer(stream, true).await?;
            operator.set_finalizer(&*vault, true).await?;
        }
        let open = operator.vaults.open(&vault, false).await?;
        let again = lists(stream.annotations().get(RECREATE), &self.name);
        let known = self.status.stream.stream_id.clone();
        let mut wanted = owned::wanted(&open, self.owner(), &self.name, &stream.spec.settings, known, again);
        let routine = !again && is_routine(stream.metadata.generation, &self.status.conditions);
        let made = operator.make_stream(&open, &vault, &mut wanted, routine).await;
        self.status.stream.stream_id = wanted.known;
        let made = made?;
        self.made = true;
        if let Some(done) = &made.done {
            operator.event(stream, EventType::Normal, done).await;
            operator.tell_servers(&vault).await?;
        }
        let look = async {
            match operator.servers_of(&vault).await {
                Ok((_, servers)) => operator.servers.look(&servers, true).await,
                Err(error) => {
                    tracing::warn!(%error, "the vault's pods cannot be listed");
                    crate::servers::Seen::default()
                }
            }
        };
        let seen = open.seen(routine, look).await;
        let seen = seen.streams.as_ref().and_then(|streams| streams.get(&self.name));
        let troubled = owned::troubled(&self.name, &made.meta, seen);
        self.status.stream = owned::stream_status(&made.meta, seen);
        self.status.last_error = seen.and_then(|seen| seen.trouble.clone());
        self.status.url = status.endpoint.map(|endpoint| format!("{endpoint}/streams/{}", self.name));
        let ready = || State::Ready(Reason::new("Ready", "the stream is as the resource says"));
        Ok(Some(troubled.unwrap_or_else(ready)))
    }

    fn owner(&self) -> String {
        vault_stream_owner(&self.stream.namespace().unwrap_or_default(), &self.stream.name_any())
    }

    async fn vault(&self) -> Result<Option<Arc<MessageVault>>, Interrupted> {
        let (namespace, name) = vault_of(self.stream);
        if let Some(vault) = self.operator.known_vaults.get(&ObjectRef::new(&name).within(&namespace)) {
            return Ok(Some(vault));
        }
        let vaults: Api<MessageVault> = Api::namespaced(self.operator.client.clone(), &namespace);
        match vaults.get_opt(&name).await {
            Ok(found) => Ok(found.map(Arc::new)),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                Err(Interrupted::State(State::Stalled(Reason::new(
                    "VaultOutOfReach",
                    format!(
                        "the operator may not look into the namespace {namespace}: it looks after one namespace alone \
                     (watchNamespace), and a vault and its streams must both be in it"
                    ),
                ))))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn no_vault(&self) -> State {
        let (namespace, name) = vault_of(self.stream);
        State::Reconciling(Reason::new(
            "WaitingForVault",
            format!("there is no MessageVault {name} in the namespace {namespace} yet"),
        ))
    }

    async fn check_namespace(&self, vault: &MessageVault) -> Result<(), Interrupted> {
        let (theirs, ours) =
            (vault.namespace().unwrap_or_default(), self.stream.namespace().unwrap_or_default());
        let allowed = match &vault.spec.allowed_namespaces.from {
            _ if theirs == ours => true,
            NamespacesFrom::Same => false,
            NamespacesFrom::All => true,
            NamespacesFrom::Selector => {
                let selector = vault.spec.allowed_namespaces.selector.clone().unwrap_or_default();
                let selector: Selector = selector.try_into().map_err(|_| {
                    Interrupted::State(State::Stalled(Reason::new(
                        "InvalidSelector",
                        format!(
                            "allowedNamespaces.selector of the MessageVault {} is invalid",
                            vault.name_any()
                        ),
                    )))
                })?;
                let namespaces: Api<Namespace> = Api::all(self.operator.client.clone());
                let namespace = namespaces.get_opt(&ours).await?;
                namespace.is_some_and(|namespace| selector.matches(namespace.labels()))
            }
        };
        if allowed {
            return Ok(());
        }
        Err(Interrupted::State(State::Stalled(Reason::new(
            "NamespaceNotAllowed",
            format!(
                "the MessageVault {theirs}/{} takes no streams from the namespace {ours}: its allowedNamespaces would have \
                 to say so",
                vault.name_any()
            ),
        ))))
    }

    /// Deletes the stream where the resource says so, then lets it go.
    async fn delete(&mut self, vault: Option<&MessageVault>) -> Result<Option<State>, Interrupted> {
        let (operator, stream) = (self.operator, self.stream);
        if !stream.finalizers().iter().any(|name| name == FINALIZER) {
            return Ok(None);
        }
        if stream.spec.deletion_policy == DeletionPolicy::Delete {
            let Some(vault) = vault else {
                let (namespace, name) = vault_of(stream);
                return Err(Interrupted::State(State::Stalled(Reason::new(
                    "VaultMissing",
                    format!(
                        "the stream cannot be deleted from storage, since the MessageVault {namespace}/{name} is gone: make \
                         it again, or set deletionPolicy: Retain to keep the messages"
                    ),
                ))));
            };
            let open = operator.vaults.open(vault, false).await?;
            operator.check_ours(&open, vault).await?;
            if let Some(state) = operator.delete_stream(&open, vault, &self.owner(), &self.name).await? {
                return Ok(Some(state));
            }
        }
        if stream.spec.deletion_policy == DeletionPolicy::Retain
            && let Some(vault) = vault
        {
            let own = std::slice::from_ref(&self.name);
            operator.keep_streams(stream, vault, &self.owner(), own).await;
        }
        operator.set_finalizer(stream, false).await?;
        Ok(None)
    }

    fn finish(mut self, state: &State) -> VaultStreamStatus {
        let generation = self.stream.metadata.generation;
        let before = std::mem::take(&mut self.status.conditions);
        let mut all = state.conditions(&before, generation, &now());
        all.sort_by(|one, other| one.type_.cmp(&other.type_));
        self.status.conditions = all;
        if !matches!(state, State::Paused) {
            self.status.observed_generation = generation;
        }
        if let Some(trouble) = state.trouble() {
            self.status.last_error = Some(trouble);
        }
        self.status
    }
}

/// Why a vault has nothing to say about its storage any more, where that is so.
#[must_use]
pub fn is_another_vaults(vault: &MessageVault) -> Option<&str> {
    let conditions = &vault.status.as_ref()?.conditions;
    let stalled = conditions.iter().find(|it| it.type_ == STALLED && it.status == "True")?;
    (stalled.reason == ANOTHER_VAULT).then_some(&stalled.message)
}

fn waiting(word: &'static str, sentence: String) -> Interrupted {
    Interrupted::State(State::Reconciling(Reason::new(word, sentence)))
}
