//! What is said of a resource: status and events. Nothing is written when nothing has changed.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::serde_json::json;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::Operator;
use crate::api::names::FIELD_MANAGER;
use crate::conditions::{READY, Reason, STALLED, State};

/// The longest note of an event, by the API server's rule.
const MAX_NOTE_BYTES: usize = 1_024;

/// Now, to the second, as conditions have it.
#[must_use]
pub fn now() -> Time {
    Time(k8s_openapi::jiff::Timestamp::now())
}

/// Why a status was not written.
#[derive(Debug, Error)]
pub enum Unwritten {
    /// What was looked at is not what there is: the watch has not told yet of the status that was written last, and what
    /// was made of an older one may say less than it.
    #[error("the resource has a newer status than the one that was looked at")]
    Outdated,
    /// The API server did not take it.
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// How a resource is, for when to look again: one whose status could not be written is told of again soon.
#[must_use]
pub fn told(state: State, written: Result<(), Unwritten>) -> State {
    match written {
        Ok(()) => state,
        Err(error) => State::Reconciling(Reason::new("Interrupted", error.to_string())),
    }
}

/// What the operator says how it is.
pub trait Told:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize
{
}

impl<K> Told for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
{
}

impl Operator {
    /// Says how a resource is: tells in an event what is new, and writes its status, where that differs from the one that
    /// was looked at. Nothing is said of an outdated one.
    pub async fn say<K, S>(
        &self,
        resource: &K,
        before: (Option<&S>, &[Condition]),
        now: (&S, &State),
    ) -> Result<(), Unwritten>
    where
        K: Told,
        S: Serialize + PartialEq,
    {
        let said = self.tell_and_write(resource, before, now).await;
        let (kind, name) = (K::kind(&()), resource.name_any());
        match &said {
            Err(Unwritten::Outdated) => tracing::debug!(%kind, name, "an older one was looked at"),
            Err(Unwritten::Api(error)) => {
                tracing::warn!(%kind, name, %error, "the status could not be written");
            }
            Ok(()) => {}
        }
        said
    }

    async fn tell_and_write<K, S>(
        &self,
        resource: &K,
        (old, before): (Option<&S>, &[Condition]),
        (status, state): (&S, &State),
    ) -> Result<(), Unwritten>
    where
        K: Told,
        S: Serialize + PartialEq,
    {
        if old == Some(status) {
            self.tell(resource, before, state).await;
            return Ok(());
        }
        let name = resource.name_any();
        let api: Api<K> = Api::namespaced(self.client.clone(), &resource.namespace().unwrap_or_default());
        // What is said of it must not be said of another one that has its name by now. The API server looks at no uid here,
        // but at the version.
        let Some(now) = api.get_opt(&name).await? else { return Ok(()) };
        if now.uid() != resource.uid() {
            return Ok(());
        }
        // Nobody else writes it.
        if json!(now)["status"] != json!(old) {
            return Err(Unwritten::Outdated);
        }
        // First, so that an operator that dies in between tells it twice rather than never.
        self.tell(resource, before, state).await;
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name, "resourceVersion": now.resource_version()},
            "status": status,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        match api.patch_status(&name, &parameters, &Patch::Apply(patch)).await {
            Ok(_) => Ok(()),
            // It was deleted meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells in an event how a resource is, where that is another thing than before.
    async fn tell<K>(&self, resource: &K, before: &[Condition], state: &State)
    where
        K: Resource<DynamicType = ()>,
    {
        let word_of = |kind: &str| {
            before
                .iter()
                .find(|condition| condition.type_ == kind && condition.status == "True")
                .map(|it| &*it.reason)
        };
        let reason = state.reason();
        match state {
            State::Ready(_) if word_of(READY).is_none() => {
                self.event(resource, EventType::Normal, &reason).await;
            }
            State::Stalled(_) if word_of(STALLED) != Some(reason.word) => {
                self.event(resource, EventType::Warning, &reason).await;
            }
            State::Reconciling(_) if !reason.word.starts_with("WaitingFor") => {
                // What is tried again and again is told once.
                let said = before.iter().any(|condition| condition.reason == reason.word);
                if !said {
                    self.event(resource, EventType::Warning, &reason).await;
                }
            }
            State::Ready(_) | State::Stalled(_) | State::Reconciling(_) | State::Paused => {}
        }
    }

    /// Tells in an event that something was done.
    pub async fn event<K: Resource<DynamicType = ()>>(
        &self,
        resource: &K,
        type_: EventType,
        reason: &Reason,
    ) {
        let end = reason.sentence.floor_char_boundary(MAX_NOTE_BYTES);
        let event = Event {
            type_,
            reason: reason.word.to_owned(),
            note: Some(reason.sentence[..end].to_owned()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &resource.object_ref(&())).await {
            tracing::warn!(%error, event = reason.word, "an event could not be written");
        }
    }
}
