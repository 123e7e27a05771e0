//! A leader's work: the appender, which decides what the next put holds, and the writer, which sends it until its outcome
//! is known, and answers.

use crate::batch::{Batch, Chain, Kind, Known, Scanned};
use crate::making::Making;
use crate::mutation::Mutation;
use crate::network::{Request, What, messages};
use crate::retention::Deletion;
use crate::state::{Fate, Protocol, Server, State};
use crate::{Message, Name, Offset, Position, Term};

/// What a leader has in memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Leading {
    /// Its term.
    pub term: Term,
    /// The segments, oldest first; it appends to the last. Empty before the first append.
    pub segments: Vec<Offset>,
    /// After everything that was built.
    pub built: Chain,
    /// After everything that was acknowledged.
    pub settled: Chain,
    /// The segment has been ended.
    pub sealed: bool,
    /// The highest committed position on record in settled batches.
    pub recorded: Position,
    /// Messages were acknowledged after the last batch that says what is committed.
    pub owed: bool,
    /// What is known of messages after everything that was built.
    pub known: Known,
    /// Puts that are not acknowledged, oldest first.
    pub in_flight: Vec<Flight>,
    /// The next segment, in the making.
    pub making: Option<Making>,
    /// The oldest segment, being deleted.
    pub deletion: Option<Deletion>,
    /// A strong read waits: what was acknowledged when it began is below this offset.
    pub asked: Option<Offset>,
}

/// A put in flight.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Flight {
    /// What it writes.
    pub batches: Vec<Batch>,
    /// Storage has answered that it is done.
    pub stored: bool,
}

impl Leading {
    /// Goes on where recovery has found the tail.
    #[must_use]
    pub fn new(term: Term, segments: Vec<Offset>, scanned: &Scanned) -> Self {
        let Scanned { chain, recorded, owed, known, .. } = *scanned;
        Self {
            term,
            segments,
            built: chain,
            settled: chain,
            sealed: false,
            recorded,
            owed,
            known,
            in_flight: Vec::new(),
            making: None,
            deletion: None,
            asked: None,
        }
    }

    /// The segment that is appended to.
    #[must_use]
    pub fn open(&self) -> Option<Offset> {
        self.segments.last().copied()
    }

    /// Whether another put may be sent, and not to the next segment.
    fn may_put(&self, protocol: &Protocol) -> bool {
        !self.segments.is_empty() && !self.sealed && self.in_flight.len() < protocol.bounds.in_flight
    }

    /// Whether a message of so many pages fits in front of the page that is kept for the seal.
    fn has_room(&self, protocol: &Protocol, pages: u8) -> bool {
        let snapshot = u8::from(self.built.position == 0);
        self.built.position + snapshot + pages < protocol.bounds.pages
    }

    /// Whether the next message, of so many pages, may be put.
    #[must_use]
    pub fn may_append(&self, protocol: &Protocol, pages: u8) -> bool {
        self.may_put(protocol) && self.has_room(protocol, pages)
    }

    /// Whether the segment is ended: it holds a message, and is full, or retention wants it so.
    #[must_use]
    pub fn may_seal(&self, protocol: &Protocol) -> bool {
        let full = !self.has_room(protocol, if protocol.bounds.long { 2 } else { 1 });
        let holds = self.open().is_some_and(|base| self.built.next > base);
        self.may_put(protocol) && holds && (full || protocol.bounds.retention)
    }

    /// Whether what is committed is put on record: messages are owed it, or retention needs a foothold.
    #[must_use]
    pub fn may_record(&self, protocol: &Protocol) -> bool {
        let foothold = protocol.bounds.retention && self.segments.len() > 1 && self.recorded == 0;
        let wanted = protocol.bounds.commits && (self.owed || foothold);
        wanted && self.may_put(protocol) && self.in_flight.is_empty() && self.has_room(protocol, 1)
    }

    /// Whether the next segment is to be made; and which.
    #[must_use]
    pub fn next_segment(&self, protocol: &Protocol, more: bool) -> Option<Offset> {
        let unsealed = protocol.lacks(Mutation::NoSeal) && self.may_seal(protocol);
        let settled = self.in_flight.is_empty() || protocol.lacks(Mutation::EarlyRollOver);
        match self.open() {
            None => more.then_some(0),
            Some(_) if (self.sealed || unsealed) && settled => Some(self.built.next),
            Some(_) => None,
        }
    }

    fn batch(&mut self, kind: Kind, pages: u8) -> Batch {
        let Chain { position, next: base, .. } = self.built;
        let batch = Batch { kind, position, pages, base, fence: self.term, committed: self.settled.position };
        self.built = self.built.after(&batch);
        batch
    }

    /// The snapshot that the next put begins with, at the head of a segment.
    fn head(&mut self) -> Vec<Batch> {
        let known = self.known;
        let due = self.built.position == 0;
        due.then(|| self.batch(Kind::Snapshot(known), 1)).into_iter().collect()
    }
}

fn put(state: &mut State, name: Name, base: Offset, batches: Vec<Batch>) {
    let Server::Leads(leading) = &mut state.servers[name] else { return };
    leading.in_flight.push(Flight { batches: batches.clone(), stored: false });
    let term = leading.term;
    state.send(name, term, What::Put { base, batches });
}

