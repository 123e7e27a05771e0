//! A stream's container for its owner, a MessageVault or a VaultStream: one code path for both.

use futures::{StreamExt, TryStreamExt};
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};
use vault_format::names::{ContainerName, InvalidName};
use vault_server::log::settings::StreamMeta;
use vault_server::storage::StorageError;

use super::{Interrupted, Operator};
use crate::api::settings::StreamSettings;
use crate::api::status::StreamStatus;
use crate::api::{MessageVault, VaultStream};
use crate::conditions::{Reason, State};
use crate::limits::KEEP_PATIENCE;
use crate::servers::SeenStream;
use crate::streams::carry_out::{self, Deletion};
use crate::streams::plan::{self, Step, Wanted};
use crate::vaults::join::{self, Claimant};
use crate::vaults::open::OpenVault;

/// How often what another one did between two requests is looked at before it is left for later.
const ATTEMPTS: usize = 6;

/// How many streams are kept from being deleted at once.
const STREAMS_KEPT_AT_ONCE: usize = 8;

/// A stream as its owner wants it.
#[derive(Clone, Debug)]
pub struct Made {
    /// What its container says now.
    pub meta: StreamMeta,
    /// What was done, for an event; `None` where all was as wanted.
    pub done: Option<Reason>,
}

/// The container of a stream, or what is wrong with its name.
pub fn container(open: &OpenVault, stream: &str) -> Result<ContainerName, Interrupted> {
    let wrong = |error: InvalidName| {
        Interrupted::State(State::Stalled(Reason::new(
            "InvalidName",
            format!("the stream's name cannot be used: {error}"),
        )))
    };
    Ok(open.prefix().container(&open.prefix().stream(stream).map_err(wrong)?))
}

/// What a resource wants of a stream.
#[must_use]
pub fn wanted(
    open: &OpenVault,
    owner: String,
    name: &str,
    settings: &StreamSettings,
    known: Option<String>,
    recreate: bool,
) -> Wanted {
    let settings = plan::settings(settings, open.main_account());
    Wanted { name: name.to_owned(), owner, settings, known, recreate }
}

/// The stream that a VaultStream is.
#[must_use]
pub fn stream_name(stream: &VaultStream) -> String {
    stream.spec.stream_name.clone().unwrap_or_else(|| stream.name_any())
}

/// Namespace and name of the vault that a VaultStream is in.
#[must_use]
pub fn vault_of(stream: &VaultStream) -> (String, String) {
    let reference = &stream.spec.vault_ref;
    let own = || stream.namespace().unwrap_or_default();
    (reference.namespace.clone().unwrap_or_else(own), reference.name.clone())
}

/// What a status says of a stream: its id, and what the leader said at the last look.
#[must_use]
pub fn stream_status(meta: &StreamMeta, seen: Option<&SeenStream>) -> StreamStatus {
    let id = meta.id.to_string();
    let seen = seen.filter(|seen| seen.id == id);
    let number = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok());
    StreamStatus {
        stream_id: Some(id),
        first_offset: number(seen.and_then(|seen| seen.first_offset)),
        next_offset: number(seen.and_then(|seen| seen.next_offset)),
        bytes: number(seen.and_then(|seen| seen.bytes)),
    }
}

/// How a stream is that its leader holds back; `None` where it does not.
#[must_use]
pub fn troubled(name: &str, meta: &StreamMeta, seen: Option<&SeenStream>) -> Option<State> {
    let seen = seen.filter(|seen| seen.id == meta.id.to_string())?;
    Some(State::Stalled(Reason::new(
        "StreamTroubled",
        format!("the stream {name} is held back: {}", seen.fault()?),
    )))
}

impl Operator {
    /// Makes a stream's container what its owner wants. A `routine` look may be some minutes old where it shows that all
    /// is well. What servers know of a stream that is missing is noted in `wanted`.
    pub async fn make_stream(
        &self,
        open: &OpenVault,
        vault: &MessageVault,
        wanted: &mut Wanted,
        routine: bool,
    ) -> Result<Made, Interrupted> {
        let name = container(open, &wanted.name)?;
        let (storage, env) = (open.storage(), open.env());
        let mut found = open.container(&name, routine).await?;
        let mut released = None;
        let mut old = routine;
        let mut ours = false;
        for _ in 0..ATTEMPTS {
            let step = plan::plan(wanted, found.as_ref(), released.as_deref());
            match step {
                Step::Nothing(meta) => return Ok(Made { meta, done: None }),
                _ if std::mem::take(&mut old) => {}
                Step::Stop(state) => return Err(Interrupted::State(state)),
                Step::AskAfter(owner) => {
                    if self.still_wants(vault, &owner, &wanted.name).await? {
                        return Err(Interrupted::State(plan::conflict(&wanted.name, &owner)));
                    }
                    released = Some(owner);
                    continue;
                }
                // Whatever is written: the vault may have become another cluster's since.
                Step::Create | Step::Change(_) if !std::mem::replace(&mut ours, true) => {
                    self.check_ours(open, vault).await?;
                    // The resource that knew the stream may be gone, and this be another one.
                    if step == Step::Create && wanted.known.is_none() {
                        let (_, servers) = self.servers_of(vault).await?;
                        wanted.known = self.servers.missing(&servers, &wanted.name).await;
                    }
                    continue;
                }
                Step::Create => match carry_out::create(storage, env, &name, wanted).await {
                    Ok(meta) => return Ok(self.made(open, &name, meta, "StreamCreated").await),
                    Err(StorageError::AlreadyExists) => {}
                    Err(error) => return Err(error.into()),
                },
                Step::Change(_) => match carry_out::change(storage, &name, wanted, released.as_deref()).await
                {
                    Ok(Step::Nothing(meta)) => {
                        return Ok(self.made(open, &name, meta, "StreamChanged").await);
                    }
                    Ok(_) | Err(StorageError::NotFound) => {}
                    Err(error) => return Err(error.into()),
                },
            }
            found = carry_out::look(storage, &name).await?;
        }
        Err(StorageError::Unavailable(format!("the container {name} changes all the time")).into())
    }

