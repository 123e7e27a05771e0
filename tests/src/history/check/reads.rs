//! Whether readers were shown what is stored, one message after the other.

use super::order::Ends;
use super::{Seen, Verdict};
use crate::history::{Placed, Read};

impl Seen<'_> {
    pub(super) fn check_read(&self, read: &Read, verdict: &mut Verdict) {
        for (index, message) in read.messages.iter().enumerate() {
            if self.log.get(&message.offset) != Some(&message) {
                let stored = self.log.get(&message.offset);
                verdict.breaks(format!(
                    "{} read at {} ms {message:?}, where {stored:?} is stored",
                    read.reader, read.ended_ms
                ));
                return;
            }
            if index > 0 && read.messages[index - 1].offset + 1 != message.offset {
                verdict.breaks(format!("{} was given a gap before {message:?}", read.reader));
            }
        }
        self.check_since(read, verdict);
        check_bounds(read, verdict);
    }

    /// What a reader was not shown of what it asked for was being deleted by then. A leader does not show any more what
    /// it has begun to delete, so that it need not be gone.
    pub(super) fn check_skips(&self, verdict: &mut Verdict) {
        let deletions = self.deletions.iter().map(|deletion| (deletion.at_ms, deletion.to));
        let deletions = Ends::new(deletions.collect());
        for read in self.reads.iter().filter(|read| read.skips) {
            let Some(from) = read.from else { continue };
            let end = read.up_to.or(read.end_offset);
            let [before, behind] = match (read.messages.first(), read.messages.last()) {
                (Some(first), Some(Placed { offset: last, .. })) => {
                    [from..first.offset, last + 1..end.unwrap_or(0)]
                }
                _ => [from..end.unwrap_or(0), 0..0],
            };
            let deleting_to = deletions.before(read.ended_ms + 1);
            for skipped in [before, behind] {
                if !skipped.is_empty() && skipped.end > deleting_to {
                    verdict.breaks(format!(
                        "{} passed over {skipped:?} by {} ms, when nothing from {deleting_to} on was being deleted",
                        read.reader, read.ended_ms
                    ));
                }
            }
        }
    }

    fn check_since(&self, read: &Read, verdict: &mut Verdict) {
        if let (Some(since), Some(first)) = (read.since, read.messages.first()) {
            let before = first.offset.checked_sub(1).and_then(|offset| self.log.get(&offset));
            if first.timestamp < since || before.is_some_and(|before| before.timestamp >= since) {
                verdict.breaks(format!(
                    "{} asked for what came from {since} on and was given {first:?} behind {before:?}",
                    read.reader
                ));
            }
        }
    }
}

/// Whether it begins and ends where it is to.
fn check_bounds(read: &Read, verdict: &mut Verdict) {
    let Read { reader, ended_ms, .. } = read;
    let Some(from) = read.from else { return };
    if let Some(first) = read.messages.first()
        && (first.offset < from || (first.offset > from && !read.skips))
    {
        verdict.breaks(format!("{reader} was to go on at {from} and was given {first:?}"));
    }
    let Some(up_to) = read.up_to else { return };
    // Where what was asked for is deleted, nobody knows where reading began.
    let shown = match read.messages.last() {
        Some(last) => last.offset + 1,
        None if read.skips => up_to,
        None => from,
    };
    if shown != up_to {
        verdict.breaks(format!(
            "{reader} was shown {shown} as the end of an answer at {ended_ms} ms that was to end at {up_to}"
        ));
    }
    let Some(end) = read.end_offset else { return };
    if up_to > end || (up_to < end && read.messages.is_empty()) {
        verdict.breaks(format!(
            "{reader} was told at {ended_ms} ms that its answer ends at {up_to} and the stream at {end}"
        ));
    }
}
