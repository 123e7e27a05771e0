//! A copy that grows with its source: made once, brought up to date, or kept so.

use vault_format::header::Kind;
use vault_format::ids::Offset;
use vault_format::names::StreamName;

use super::writer::{LogWriter, Wholeness};
use super::{ArchiveError, Observer, Place, Progress, Source};

/// What a copy has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copied {
    /// The offset behind the last message that the copy has; `None` where it has none.
    pub next_offset: Option<Offset>,
    /// What was done this time.
    pub progress: Progress,
}

/// Copies a stream to `target`, or brings a copy that is there up to date; with `follow` it goes on at the end, until it
/// is dropped. It may be dropped at any moment, and its process may be killed: the next call goes on where this one
/// ended, but for a put at most.
pub async fn copy(
    source: &mut dyn Source,
    target: &Place,
    name: &StreamName,
    follow: bool,
    observer: Observer<'_>,
) -> Result<Copied, ArchiveError> {
    let origin = source.origin().clone();
    let mut writer = LogWriter::open(target, name, &origin, Wholeness::Grows).await?;
    match write_all(source, &mut writer, follow, observer).await {
        Ok(progress) => {
            let next_offset = writer.next_offset();
            writer.finish().await?;
            Ok(Copied { next_offset, progress })
        }
        Err(error) => Err(writer.fail(error).await),
    }
}

async fn write_all(
    source: &mut dyn Source,
    writer: &mut LogWriter,
    follow: bool,
    observer: Observer<'_>,
) -> Result<Progress, ArchiveError> {
    let from = start(source, writer).await?;
    let total_bytes = writer.keep_during(source.total_bytes(from)).await??;
    let mut progress = Progress { total_bytes, ..Progress::default() };
    writer.keep_during(source.seek(from)).await??;
    let mut next = writer.keep_during(source.next()).await?;
    loop {
        match next {
            Ok(Some(stored)) => {
                // What comes next is read while this is stored.
                let before = writer.next_offset();
                next = writer.write_during(&stored, source.next()).await?;
                let was_there = stored.header.kind == Kind::Messages && writer.next_offset() == before;
                if !was_there {
                    progress.add(&stored);
                    observer(&progress);
                }
            }
            Ok(None) => {
                writer.go_on_at(from);
                if !follow {
                    return Ok(progress);
                }
                writer.record().await?;
                writer.keep_during(source.wait()).await??;
                next = writer.keep_during(source.next()).await?;
            }
            // What stands before the damage, or came before the source was gone, is in the copy.
            Err(error) => {
                writer.record().await?;
                return Err(error);
            }
        }
    }
}

/// Where the copy goes on.
async fn start(source: &mut dyn Source, writer: &LogWriter) -> Result<Offset, ArchiveError> {
    let first_offset = source.first_offset().await?;
    match writer.next_offset() {
        Some(next_offset) if next_offset < first_offset => {
            Err(ArchiveError::Overtaken { next_offset, first_offset })
        }
        Some(next_offset) => Ok(next_offset),
        None => Ok(first_offset),
    }
}

impl Progress {
    /// Counts a batch.
    pub(super) fn add(&mut self, batch: &vault_server::log::inspect::StoredBatch) {
        self.bytes += batch.header.written_bytes();
        self.messages += u64::from(batch.header.record_count);
    }
}
