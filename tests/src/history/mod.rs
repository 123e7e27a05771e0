//! What happened in a run with faults, as its clients and its storage saw it, and whether that keeps the promises.
//!
//! Every message has an id of its own, so that each place in the log can be told from each other. A history is a list of
//! events that can be written down; [`check()`] is a pure function of it. Simulations record one, and so can tests that
//! drive real processes: what only a simulated storage sees ([`Event::Claim`], [`Event::Write`]) may be missing then.
//!
//! | promise | held against |
//! |---|---|
//! | every acknowledged message once, at its offset; what was refused never; the rest at most once, whole runs | [`Append`], [`Stored`] |
//! | what was acknowledged or shown before an append began stands before it; a session's messages in its order | [`Append`], [`Read`] |
//! | what is read is what is stored, from where it was to begin, without gaps, up to where it was to end | [`Read`] |
//! | only what retention deletes is passed over, not before | [`Read`], [`Event::Deleting`] |
//! | nothing is deleted that is younger than what retention keeps | [`Append`], [`Event::Deleting`], [`Event::Keeps`] |
//! | a strong read misses nothing that was acknowledged before, or that the same server told of; it tells of nothing that is not | [`Read`] |
//! | no term has two holders; nothing of a term lands after a higher one's claim; a place has one content in a term, and the term does not clear it | [`Event::Term`], [`Event::Claim`], [`Event::Write`], [`Event::Clear`] |
//! | appends go on in time, and do not pause again | [`Event::GoesOn`] |

mod answer;
mod check;
mod reached;
mod tally;

use serde::{Deserialize, Serialize};

pub use self::check::{Verdict, check};
pub use self::reached::Reached;
pub use self::tally::Tally;

/// Something that happened. Times are in ms since the run began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// An append that has ended for its client.
    Append(Append),
    /// A read that has ended.
    Read(Read),
    /// A part of what a stream holds in the end, or what was deleted from it in order.
    Stored(Stored),
    /// A server has obtained a term.
    Term {
        /// The term.
        term: u64,
        /// Who: a server, and which life of it.
        holder: String,
    },
    /// From now on nothing of a lower term lands in a segment.
    Claim {
        /// The segment.
        blob: String,
        /// The term.
        term: u64,
    },
    /// A batch, or a part of one, has landed in a segment.
    Write {
        /// The segment.
        blob: String,
        /// Where in it.
        position: u64,
        /// The term that stands in the batch.
        fence: u64,
        /// The checksums of its pages, one after the other.
        pages: Vec<u32>,
    },
    /// Pages of a segment have been cleared.
    Clear {
        /// The segment.
        blob: String,
        /// The position of the first.
        from: u64,
        /// Behind the last.
        to: u64,
        /// The term of whoever cleared them.
        fence: u64,
    },
    /// A segment that holds messages is to be deleted: the request is sent.
    Deleting {
        /// Of this stream.
        stream: String,
        /// The offset behind its last message.
        to: u64,
        /// When.
        at_ms: u64,
        /// The segment has changed since its sender looked at it, so that storage refuses. What a deposed leader saw blank
        /// may hold its successor's messages by now.
        in_vain: bool,
    },
    /// What is younger than this must not be deleted, all through the run.
    Keeps {
        /// From this stream.
        stream: String,
        /// Counted from when its append began until its deletion was asked for. How far clocks differed is taken off:
        /// servers go by timestamps, which are as wrong as the clock that they are taken from.
        for_ms: u64,
    },
    /// Nothing is in the way of appends any more: those that begin from now on must succeed in time.
    GoesOn {
        /// To this stream.
        stream: String,
        /// What is over.
        what: String,
        /// From this time on.
        from_ms: u64,
        /// For as long as this appends must not pause for longer again: a leader that is about to go may take some at
        /// first, and nobody after it. The same as `from_ms` where only the first append behind that counts. The history
        /// must hold appends that go so far: where they run out before, they have not gone on.
        until_ms: u64,
        /// How long a pause may be at most.
        within_ms: u64,
    },
}

/// A run of messages that was to be appended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Append {
    /// To this stream.
    pub stream: String,
    /// Where appends are to stand in the order in which they were begun: whose they are, and the how manieth this is.
    pub session: Option<(String, u64)>,
    /// When it was first sent.
    pub begun_ms: u64,
    /// When its outcome was known to the client.
    pub ended_ms: u64,
    /// The ids of its messages.
    pub messages: Vec<String>,
    /// What the client knows of it.
    pub outcome: Outcome,
}

/// What a client knows of an append.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// It is stored.
    Acknowledged {
        /// Where its first message stands.
        first_offset: u64,
    },
    /// It is not stored, nor will be.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// A message at its place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Placed {
    /// Its offset.
    pub offset: u64,
    /// Its timestamp.
    pub timestamp: u64,
    /// Its id.
    pub id: String,
}

/// Messages that were read one after the other.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Read {
    /// From this stream.
    pub stream: String,
    /// By whom.
    pub reader: String,
    /// Which server was asked, if it was one alone.
    pub server: Option<usize>,
    /// When it was asked for.
    pub begun_ms: u64,
    /// When the last of it came.
    pub ended_ms: u64,
    /// What came.
    pub messages: Vec<Placed>,
    /// Where it was to begin, or to go on.
    pub from: Option<u64>,
    /// It may begin later, and end with nothing to show before its end: what retention has deleted is left out.
    pub skips: bool,
    /// It was to begin with the first message of this time or later.
    pub since: Option<u64>,
    /// Where the answer ended, if it said so.
    pub up_to: Option<u64>,
    /// Where the stream ended, if the answer said so.
    pub end_offset: Option<u64>,
    /// All that was acknowledged before must be there.
    pub strong: bool,
}

/// A part of what is stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// In this stream.
    pub stream: String,
    /// One after the other.
    pub messages: Vec<Placed>,
}
