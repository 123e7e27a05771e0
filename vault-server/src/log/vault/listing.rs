//! Which containers there are, and what their owners want.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vault_format::names::StreamName;

use super::{Absent, Vault};
use crate::log::retry::until_definite;
use crate::log::settings::StreamMeta;
use crate::log::stream::Stream;
use crate::storage::StorageError;

/// What a listing shows.
#[derive(Default)]
struct Listed {
    streams: BTreeMap<StreamName, StreamMeta>,
    /// Names that two accounts have a container of, and which accounts those are.
    twice: BTreeMap<StreamName, String>,
}

impl Vault {
    /// Looks which containers there are: takes in new ones and what owners have changed, and lets go or holds back the
    /// streams whose containers are gone.
    pub(crate) async fn refresh(&self, absent: Absent) -> Result<(), StorageError> {
        let mark = self.context.mark();
        let known: Vec<_> =
            self.read().values().map(|stream| (Arc::clone(stream), stream.meta_read())).collect();
        let Listed { streams: mut found, mut twice } = self.look().await?;
        // Streams that were made since the listing began are not among the known ones.
        for (stream, meta_read) in &known {
            let found = found.get(stream.name());
            match absent {
                Absent::WasDeleted => self.take_as_follower(stream, found),
                // Nobody can tell which of the two is meant.
                Absent::IsMissing if twice.contains_key(stream.name()) => {}
                Absent::IsMissing => self.take_as_leader(stream, found, *meta_read),
            }
        }
        // Of those that were deleted since the listing began it may show what was there before.
        let deleted: BTreeSet<_> = known
            .iter()
            .filter(|(stream, _)| stream.is_deleted())
            .map(|(stream, _)| stream.meta().id)
            .collect();
        found.retain(|_, meta| !deleted.contains(&meta.id));
        for (name, meta) in found {
            let is_new = !self.read().contains_key(&name);
            let Some(stream) = self.admit(&name, meta, mark) else { continue };
            stream.set_twice(twice.remove(&name));
            if is_new && absent == Absent::IsMissing {
                // Followers list no container that somebody else has made before they are told to.
                self.context.count_change();
            }
        }
        Ok(())
    }

    /// A stream that this server knows, as a listing shows it. Whoever leads says what became of it.
    fn take_as_follower(&self, stream: &Arc<Stream>, found: Option<&StreamMeta>) {
        match found {
            Some(meta) if meta.id == stream.meta().id => stream.set_meta(meta.clone()),
            // Deleted, or deleted and made anew, through another server.
            _ => self.forget(stream),
        }
    }

    /// The same where this server leads: it is the one that followers are told by, as of every change. They do not list
    /// otherwise.
    fn take_as_leader(&self, stream: &Arc<Stream>, found: Option<&StreamMeta>, meta_read: u64) {
        match found {
            Some(meta) if meta.id == stream.meta().id => {
                if let Some(term) = self.term()
                    && stream.take_back(term)
                {
                    tracing::warn!(stream = %stream.name(), "the stream's container is there again");
                }
                if !stream.take_from_owner(meta, meta_read) {
                    return;
                }
                tracing::info!(stream = %stream.name(), owner = meta.owner, "the stream's owner has changed it");
                self.context.count_change();
            }
            // Its messages are gone, and what is there now is another stream: it begins at offset 0, under its own id.
            // Whoever has made it knew what they did, and had to delete the old one first.
            Some(meta) => {
                tracing::warn!(stream = %stream.name(), was = %stream.meta().id, is = %meta.id, "the stream was made anew");
                self.forget(stream);
                self.context.count_change();
            }
            // It was told to go, and the answer got lost.
            None if stream.may_be_deleted() => {
                tracing::info!(stream = %stream.name(), "stream deleted");
                self.forget(stream);
                self.context.count_change();
            }
            None if !stream.is_missing() => stream.set_missing(),
            None => {}
        }
    }

    async fn look(&self) -> Result<Listed, StorageError> {
        let prefix = self.context.prefix.as_str();
        let entries =
            until_definite(&self.context.env, || self.context.storage.list_containers(prefix)).await?;
        let mut listed = Listed::default();
        for (index, entry) in entries.iter().enumerate() {
            let Some(name) = self.context.prefix.stream_of(&entry.name) else { continue };
            if let Some(before) = index.checked_sub(1).map(|before| &entries[before])
                && before.name == entry.name
            {
                let accounts = format!("`{}` and `{}`", before.account, entry.account);
                listed.twice.insert(name.clone(), accounts);
            }
            match StreamMeta::from_metadata(&entry.metadata) {
                Ok(meta) => {
                    listed.streams.insert(name, meta);
                }
                Err(error) => {
                    tracing::warn!(container = %entry.name, %error, "this container is not a stream's");
                }
            }
        }
        Ok(listed)
    }
}
