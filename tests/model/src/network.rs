//! Requests on their way to storage.
//!
//! ```text
//!  sent ---> answered: carried out, and its sender hears how it ended
//!      \---> timed out: nobody waits for it any more ---> it lands, some time, or never
//! ```
//!
//! Only requests that change something are on their way. A read is one step: an answer that is lost changes nothing, and
//! the read is sent again. So is a claim, but that a copy of it may be left on its way.

use std::fmt;

use crate::batch::{Batch, Kind};
use crate::mutation::Mutation;
use crate::state::Protocol;
use crate::storage::{self, Answer, Storage, UNUSED};
use crate::{Message, Name, Offset, Position, Term};

/// A request on its way.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Request {
    /// Who has sent it.
    pub from: Name,
    /// Under which term, or for which term.
    pub term: Term,
    /// Whether its sender waits for the answer.
    pub awaited: bool,
    /// What it asks for.
    pub what: What,
}

/// What a request asks for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum What {
    /// Set the number of `leader` to the term, if it still is this.
    SetTerm {
        /// The number that was read.
        if_number: Term,
    },
    /// Make a segment that nobody uses yet.
    Create {
        /// The segment.
        base: Offset,
    },
    /// Raise a segment's number to the term; or set it, if nobody has used the segment.
    Claim {
        /// The segment.
        base: Offset,
        /// Where it is set: when the one was made that was seen.
        seen: Option<u8>,
    },
    /// Write batches that follow each other, if the segment's number is the term.
    Put {
        /// The segment.
        base: Offset,
        /// What is written.
        batches: Vec<Batch>,
    },
    /// Clear the pages from here on, if the segment's number is the term.
    Clear {
        /// The segment.
        base: Offset,
        /// The first page.
        from: Position,
    },
    /// Delete a segment, if it is in this state.
    Delete {
        /// The segment.
        base: Offset,
        /// Its state when it was looked at.
        seen: storage::State,
        /// Whether it is a leftover, and not the oldest.
        leftover: bool,
    },
}

impl Request {
    /// Carries it out. `fenced`: conditions are looked at.
    pub fn carry_out(&self, storage: &mut Storage, protocol: &Protocol, fenced: bool) -> Answer {
        let term = fenced.then_some(self.term);
        match &self.what {
            What::SetTerm { if_number } => {
                storage.set_leader(self.term, fenced.then_some(*if_number), self.from)
            }
            What::Create { base } => {
                let number = match protocol.mutation {
                    Some(Mutation::MadeAsUsed) => self.term,
                    Some(Mutation::MadeAsLowest) => 0,
                    _ => UNUSED,
                };
                storage.create(*base, number, protocol.bounds.pages)
            }
            What::Claim { base, seen: None } => {
                storage.raise(*base, self.term).map_or(Answer::Missing, |_| Answer::Done)
            }
            What::Claim { base, seen } => storage.claim_unused(*base, self.term, seen.filter(|_| fenced)),
            What::Put { base, batches } => storage.put(*base, batches, term, |_| true),
            What::Clear { base, from } => storage.clear(*base, *from, term),
            What::Delete { base, seen, .. } => storage.delete(*base, fenced.then_some(*seen)),
        }
    }

    /// Whether storage would refuse it now and for ever, so that it may as well be forgotten: numbers never fall.
    #[must_use]
    pub fn is_hopeless(&self, storage: &Storage) -> bool {
        let claimed_above = |base: &Offset, number: Term| {
            storage.segment(*base).is_some_and(|segment| segment.number > number)
        };
        match &self.what {
            What::SetTerm { if_number } => storage.leader > *if_number,
            What::Create { .. } => false,
            What::Put { base, .. } | What::Clear { base, .. } => claimed_above(base, self.term),
            What::Claim { base, seen: None } => claimed_above(base, self.term - 1),
            What::Claim { base, seen: Some(made) } => {
                let seen = storage::State { number: UNUSED, made: *made };
                storage.segment(*base).is_none_or(|segment| segment.state() != seen)
            }
            What::Delete { base, seen, .. } => {
                storage.segment(*base).is_none_or(|segment| segment.made > seen.made)
                    || (seen.number != UNUSED && claimed_above(base, seen.number))
            }
        }
    }
}

/// The messages in a put.
pub fn messages(batches: &[Batch]) -> impl Iterator<Item = (Message, Offset)> + '_ {
    batches.iter().filter_map(|batch| match batch.kind {
        Kind::Messages(message) => Some((message, batch.base)),
        Kind::Snapshot(_) | Kind::Commit | Kind::Seal => None,
    })
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server {}, term {}: ", self.from, self.term)?;
        match &self.what {
            What::SetTerm { if_number } => write!(f, "set the term, if it is {if_number}")?,
            What::Create { base } => write!(f, "create segment {base}")?,
            What::Claim { base, seen: None } => write!(f, "raise the number of segment {base}")?,
            What::Claim { base, seen: Some(_) } => {
                write!(f, "set the number of segment {base}, if it is the unused one that was seen")?;
            }
            What::Put { base, batches } => {
                write!(f, "put into segment {base}")?;
                for batch in batches {
                    let Batch { kind, position, pages, base, committed, .. } = batch;
                    write!(f, ", {kind:?} at {position}")?;
                    if *pages > 1 {
                        write!(f, " to {}", position + pages - 1)?;
                    }
                    write!(f, " (offset {base}, committed {committed})")?;
                }
            }
            What::Clear { base, from } => write!(f, "clear segment {base} from {from} on")?,
            What::Delete { base, seen, leftover } => {
                let what = if *leftover { "leftover" } else { "oldest" };
                write!(f, "delete the {what} segment {base}, if its number is {}", seen.number)?;
            }
        }
        Ok(())
    }
}
