//! A storage account: what the backends' contract says, no more. Each operation is one atomic step, condition and change
//! together.
//!
//! An ETag is modelled by the sequence number and by which of the blobs of that name it is: it changes when these do. Real
//! ones may change more often, so that more is refused.

use crate::batch::{Batch, Page};
use crate::{Name, Offset, Position, Term};

/// The number with which a segment is made, above every term: nobody has used it.
pub const UNUSED: Term = Term::MAX;

/// Names a state of a page blob.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct State {
    /// Its number.
    pub number: Term,
    /// When it was made.
    pub made: u8,
}

/// What storage holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Storage {
    /// The sequence number of the blob `leader`: the highest term given out.
    pub leader: Term,
    /// Who holds the lease on it.
    pub lease: Option<Name>,
    /// Metadata of the stream's container: the stream has had a segment.
    pub begun: bool,
    /// Metadata of the stream's container: retention deletes segments.
    pub trimmed: bool,
    /// Oldest first.
    pub segments: Vec<Segment>,
    /// How many segments were deleted: what tells those of one name apart.
    pub deleted: u8,
}

/// A page blob.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Segment {
    /// The offset of its first message, and its name.
    pub base: Offset,
    /// Its sequence number: the highest term that has claimed it, or [`UNUSED`].
    pub number: Term,
    /// After how many deletions it was made.
    pub made: u8,
    /// What is written.
    pub pages: Vec<Page>,
}

impl Segment {
    /// Whether no page is written.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.pages.iter().all(|page| *page == Page::Blank)
    }

    /// Whether nobody has ever used it: it was made, and neither claimed nor written to.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        // It is made with 0 where a rule is taken out.
        self.number == UNUSED || (self.number == 0 && self.is_blank())
    }

    /// Its ETag.
    #[must_use]
    pub fn state(&self) -> State {
        State { number: self.number, made: self.made }
    }
}

/// How storage answers a request that changes something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is done.
    Done,
    /// 412: the condition does not hold.
    Refused,
    /// 404.
    Missing,
    /// 409: the blob is there already.
    Exists,
}

impl Storage {
    /// An account in which a stream was created, and nothing else has happened.
    #[must_use]
    pub fn new() -> Self {
        Self { leader: 0, lease: None, begun: false, trimmed: false, segments: Vec::new(), deleted: 0 }
    }

    /// The segment with this base.
    #[must_use]
    pub fn segment(&self, base: Offset) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.base == base)
    }

    fn segment_mut(&mut self, base: Offset) -> Option<&mut Segment> {
        self.segments.iter_mut().find(|segment| segment.base == base)
    }

    /// Set Blob Properties, action `max`: the answer carries the number in force. `None`: 404.
    pub fn raise(&mut self, base: Offset, term: Term) -> Option<Term> {
        let segment = self.segment_mut(base)?;
        segment.number = segment.number.max(term);
        Some(segment.number)
    }

    /// Set Blob Properties, action `update`, of a segment that nobody has used, with `If-Match` in the state in which it was
    /// `seen`; with `None` in any such state.
    pub fn claim_unused(&mut self, base: Offset, term: Term, seen: Option<u8>) -> Answer {
        let Some(segment) = self.segment_mut(base) else { return Answer::Missing };
        if segment.number != UNUSED || seen.is_some_and(|made| segment.made != made) {
            return Answer::Refused;
        }
        segment.number = term;
        Answer::Done
    }

    /// Put Blob with `If-None-Match: *`.
    pub fn create(&mut self, base: Offset, number: Term, pages: u8) -> Answer {
        if self.segment(base).is_some() {
            return Answer::Exists;
        }
        let at = self.segments.partition_point(|segment| segment.base < base);
        let (pages, made) = (vec![Page::Blank; usize::from(pages)], self.deleted);
        self.segments.insert(at, Segment { base, number, made, pages });
        Answer::Done
    }

    /// Put Page of those pages of the batches that `stored` says, under the condition that the number is `term`; with
    /// `None` under no condition.
    pub fn put(
        &mut self,
        base: Offset,
        batches: &[Batch],
        term: Option<Term>,
        stored: impl Fn(usize) -> bool,
    ) -> Answer {
        let Some(segment) = self.segment_mut(base) else { return Answer::Missing };
        if term.is_some_and(|term| segment.number != term) {
            return Answer::Refused;
        }
        let parts = batches.iter().flat_map(|batch| (0..batch.pages).map(move |part| (*batch, part)));
        for (index, (batch, part)) in parts.enumerate() {
            if stored(index) {
                segment.pages[usize::from(batch.position + part)] = Page::Of(batch, part);
            }
        }
        Answer::Done
    }

    /// Clear Pages, from a position to the end of the segment.
    pub fn clear(&mut self, base: Offset, from: Position, term: Option<Term>) -> Answer {
        let Some(segment) = self.segment_mut(base) else { return Answer::Missing };
        if term.is_some_and(|term| segment.number != term) {
            return Answer::Refused;
        }
        segment.pages[usize::from(from)..].fill(Page::Blank);
        Answer::Done
    }

    /// Delete Blob with `If-Match`.
    pub fn delete(&mut self, base: Offset, seen: Option<State>) -> Answer {
        let Some(at) = self.segments.iter().position(|segment| segment.base == base) else {
            return Answer::Missing;
        };
        if seen.is_some_and(|seen| self.segments[at].state() != seen) {
            return Answer::Refused;
        }
        self.segments.remove(at);
        self.deleted += 1;
        Answer::Done
    }

    /// Set Sequence Number of the blob `leader`, with `If-Match` and the lease.
    pub fn set_leader(&mut self, to: Term, if_number: Option<Term>, holder: Name) -> Answer {
        if if_number.is_some_and(|number| self.leader != number || self.lease != Some(holder)) {
            return Answer::Refused;
        }
        self.leader = to;
        Answer::Done
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self::new()
    }
}
