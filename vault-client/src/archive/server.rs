//! A stream that is read through its servers: as the source of a copy, and to be verified.

use std::error::Error as StdError;

use async_trait::async_trait;
use futures::StreamExt;
use serde_json::{Map, Value};
use thiserror::Error;
use vault_format::audit::{Audit, Counts, Flaw};
use vault_format::chain::Chain;
use vault_format::ids::{InvalidId, Offset, StreamId, Timestamp};
use vault_server::log::inspect::StoredBatch;
use vault_server::log::settings::{Settings, SettingsPatch, rule};

use super::limits::LOOK_EVERY;
use super::{ArchiveError, Observer, Origin, Progress, Source};
use crate::client::Client;
use crate::reader::{Batches, ReadError};
use crate::streams::Description;

/// A stream behind servers, as the source of a copy.
#[derive(Debug)]
pub struct ServerSource {
    client: Client,
    stream: String,
    direct: bool,
    origin: Origin,
    /// What comes next, and where that is. `None`: it has to be asked for.
    batches: Option<Batches>,
    next: Offset,
    /// What was to be read from; it is an error to end in front of it.
    from: Offset,
}

/// What a server says of a stream that makes no sense.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the server says of the stream: {0}")]
pub struct Nonsense(String);

impl ServerSource {
    /// The stream `stream` of the servers that `client` speaks to. With `direct`, sealed segments are read from Blob storage
    /// where that can be.
    pub async fn open(client: &Client, stream: &str, direct: bool) -> Result<Self, ArchiveError> {
        let description = client.describe_stream(stream).await.map_err(failed)?;
        let origin = origin(&description).map_err(failed)?;
        let (client, stream) = (client.clone(), stream.to_owned());
        let (next, from) = (Offset::ZERO, Offset::ZERO);
        Ok(Self { client, stream, direct, origin, batches: None, next, from })
    }

    async fn describe(&self) -> Result<Description, ArchiveError> {
        self.client.describe_stream(&self.stream).await.map_err(failed)
    }

    fn ask(&self) -> Batches {
        let reader = self.client.reader(&self.stream).from(self.next);
        if self.direct { reader.direct().batches() } else { reader.batches() }
    }

    fn error(&self, error: ReadError) -> ArchiveError {
        match &error {
            ReadError::BelowFirst { wanted, first_offset } => {
                ArchiveError::Overtaken { next_offset: *wanted, first_offset: *first_offset }
            }
            ReadError::Request(crate::Error::Refused(problem)) if problem.code == "beyond_tail" => {
                let end_offset = Offset(problem.end_offset.unwrap_or_default());
                ArchiveError::SourceIsOlder { next_offset: self.next.max(self.from), end_offset }
            }
            _ => failed(error),
        }
    }
}

fn failed(error: impl StdError + Send + Sync + 'static) -> ArchiveError {
    ArchiveError::Source(Box::new(error))
}

/// What a copy must know of a stream. Settings that this version does not know are left out.
fn origin(description: &Description) -> Result<Origin, Nonsense> {
    let summary = &description.summary;
    let id: StreamId = summary.id.parse().map_err(|error: InvalidId| Nonsense(error.to_string()))?;
    let known = summary.settings.iter().filter(|(name, _)| *name != "account" && rule(name).is_some());
    let known: Map<String, Value> = known.map(|(name, value)| (name.clone(), value.clone())).collect();
    let patch: SettingsPatch = serde_json::from_value(Value::Object(known))
        .map_err(|error| Nonsense(format!("settings: {error}")))?;
    patch.check().map_err(|error| Nonsense(error.to_string()))?;
    let settings = patch.apply_to(&Settings::default());
    Ok(Origin { id, created: Timestamp(summary.created), settings })
}

#[async_trait]
impl Source for ServerSource {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    async fn first_offset(&mut self) -> Result<Offset, ArchiveError> {
        Ok(Offset(self.describe().await?.first_offset.unwrap_or_default()))
    }