    async fn made(
        &self,
        open: &OpenVault,
        name: &ContainerName,
        meta: StreamMeta,
        word: &'static str,
    ) -> Made {
        open.note(name, Some(&meta)).await;
        let what = if word == "StreamCreated" { "created" } else { "changed" };
        let done = Reason::new(word, format!("the container {name} was {what}"));
        Made { meta, done: Some(done) }
    }

    /// Whether an owner that a container names is there and wants the stream in this vault.
    async fn still_wants(
        &self,
        vault: &MessageVault,
        owner: &str,
        stream: &str,
    ) -> Result<bool, Interrupted> {
        let mut parts = owner.splitn(3, '/');
        let (Some(kind), Some(namespace), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Ok(true);
        };
        let client = self.client.clone();
        let here = (vault.namespace().unwrap_or_default(), vault.name_any());
        let found = match kind {
            "vaultstream" => {
                Api::<VaultStream>::namespaced(client, namespace).get_opt(name).await.map(|found| {
                    found.is_some_and(|found| stream_name(&found) == stream && vault_of(&found) == here)
                })
            }
            "messagevault" => {
                Api::<MessageVault>::namespaced(client, namespace).get_opt(name).await.map(|found| {
                    found.is_some_and(|found| found.spec.streams.iter().any(|own| own.name == stream))
                })
            }
            // A later version may know more kinds.
            _ => return Ok(true),
        };
        match found {
            // Where this operator may not look, the owner counts as being there.
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(true),
            found => Ok(found?),
        }
    }

    /// Deletes a stream with all its messages: the leader does, so that no server takes it for lost. `None` once it is
    /// gone, or not the owner's.
    pub async fn delete_stream(
        &self,
        open: &OpenVault,
        vault: &MessageVault,
        owner: &str,
        stream: &str,
    ) -> Result<Option<State>, Interrupted> {
        let name = container(open, stream)?;
        let storage = open.storage();
        if carry_out::mark_for_deletion(storage, &name, owner).await? == Deletion::Done {
            open.note(&name, None).await;
            return Ok(None);
        }
        let (_, servers) = self.servers_of(vault).await?;
        if self.servers.refresh(&servers).await == 0 && self.servers.look(&servers, false).await.answered == 0
        {
            carry_out::delete_marked(storage, &name, owner).await?;
        }
        if carry_out::mark_for_deletion(storage, &name, owner).await? == Deletion::Done {
            open.note(&name, None).await;
            return Ok(None);
        }
        Ok(Some(State::Reconciling(Reason::new(
            "WaitingForDeletion",
            format!(
                "the stream {stream} is marked for deletion; the vault's leader carries it out within a minute"
            ),
        ))))
    }

    /// Sees to it that streams stay whose owner had begun to delete them and has thought better of it. Where storage is away
    /// the owner may go all the same.
    pub async fn keep_streams<K>(&self, resource: &K, vault: &MessageVault, owner: &str, streams: &[String])
    where
        K: kube::Resource<DynamicType = ()>,
    {
        let kept = async {
            let open = self.vaults.open(vault, false).await?;
            self.check_ours(&open, vault).await?;
            let open = &*open;
            let keep = |stream: String| async move {
                carry_out::take_mark_off(open.storage(), &container(open, &stream)?, owner).await?;
                Ok::<(), Interrupted>(())
            };
            let all =
                futures::stream::iter(streams.to_vec()).map(keep).buffer_unordered(STREAMS_KEPT_AT_ONCE);
            all.try_collect::<()>().await
        };
        if streams.is_empty() {
            return;
        }
        let kept = self.env.timeout(KEEP_PATIENCE, kept).await.unwrap_or(Err(Interrupted::TimedOut));
        if let Err(why) = kept {
            let streams = streams.join(", ");
            let reason = Reason::new(
                "MayBeDeleted",
                format!(
                    "whether these streams stay is not certain, if their deletion had begun: {streams}: {why}"
                ),
            );
            self.event(resource, EventType::Warning, &reason).await;
        }
    }

    /// Stops where the vault in storage has become another MessageVault's, in this cluster or another: owners have the same
    /// names there.
    pub async fn check_ours(&self, open: &OpenVault, vault: &MessageVault) -> Result<(), Interrupted> {
        let claimant = Claimant::of(vault, self.cluster.as_ref());
        match join::check(open, &claimant).await? {
            Some(state) => Err(Interrupted::State(state)),
            None => Ok(()),
        }
    }

    /// Tells a vault's servers to look at what was changed beside them. They look once a minute by themselves.
    pub async fn tell_servers(&self, vault: &MessageVault) -> Result<(), Interrupted> {
        let (_, servers) = self.servers_of(vault).await?;
        let told = self.servers.refresh(&servers).await;
        tracing::debug!(
            vault = vault.name_any(),
            told,
            of = servers.len(),
            "servers were told to list the containers"
        );
        Ok(())
    }
}
