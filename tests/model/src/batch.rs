//! The stored format. A batch takes one page or two; a segment is a row of pages.
//!
//! A page stands for as many of the 512-byte pages as may be told apart when a write is torn: the one with the header,
//! and the rest. A checksum that does not hold is a batch of which a page is missing.

use std::fmt;

use crate::{MESSAGES, Message, Offset, Position, Term};

/// The offsets of the messages that a leader, or a snapshot, knows of: what the format keeps as producers' outcomes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Known([Option<Offset>; MESSAGES]);

impl Known {
    /// Where a message stands, if it is known to be in the log.
    #[must_use]
    pub fn offset(&self, message: Message) -> Option<Offset> {
        self.0[usize::from(message)]
    }

    /// Takes note of a message.
    pub fn note(&mut self, message: Message, offset: Offset) {
        self.0[usize::from(message)] = Some(offset);
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.iter().enumerate().filter_map(|(message, at)| Some((message, (*at)?)));
        f.debug_map().entries(known).finish()
    }
}

/// What a batch carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Kind {
    /// One message. Group commit is left out: it puts several requests into one batch, which share its fate.
    Messages(Message),
    /// The head of the only block of a segment: who is known of before it.
    Snapshot(Known),
    /// Nothing but what is committed.
    Commit,
    /// Ends the segment; its base offset names the next one.
    Seal,
}

/// A batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Batch {
    /// What it carries.
    pub kind: Kind,
    /// Where in its segment it stands.
    pub position: Position,
    /// How many pages it takes.
    pub pages: u8,
    /// The offset of its message, or of the next one to come.
    pub base: Offset,
    /// The term of its writer.
    pub fence: Term,
    /// Everything before this position is final.
    pub committed: Position,
}

impl Batch {
    /// The position behind it.
    #[must_use]
    pub fn end(&self) -> Position {
        self.position + self.pages
    }
}

/// One page of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Page {
    /// Never written, or cleared.
    Blank,
    /// A page of a batch, by its number in the batch.
    Of(Batch, u8),
    /// What was written there is no longer what is read.
    Damaged,
}

/// The state that a batch must continue.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Chain {
    /// Where the next batch stands.
    pub position: Position,
    /// The offset of the next message.
    pub next: Offset,
    /// The fence of the last batch.
    pub fence: Term,
}

impl Chain {
    /// Before the first batch of a segment.
    #[must_use]
    pub fn at_segment_start(base: Offset) -> Self {
        Self { position: 0, next: base, fence: 0 }
    }

    /// Behind a seal.
    #[must_use]
    pub fn in_next_segment(self) -> Self {
        Self { position: 0, ..self }
    }

    /// Behind a batch that continues it.
    #[must_use]
    pub fn after(self, batch: &Batch) -> Self {
        let messages = u8::from(matches!(batch.kind, Kind::Messages(_)));
        Self { position: batch.end(), next: batch.base + messages, fence: batch.fence }
    }
}

/// By which rules a batch is taken for valid.
#[derive(Clone, Copy)]
pub struct Rules {
    /// Checksums are checked.
    pub checksums: bool,
    /// A batch of an earlier term than the one before it does not continue the chain.
    pub fences: bool,
}

impl Rules {
    /// What the format says.
    pub const FORMAT: Self = Self { checksums: true, fences: true };

    /// The batch that continues `chain` in these pages.
    #[must_use]
    pub fn next_batch(self, pages: &[Page], chain: &Chain) -> Option<Batch> {
        let Some(Page::Of(batch, 0)) = pages.get(usize::from(chain.position)) else { return None };
        let fits = batch.position == chain.position
            && batch.base == chain.next
            && (batch.fence >= chain.fence || !self.fences)
            && (batch.position == 0) == matches!(batch.kind, Kind::Snapshot(_));
        let whole = (0..batch.pages)
            .all(|part| pages.get(usize::from(batch.position + part)) == Some(&Page::Of(*batch, part)));
        (fits && (whole || !self.checksums)).then_some(*batch)
    }

    /// Goes forward from `chain` to the tail or the seal.
    #[must_use]
    pub fn scan(self, pages: &[Page], chain: Chain) -> Scanned {
        let mut scanned = Scanned { chain, ..Scanned::default() };
        while let Some(batch) = self.next_batch(pages, &scanned.chain) {
            scanned.chain = scanned.chain.after(&batch);
            scanned.recorded = batch.committed.max(scanned.recorded);
            scanned.owed = false;
            match batch.kind {
                Kind::Messages(message) => {
                    scanned.known.note(message, batch.base);
                    scanned.owed = true;
                }
                Kind::Snapshot(known) => scanned.known = known,
                Kind::Commit => {}
                Kind::Seal => {
                    scanned.sealed = true;
                    break;
                }
            }
        }
        scanned
    }
}

/// What a scan has found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Scanned {
    /// The state behind the last valid batch.
    pub chain: Chain,
    /// Whether that is a seal.
    pub sealed: bool,
    /// The highest committed position on record.
    pub recorded: Position,
    /// Whether messages come last, so that a commit is still to be written.
    pub owed: bool,
    /// What is known of messages there.
    pub known: Known,
}

impl Default for Scanned {
    fn default() -> Self {
        let (chain, known) = (Chain::at_segment_start(0), Known::default());
        Self { chain, sealed: false, recorded: 0, owed: false, known }
    }
}

/// The first page from `tail` on with a header on whose record something beyond `tail` is committed, of a term up to
/// `highest`: then what stands at `tail` is damaged and not the tail.
#[must_use]
pub fn evidence(pages: &[Page], tail: Position, highest: Term) -> Option<Position> {
    let proves = |at: Position| {
        matches!(pages[usize::from(at)], Page::Of(batch, 0)
            if batch.position == at && batch.fence <= highest && batch.committed > tail)
    };
    (tail..u8::try_from(pages.len()).unwrap_or(u8::MAX)).find(|at| proves(*at))
}
