//! The set of streams of one vault.
//!
//! | module | subject |
//! |---|---|
//! | `listing` | which containers there are, and what their owners want |
//! | `deleting` | deleting streams, for callers and for owners |

mod deleting;
mod listing;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::StreamExt;
use opentelemetry::trace::FutureExt;
use serde::Serialize;
use tokio::sync::mpsc;
use vault_format::ids::Term;
use vault_format::names::{InvalidName, Prefix, StreamName};

use crate::env::Env;
use crate::limits::{MAX_STREAMS, STREAMS_OPENED_AT_ONCE};
use crate::log::context::{Context, Options};
use crate::log::error::{AdminError, StreamFault, Unusable};
use crate::log::let_go::Mark;
use crate::log::meta;
use crate::log::reign::{Reign, ReignEnd};
use crate::log::retry::until_definite;
use crate::log::settings::{Settings, SettingsPatch, StreamMeta};
use crate::log::stream::Stream;
use crate::log::writer::Command;
use crate::storage::{Storage, StorageError};

/// Whether a stream was made or had been there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Created {
    /// It was made.
    New,
    /// It existed, with the same settings.
    Existing,
}

/// What this server does for the vault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It appends.
    Leader,
    /// Another server does, or nobody yet.
    Follower,
}

/// What it means that the container of a stream that was known is not there any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Absent {
    /// Nobody deleted the stream through the vault: its data is missing.
    IsMissing,
    /// Another server may have deleted it.
    WasDeleted,
}

/// The streams whose containers have one prefix.
#[derive(Clone, Debug)]
pub struct Vault {
    pub(crate) context: Arc<Context>,
    streams: Arc<RwLock<BTreeMap<StreamName, Arc<Stream>>>>,
    /// The count of changes, as the leader's page shows it, for which the streams were listed.
    listed_at: Arc<Mutex<Option<u64>>>,
}

impl Vault {
    /// A vault in which nothing is open yet. The receiver is for the one who runs the election.
    #[must_use]
    pub fn new(
        storage: Arc<dyn Storage>,
        env: Env,
        prefix: Prefix,
        options: Options,
    ) -> (Self, mpsc::Receiver<ReignEnd>) {
        let (context, reign_over) = Context::new(storage, env, prefix, options);
        (Self { context, streams: Arc::default(), listed_at: Arc::default() }, reign_over)
    }

    /// Checks a stream's name.
    pub fn name(&self, name: &str) -> Result<StreamName, InvalidName> {
        self.context.prefix.stream(name)
    }

    /// Whether this server leads.
    #[must_use]
    pub fn role(&self) -> Role {
        if self.term().is_some() { Role::Leader } else { Role::Follower }
    }