/// Puts a message.
pub fn append(state: &mut State, protocol: &Protocol, name: Name, message: Message, pages: u8) {
    let end = state.acknowledged_end();
    let Server::Leads(leading) = &mut state.servers[name] else { return };
    let base = leading.open().expect("there is a segment to append to");
    let mut batches = leading.head();
    let batch = leading.batch(Kind::Messages(message), pages);
    batches.push(batch);
    leading.known.note(message, batch.base);
    let fate = &mut state.noted.fates[usize::from(message)];
    let floor = if let Fate::Unknown { floor } = *fate { floor } else { end };
    *fate = Fate::Waiting { floor };
    put(state, name, base, batches);
    if protocol.lacks(Mutation::AcknowledgeUnstored) {
        state.acknowledge(message, batch.base);
    }
}

/// A producer sends a message again. Where it is known to be in the log it is answered with the first outcome. Whether it
/// was.
pub fn repeat(state: &mut State, name: Name, message: Message) -> bool {
    let Server::Leads(leading) = &state.servers[name] else { return false };
    let Some(offset) = leading.known.offset(message) else { return false };
    state.noted.seen.repeated = true;
    state.acknowledge(message, offset);
    true
}

/// Ends the segment.
pub fn seal(state: &mut State, name: Name) {
    let Server::Leads(leading) = &mut state.servers[name] else { return };
    let base = leading.open().expect("there is a segment to seal");
    leading.sealed = true;
    let batch = leading.batch(Kind::Seal, 1);
    put(state, name, base, vec![batch]);
}

/// Puts on record what is committed: with the snapshot at the head of a segment, else with a commit.
pub fn record(state: &mut State, name: Name) {
    let Server::Leads(leading) = &mut state.servers[name] else { return };
    let base = leading.open().expect("there is a segment to write to");
    let mut batches = leading.head();
    if batches.is_empty() {
        batches.push(leading.batch(Kind::Commit, 1));
    }
    put(state, name, base, batches);
}

/// A put is stored: it is acknowledged when all before it are.
pub fn stored(state: &mut State, protocol: &Protocol, name: Name, request: &Request) {
    let What::Put { batches, .. } = &request.what else { return };
    let Server::Leads(leading) = &mut state.servers[name] else { return };
    let Some(flight) = leading.in_flight.iter_mut().find(|flight| flight.batches == *batches) else { return };
    flight.stored = true;
    let mut acknowledged = Vec::new();
    if protocol.lacks(Mutation::AcknowledgeOutOfOrder) {
        acknowledged.extend(messages(batches));
    }
    while leading.in_flight.first().is_some_and(|oldest| oldest.stored) {
        let settled = leading.in_flight.remove(0);
        for batch in &settled.batches {
            leading.settled = leading.settled.after(batch);
            leading.recorded = batch.committed;
            leading.owed = matches!(batch.kind, Kind::Messages(_));
        }
        acknowledged.extend(messages(&settled.batches));
    }
    for (message, offset) in acknowledged {
        state.acknowledge(message, offset);
    }
}

/// The outcome of a put is unknown: the same bytes are sent to the same place again.
pub fn unheard(state: &mut State, protocol: &Protocol, name: Name, what: What) {
    let Server::Leads(leading) = &mut state.servers[name] else { return };
    if protocol.lacks(Mutation::OtherContent)
        && let What::Put { batches, .. } = &what
        && leading.in_flight.last().is_some_and(|newest| newest.batches == *batches)
        && let Some(first) = batches.first()
    {
        leading.in_flight.pop();
        leading.built.position = first.position;
        leading.built.next = first.base;
        leading.sealed = false;
        for (message, _) in messages(batches) {
            let fate = &mut state.noted.fates[usize::from(message)];
            if let Fate::Waiting { floor } = *fate {
                *fate = Fate::Unknown { floor };
            }
        }
        return;
    }
    let term = leading.term;
    state.send(name, term, what);
}

/// Goes on in a segment that was made.
pub fn enter(state: &mut State, name: Name, base: Offset) {
    let Server::Leads(leading) = &mut state.servers[name] else { return };
    let first = leading.segments.is_empty();
    leading.making = None;
    leading.segments.push(base);
    leading.built = if first { Chain::at_segment_start(base) } else { leading.built.in_next_segment() };
    if leading.in_flight.is_empty() {
        leading.settled = leading.built;
    }
    leading.sealed = false;
    leading.recorded = 0;
    leading.owed = false;
    state.storage.begun = true;
}

/// A strong read begins.
pub fn ask(state: &mut State, name: Name) {
    let floor = state.acknowledged_end();
    if let Server::Leads(leading) = &mut state.servers[name] {
        leading.asked = Some(floor);
    }
}

/// It is answered once storage shows the term on the last segment, or before there is one on `leader`.
pub fn answer(state: &mut State, protocol: &Protocol, name: Name) {
    let Server::Leads(leading) = &mut state.servers[name] else { return };
    let shown = match leading.open() {
        Some(base) => state.storage.segment(base).map(|segment| segment.number),
        None => Some(state.storage.leader),
    };
    if shown != Some(leading.term) && !protocol.lacks(Mutation::StrongFromMemory) {
        return state.end_term(protocol, name);
    }
    let Some(floor) = leading.asked.take() else { return };
    state.noted.stale_read |= leading.settled.next < floor;
    state.noted.seen.strong |= floor > 0;
}
