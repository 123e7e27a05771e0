//! Where the batches of a copy come from.

use async_trait::async_trait;
use vault_format::header::Kind;
use vault_format::ids::Offset;
use vault_server::env::Env;
use vault_server::log::inspect::{InspectError, Step, StoredBatch, StoredStream, Walk};

use super::limits::LOOK_EVERY;
use super::{ArchiveError, Origin, Place};

/// A stream that can be copied: its batches as they are stored, in order.
#[async_trait]
pub trait Source: Send {
    /// The stream's id and settings.
    fn origin(&self) -> &Origin;

    /// The offset of the first message that is kept now; of the next one where there is none.
    async fn first_offset(&mut self) -> Result<Offset, ArchiveError>;

    /// About how many bytes there are to be read from `from` on, where that can be told.
    async fn total_bytes(&mut self, from: Offset) -> Result<Option<u64>, ArchiveError>;

    /// Goes to the batch that holds `from`, or to the end where that is the next offset. The batch in front of it comes,
    /// too, where it is kept, so that it can be held against what is there. Where the stream begins with `from`, its first
    /// batch comes first, which says what is known of producers there.
    async fn seek(&mut self, from: Offset) -> Result<(), ArchiveError>;

    /// The next batch, of any kind. `None` at the end of the stream; asked again, what has come since.
    async fn next(&mut self) -> Result<Option<StoredBatch>, ArchiveError>;

    /// Waits at the end until there may be more, not for ever. It may be given up and begun again.
    async fn wait(&mut self) -> Result<(), ArchiveError>;
}

/// A stream in storage: a directory, or a storage account.
#[derive(Debug)]
pub struct StorageSource {
    env: Env,
    origin: Origin,
    stream: StoredStream,
    walk: Walk,
    from: Option<Offset>,
}

impl StorageSource {
    /// The stream `name` of the vault in `place`.
    pub async fn open(place: &Place, name: &vault_format::names::StreamName) -> Result<Self, ArchiveError> {
        let stream = place.stream(name).await?;
        let (origin, walk) = (Origin::from(stream.meta()), stream.walk());
        Ok(Self { env: place.env.clone(), origin, stream, walk, from: None })
    }
}

#[async_trait]
impl Source for StorageSource {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    async fn first_offset(&mut self) -> Result<Offset, ArchiveError> {
        Ok(self.stream.first_offset().await?.unwrap_or_default())
    }

    async fn total_bytes(&mut self, from: Offset) -> Result<Option<u64>, ArchiveError> {
        Ok(Some(self.stream.written_bytes(from).await?))
    }

    async fn seek(&mut self, from: Offset) -> Result<(), ArchiveError> {
        // From the first message on it is the stream's beginning, which must be there.
        let first = self.first_offset().await?;
        self.walk = if from == first {
            self.stream.walk()
        } else {
            self.stream.walk_from(Offset(from.0.saturating_sub(1)))
        };
        self.from = Some(from);
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<StoredBatch>, ArchiveError> {
        loop {
            match self.walk.next().await {
                Ok(Step::Batch(batch)) => {
                    let wanted = self.from.is_none_or(|from| batch.header.next_offset() >= from);
                    if wanted || batch.header.kind != Kind::Messages {
                        return Ok(Some(batch));
                    }
                }
                Ok(Step::Damaged(damage)) => return Err(ArchiveError::Damaged(damage)),
                Ok(Step::End) => {
                    let (end_offset, next_offset) = (self.walk.next_offset(), self.from.unwrap_or_default());
                    if end_offset < next_offset {
                        return Err(ArchiveError::SourceIsOlder { next_offset, end_offset });
                    }
                    return Ok(None);
                }
                Err(InspectError::Overtaken { wanted, first_offset }) => {
                    return Err(ArchiveError::Overtaken { next_offset: wanted, first_offset });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn wait(&mut self) -> Result<(), ArchiveError> {
        self.env.clock.sleep(LOOK_EVERY).await;
        Ok(())
    }
}