    async fn total_bytes(&mut self, from: Offset) -> Result<Option<u64>, ArchiveError> {
        let Description { first_offset, next_offset, bytes, .. } = self.describe().await?;
        let (Some(first), Some(next), Some(bytes)) = (first_offset, next_offset, bytes) else {
            return Ok(None);
        };
        // Messages are about as long everywhere.
        let (all, left) = (next.saturating_sub(first).max(1), next.saturating_sub(from.0));
        let share = u128::from(bytes) * u128::from(left) / u128::from(all);
        Ok(u64::try_from(share).ok())
    }

    async fn seek(&mut self, from: Offset) -> Result<(), ArchiveError> {
        // The batch in front of it comes, too.
        let before = if from > self.first_offset().await? { from.0 - 1 } else { from.0 };
        (self.next, self.from, self.batches) = (Offset(before), from, None);
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<StoredBatch>, ArchiveError> {
        let mut batches = self.batches.take().unwrap_or_else(|| self.ask());
        match batches.next().await {
            Some(Ok(batch)) => {
                self.next = self.next.max(batch.header.next_offset());
                self.batches = Some(batches);
                Ok(Some(StoredBatch { header: batch.header, bytes: batch.bytes }))
            }
            Some(Err(error)) => Err(self.error(error)),
            None if self.next < self.from => {
                Err(ArchiveError::SourceIsOlder { next_offset: self.from, end_offset: self.next })
            }
            None => Ok(None),
        }
    }

    async fn wait(&mut self) -> Result<(), ArchiveError> {
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    }
}

/// What the servers show of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerReport {
    /// The first offset that is kept.
    pub first_offset: Offset,
    /// The offset behind the last message that was read.
    pub next_offset: Offset,
    /// Messages, batches and bytes that are intact, and their times.
    pub counts: Counts,
    /// The first place that cannot be read.
    pub damage: Option<ServerDamage>,
}

/// Where a stream cannot be read through its servers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("offset {offset} cannot be read: {detail}")]
pub struct ServerDamage {
    /// The offset of the message that should come.
    pub offset: Offset,
    /// What the server says, or what is wrong with what it sent.
    pub detail: String,
}

/// The codes of servers that tell of damage.
const DAMAGE: [&str; 4] = ["corrupt", "data_missing", "format_too_new", "two_accounts"];

/// Reads all that a stream has now through its servers, and checks every batch down to its records. The servers skip no
/// damage, so that nothing behind the first is looked at.
pub async fn verify_server(
    client: &Client,
    stream: &str,
    observer: Observer<'_>,
) -> Result<ServerReport, ArchiveError> {
    let description = client.describe_stream(stream).await.map_err(failed)?;
    let first_offset = Offset(description.first_offset.unwrap_or_default());
    let mut progress = Progress { total_bytes: description.bytes, ..Progress::default() };
    let mut batches = client.reader(stream).from(first_offset).batches();
    let mut audit = Audit::new();
    let mut next_offset = first_offset;
    let damage = loop {
        match batches.next().await {
            None => break None,
            Some(Ok(batch)) => {
                progress.bytes += batch.header.written_bytes();
                progress.messages += u64::from(batch.header.record_count);
                // Between two answers there may be batches without messages, which nobody sent.
                let before = Chain::before(&batch.header);
                if audit.chain().is_some_and(|chain| chain.position != before.position) {
                    audit.go_on_at(before);
                }
                match audit.check(&batch.bytes) {
                    Ok(_) => next_offset = next_offset.max(batch.header.next_offset()),
                    // Who was not shown a batch cannot know what it said of producers.
                    Err(Flaw::Snapshot) => {}
                    Err(flaw) => break Some(ServerDamage { offset: next_offset, detail: flaw.to_string() }),
                }
                observer(&progress);
            }
            Some(Err(ReadError::Damaged { offset, reason })) => {
                break Some(ServerDamage { offset, detail: reason.to_string() });
            }
            Some(Err(ReadError::Request(error)))
                if error.code().is_some_and(|code| DAMAGE.contains(&code)) =>
            {
                break Some(ServerDamage { offset: next_offset, detail: error.to_string() });
            }
            Some(Err(error)) => return Err(failed(error)),
        }
    };
    Ok(ServerReport { first_offset, next_offset, counts: *audit.counts(), damage })
}
