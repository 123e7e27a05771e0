//! A stream made anew from a copy: the same id, offsets and timestamps, all of it or nothing.
//!
//! As long as it is not whole, its container says `restoring` in the place of its id, and servers take it for no stream:
//! a restore that is broken off leaves nothing that looks complete. The same restore again goes on where it ended. At its
//! end what was written is read and checked, and only then the container gets the stream's id.
//!
//! **Repair** keeps all that is intact, in front of damage and behind it. Offsets have no gaps, so each lost message gets
//! a placeholder: an empty value, and the header [`LOST_HEADER`](super::writer::LOST_HEADER). What is lost in front of the
//! first intact message gets none: the stream begins behind it, as if retention had deleted it.

use vault_format::ids::Offset;
use vault_format::names::StreamName;
use vault_server::log::inspect::{Gap, Step, StoredStream};

use super::verify::{Report, verify};
use super::writer::{LogWriter, Wholeness};
use super::{ArchiveError, Observer, Origin, Place, Progress};

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the new stream holds, as it was read again at the end.
    pub report: Report,
    /// What was lost, and where in the source; empty but for a repair.
    pub gaps: Vec<Gap>,
}

/// Restores a stream of `source` to `target`, under the same name. It must not exist there, unless as a restore of the same stream
/// that was broken off. Without `repair` damage in the source is an error, and the stream stays unfinished.
pub async fn restore(
    source: &Place,
    target: &Place,
    name: &StreamName,
    repair: bool,
    observer: Observer<'_>,
) -> Result<Restored, ArchiveError> {
    let stream = source.stream(name).await?;
    let mut writer =
        LogWriter::open(target, name, &Origin::from(stream.meta()), Wholeness::AllOrNothing).await?;
    match write_and_check(&stream, &mut writer, repair, observer).await {
        Ok(restored) => {
            writer.complete().await?;
            Ok(restored)
        }
        Err(error) => Err(writer.fail(error).await),
    }
}

async fn write_and_check(
    stream: &StoredStream,
    writer: &mut LogWriter,
    repair: bool,
    observer: Observer<'_>,
) -> Result<Restored, ArchiveError> {
    // It is read twice: once there, once here.
    let total_bytes = Some(2 * writer.keep_during(stream.written_bytes(Offset::ZERO)).await??);
    let mut progress = Progress { total_bytes, ..Progress::default() };
    let (gaps, end_offset) = write_all(stream, writer, repair, &mut progress, observer).await?;
    writer.record().await?;
    let written = progress;
    let mut seen = |read: &Progress| observer(&Progress { bytes: written.bytes + read.bytes, ..written });
    let report = check(writer, end_offset, &mut seen).await?;
    Ok(Restored { report, gaps })
}

/// Writes everything that is not there yet; answers what is lost, and where the stream ends.
async fn write_all(
    stream: &StoredStream,
    writer: &mut LogWriter,
    repair: bool,
    progress: &mut Progress,
    observer: Observer<'_>,
) -> Result<(Vec<Gap>, Offset), ArchiveError> {
    // All of it is looked at each time: what is said of lost messages is complete, and what a repair wrote that was broken
    // off is not taken for whole by a restore that is none.
    let mut walk = stream.walk();
    let mut gaps = Vec::new();
    let mut step = writer.keep_during(walk.next()).await??;
    loop {
        step = match step {
            Step::Batch(batch) => {
                // What comes next is read while this is stored.
                let next = writer.write_during(&batch, walk.next()).await?;
                progress.add(&batch);
                observer(progress);
                next?
            }
            Step::Damaged(damage) if !repair => return Err(ArchiveError::Damaged(damage)),
            Step::Damaged(_) => {
                if let Some(gap) = writer.keep_during(walk.go_on_behind()).await?? {
                    if let Some(to) = gap.to {
                        writer.lose(to).await?;
                    }
                    gaps.push(gap);
                }
                writer.keep_during(walk.next()).await??
            }
            Step::End => break,
        };
    }
    writer.go_on_at(walk.next_offset());
    let (end_offset, next_offset) = (walk.next_offset(), writer.next_offset());
    match next_offset {
        Some(next_offset) if next_offset > end_offset => {
            Err(ArchiveError::SourceIsOlder { next_offset, end_offset })
        }
        _ => Ok((gaps, end_offset)),
    }
}

/// Reads what was written.
async fn check(
    writer: &mut LogWriter,
    end_offset: Offset,
    observer: Observer<'_>,
) -> Result<Report, ArchiveError> {
    let written = writer.written();
    let report = writer.keep_during(verify(&written, observer)).await??;
    if let Some(gap) = report.gaps.first() {
        return Err(ArchiveError::NotAsWritten(gap.damage.to_string()));
    }
    if writer.next_offset().is_some() && report.next_offset != end_offset {
        let (found, wanted) = (report.next_offset, end_offset);
        return Err(ArchiveError::NotAsWritten(format!("it ends at offset {found} instead of {wanted}")));
    }
    Ok(report)
}
