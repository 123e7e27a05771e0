//! Whether a stream is whole: every batch is read and checked, down to its records.

use vault_format::audit::Counts;
use vault_format::ids::Offset;
use vault_server::log::inspect::{Gap, Step, StoredStream, Walk};

use super::{ArchiveError, Observer, Progress};

/// What there is of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The offset of the first message that is kept; `None` where there is no segment.
    pub first_offset: Option<Offset>,
    /// The offset behind the last one that was found.
    pub next_offset: Offset,
    /// Messages, batches and bytes that are intact, and their times.
    pub counts: Counts,
    /// The segments that were looked at.
    pub segments: u64,
    /// Damage, in order, with the messages that are lost by it.
    pub gaps: Vec<Gap>,
}

impl Report {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.gaps.is_empty()
    }

    pub(super) fn of(walk: &Walk, gaps: Vec<Gap>) -> Self {
        Self {
            first_offset: walk.first_offset(),
            next_offset: walk.next_offset(),
            counts: *walk.counts(),
            segments: walk.segments_seen(),
            gaps,
        }
    }
}

/// Reads all of a stream, past damage too. Servers should be down: what one appends meanwhile is read, or not.
pub async fn verify(stream: &StoredStream, observer: Observer<'_>) -> Result<Report, ArchiveError> {
    let mut progress =
        Progress { total_bytes: Some(stream.written_bytes(Offset::ZERO).await?), ..Progress::default() };
    let (mut walk, mut gaps) = (stream.walk(), Vec::new());
    loop {
        match walk.next().await? {
            Step::Batch(batch) => {
                progress.add(&batch);
                observer(&progress);
            }
            Step::Damaged(_) => gaps.extend(walk.go_on_behind().await?),
            Step::End => return Ok(Report::of(&walk, gaps)),
        }
    }
}