    /// The term under which this server leads.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        self.context.term()
    }

    /// Waits until this server leads, at most for `patience`.
    pub async fn until_led(&self, patience: std::time::Duration) {
        let mut reign = self.context.reign.subscribe();
        // The sender lives as long as the vault; whoever needs to know asks for the term.
        let _ = self.context.env.timeout(patience, reign.wait_for(Option::is_some)).await;
    }

    /// The stream of that name, to read from, whether this server leads or not.
    pub async fn readable(&self, name: &StreamName) -> Result<Arc<Stream>, Unusable> {
        if self.term().is_some() {
            return self.stream(name);
        }
        let known = self.read().get(name).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        // The leader may have made it a moment ago.
        let mark = self.context.mark();
        let container = self.context.prefix.container(name);
        let meta =
            self.context.env.timeout(self.context.options.patience, meta::read(&self.context, &container));
        let meta = meta.await.unwrap_or(Err(Unusable::TimedOut))?;
        self.admit(name, meta, mark).ok_or(Unusable::NotFound)
    }

    /// The stream of that name, to append to or to change.
    pub fn stream(&self, name: &StreamName) -> Result<Arc<Stream>, Unusable> {
        if self.term().is_none() {
            return Err(Unusable::NoLeader);
        }
        self.read().get(name).cloned().ok_or(Unusable::NotFound)
    }

    /// At most `limit` streams in the order of their names, whose names begin with `prefix` and come after
    /// `start_after`; and whether there are more.
    #[must_use]
    pub fn list(&self, prefix: &str, start_after: Option<&str>, limit: usize) -> (Vec<Arc<Stream>>, bool) {
        self.list_those(prefix, start_after, limit, |_| true)
    }

    /// The same, of those streams alone whose names are `wanted`.
    pub fn list_those(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
        wanted: impl Fn(&StreamName) -> bool,
    ) -> (Vec<Arc<Stream>>, bool) {
        let streams = self.read();
        let mut found = streams
            .values()
            .filter(|stream| stream.name().as_str().starts_with(prefix) && wanted(stream.name()))
            .filter(|stream| start_after.is_none_or(|after| stream.name().as_str() > after));
        let page = found.by_ref().take(limit).cloned().collect();
        (page, found.next().is_some())
    }

    /// Lists the containers because somebody has changed them beside this server, and waits for that. What the owners of
    /// streams want is carried out by then, or has failed, where this server leads; a deletion that takes longer than a
    /// request may goes on.
    pub async fn look_again(&self) -> Result<(), Unusable> {
        let looking = self.context.env.timeout(self.context.options.patience, self.context.listings.ask());
        looking.await.map_err(|_| Unusable::TimedOut)?.map_err(Unusable::Storage)
    }

    /// How long a request waits for storage.
    #[must_use]
    pub fn patience(&self) -> std::time::Duration {
        self.context.options.patience
    }

    /// How many streams there are.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.read().len()
    }

    /// Bytes that wait to be stored, of all streams.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        crate::limits::QUEUE_BYTES - self.context.queue.available_permits()
    }

    /// Creates a stream, or confirms that it exists with these settings.
    pub async fn create(
        &self,
        name: &StreamName,
        settings: SettingsPatch,
    ) -> Result<(Created, Arc<Stream>), AdminError> {
        let (vault, name) = (self.clone(), name.clone());
        self.to_the_end(async move { vault.create_now(&name, settings).await }).await
    }

    async fn create_now(
        &self,
        name: &StreamName,
        settings: SettingsPatch,
    ) -> Result<(Created, Arc<Stream>), AdminError> {
        let wanted = settings.clone();
        match self.stream(name) {
            Ok(stream) if stream.is_missing() => {
                let missing = stream.status().trouble.unwrap_or_default();
                return Err(Unusable::Fault(StreamFault::DataMissing(missing)).into());
            }
            Ok(stream) => return confirm(&stream, &wanted).map(|()| (Created::Existing, stream)),
            Err(Unusable::NotFound) => {}
            Err(other) => return Err(other.into()),
        }
        let mut settings = settings.apply_to(&Settings::default());
        settings.check()?;
        let accounts = &self.context.options.accounts;
        match &settings.account {
            Some(account) if !accounts.contains(account) => {
                return Err(AdminError::UnknownAccount {
                    named: account.clone(),
                    known: accounts.join(", "),
                });
            }
            Some(_) => {}
            None => settings.account = accounts.first().cloned(),
        }
        if self.stream_count() >= MAX_STREAMS {
            return Err(AdminError::TooManyStreams(MAX_STREAMS));
        }
        let env = &self.context.env;
        let (id, created) = (env.stream_id(), env.clock.now());
        let mut meta =
            StreamMeta { id, created, settings, begun: false, trimmed: false, deleting: false, owner: None };
        let mark = self.context.mark();
        let container = self.context.prefix.container(name);
        let metadata = meta.to_metadata();
        let created =
            until_definite(env, || self.context.storage.create_container(&container, &metadata)).await;
        match created {
            Ok(()) => {}
            // Another request was first, or ours was carried out although its answer got lost.
            Err(StorageError::AlreadyExists) => {
                let found = meta::read(&self.context, &container).await?;
                if found.id != meta.id {
                    let stream = self.admit(name, found, mark).ok_or(AdminError::StillDeleting)?;
                    return confirm(&stream, &wanted).map(|()| (Created::Existing, stream));
                }
                meta = found;
            }
            Err(StorageError::LeaseHeld) => return Err(AdminError::StillDeleting),
            Err(error) => return Err(Unusable::Storage(error).into()),
        }
        // A successor that has listed the streams already would not know this one.
        self.confirm_lead().await?;
        let stream = self.admit(name, meta, mark).ok_or(AdminError::StillDeleting)?;
        self.context.count_change();
        tracing::info!(stream = %name, "stream created");
        Ok((Created::New, stream))
    }

    /// Changes the settings that are given.
    pub async fn change(
        &self,
        name: &StreamName,
        settings: SettingsPatch,
    ) -> Result<Arc<Stream>, AdminError> {
        let stream = self.stream(name)?;
        let StreamMeta { owner, settings: Settings { account: current, .. }, .. } = stream.meta();
        unowned(owner)?;
        if settings.account.is_some() && settings.account != current {
            return Err(AdminError::OtherSettings(format!(
                "it lives in the account `{}`, for ever",
                current.unwrap_or_default()
            )));
        }
        settings.apply_to(&stream.meta().settings).check()?;
        let (vault, changed) = (self.clone(), Arc::clone(&stream));
        self.to_the_end(async move {
            let change = |meta: &mut StreamMeta| {
                // What storage says counts: somebody may have taken the stream over a moment ago.
                if meta.owner.is_none() {
                    meta.settings = settings.apply_to(&meta.settings);
                }
            };
            let meta = changed.update_meta(change).await.map_err(Unusable::from)?;
            // A successor that has opened the stream already would go on by the settings before these.
            vault.confirm_lead().await?;
            vault.context.count_change();
            unowned(meta.owner)
        })
        .await?;
        Ok(stream)
    }

    /// Asks storage whether this server leads still. What it has stored before that, each successor comes to read.
    async fn confirm_lead(&self) -> Result<(), AdminError> {
        let reign = self.context.reign.borrow().clone().ok_or(AdminError::LeadLost)?;
        match reign.in_force(&self.context.storage, &self.context.env, None).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(AdminError::LeadLost),
            Err(error) => Err(Unusable::from(error).into()),
        }
    }

    /// The leader has turned a request away, or not answered it: who follows looks soon what has become of it.
    pub(crate) fn doubt_leader(&self) {
        self.context.doubts.notify_one();
    }

    /// Carries a change out to its end although its caller may go away, and waits for it as long as a request may.
    async fn to_the_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, AdminError>> + Send + 'static,
    ) -> Result<T, AdminError> {
        let task = self.context.tasks.spawn(change.with_current_context());
        match self.context.env.timeout(self.context.options.patience, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
            Err(_) => Err(Unusable::TimedOut.into()),
        }
    }

    /// For which count of changes the streams were listed.
    pub(crate) fn listed_at(&self) -> Option<u64> {
        *self.listed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The streams were listed after the leader's page showed this count of changes.
    pub(crate) fn set_listed_at(&self, changes: Option<u64>) {
        *self.listed_at.lock().unwrap_or_else(PoisonError::into_inner) = changes;
    }

    /// From now on this server counts the changes, from where the leader before it stopped.
    pub(crate) fn begin_changes(&self, changes: u64) {
        self.context.changes.send_replace(changes);
        self.context.announced.send_replace(Some(changes));
    }

    /// Begins to lead: every stream is opened, a few at a time, whether anybody wants it or not, so that each gets its
    /// last messages on record as committed.
    pub(crate) async fn lead(&self, reign: Reign) -> Result<(), StorageError> {
        for stream in self.read().values() {
            stream.begin_reign();
        }
        // Where nobody has changed anything since this server listed the streams, one that is gone was not deleted.
        let unchanged = self.listed_at() == Some(*self.context.changes.borrow());
        // First the streams, then the leadership: a stream that is not listed yet would be taken for none.
        self.refresh(if unchanged { Absent::IsMissing } else { Absent::WasDeleted }).await?;
        self.context.reign.send_replace(Some(reign));
        let streams: Vec<_> = self.read().values().cloned().collect();
        self.context.tasks.spawn(async move {
            let opening = streams.iter().map(Stream::until_opened);
            futures::stream::iter(opening).buffer_unordered(STREAMS_OPENED_AT_ONCE).collect::<()>().await;
        });
        Ok(())
    }

    /// Stops leading. With [`Command::Finish`] what was accepted is stored first.
    pub(crate) async fn step_down(&self, command: Command) {
        self.context.reign.send_replace(None);
        for stream in self.read().values() {
            stream.end(command);
        }
        self.context.tasks.close();
        self.context.tasks.wait().await;
        self.context.tasks.reopen();
        for stream in self.read().values() {
            stream.end_reign();
        }
        // What this server knows of the streams is as new as the page, if the page shows all that it has changed.
        let (changes, announced) = (*self.context.changes.borrow(), *self.context.announced.borrow());
        self.set_listed_at(announced.filter(|announced| *announced == changes));
    }

    fn forget(&self, stream: &Arc<Stream>) {
        stream.set_deleted();
        let mut streams = self.write();
        if streams.get(stream.name()).is_some_and(|known| Arc::ptr_eq(known, stream)) {
            self.context.let_go(stream.meta().id);
            streams.remove(stream.name());
        }
    }

    /// Takes in a stream that a look at storage, begun at `mark`, has found. `None` where it was let go of meanwhile.
    fn admit(&self, name: &StreamName, meta: StreamMeta, mark: Mark) -> Option<Arc<Stream>> {
        let mut streams = self.write();
        if let Some(stream) = streams.get(name) {
            return Some(Arc::clone(stream));
        }
        if !self.context.take_in(meta.id, mark) {
            return None;
        }
        let stream = Stream::new(Arc::clone(&self.context), name.clone(), meta);
        streams.insert(name.clone(), Arc::clone(&stream));
        Some(stream)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<StreamName, Arc<Stream>>> {
        self.streams.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<StreamName, Arc<Stream>>> {
        self.streams.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What Kubernetes says a stream is like, nobody else changes.
fn unowned(owner: Option<String>) -> Result<(), AdminError> {
    owner.map_or(Ok(()), |owner| Err(AdminError::Managed(owner)))
}

fn confirm(stream: &Arc<Stream>, wanted: &SettingsPatch) -> Result<(), AdminError> {
    let settings = stream.meta().settings;
    if wanted.apply_to(&settings) == settings {
        return Ok(());
    }
    let found = serde_json::to_string(&settings).expect("settings are numbers and words");
    Err(AdminError::OtherSettings(found))
}
