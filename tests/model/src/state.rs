//! Everything at one moment.

use crate::batch::{Chain, Page, Rules, evidence};
use crate::bounds::Bounds;
use crate::election;
use crate::leading::Leading;
use crate::mutation::Mutation;
use crate::network::{Request, What, messages};
use crate::reader::Reader;
use crate::recovery::Recovery;
use crate::storage::{Answer, Storage};
use crate::{MESSAGES, Message, Name, Offset, Position, Term};

/// The protocol within bounds, perhaps with a rule taken out.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// How much of everything there is.
    pub bounds: Bounds,
    /// What is taken out.
    pub mutation: Option<Mutation>,
}

impl Protocol {
    /// Whether this rule is taken out.
    #[must_use]
    pub fn lacks(&self, rule: Mutation) -> bool {
        self.mutation == Some(rule)
    }

    /// By which rules servers take a batch for valid.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            checksums: !self.lacks(Mutation::NoChecksum),
            fences: !self.lacks(Mutation::NoFenceOrder) && !self.lacks(Mutation::NoClearNoFenceOrder),
        }
    }
}

/// Everything at one moment.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    /// What storage holds.
    pub storage: Storage,
    /// What is on its way to it, in no order: kept sorted.
    pub network: Vec<Request>,
    /// The servers. What they know is in memory; one that ends forgets it.
    pub servers: [Server; 2],
    /// The follower.
    pub reader: Reader,
    /// What may still go wrong.
    pub left: Left,
    /// What an observer has noted.
    pub noted: Noted,
}

/// What a server is doing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Server {
    /// It does not hold the lease, or has just started.
    Follows,
    /// It believes that it holds the lease, and has no term yet.
    Holds,
    /// It has asked for a term.
    Asks,
    /// It takes the stream over.
    Recovers(Recovery),
    /// It appends.
    Leads(Leading),
    /// It holds the stream back: it takes it for damaged, or for gone.
    HoldsBack,
}

/// How often things may still go wrong.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Left {
    /// Requests that time out.
    pub time_outs: u8,
    /// Puts that are torn.
    pub tears: u8,
    /// Pages that are damaged.
    pub damages: u8,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fate {
    /// Nobody has sent it yet.
    New,
    /// A leader has put it, and its sender waits.
    Waiting {
        /// What was acknowledged when it began is below this offset.
        floor: Offset,
    },
    /// It is said to be stored.
    Acknowledged {
        /// Where.
        offset: Offset,
    },
    /// Nobody knows whether it is stored.
    Unknown {
        /// See [`Fate::Waiting`].
        floor: Offset,
    },
    /// It is said not to be stored, now and for ever.
    Refused,
}

/// What an observer has noted who sees everything; no server knows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Noted {
    /// What became of each message.
    pub fates: Vec<Fate>,
    /// What was in segments that retention has deleted, by offset.
    pub deleted: Vec<Message>,
    /// The highest term whose leader has taken the stream over.
    pub in_charge: Term,
    /// I2 is broken.
    pub overtaken: bool,
    /// I3 is broken: a strong read has missed something.
    pub stale_read: bool,
    /// I4 is broken.
    pub landed_late: bool,
    /// A term was given twice.
    pub same_term: bool,
    /// I7 is broken: damage was taken for the tail.
    pub cut_off: bool,
    /// A stream was held back by the leader whose term is in force, or by the follower.
    pub held_back: bool,
    /// What has happened on the way here, for what some state must show; not more than that.
    pub seen: Seen,
}

/// What has happened on the way to a state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Seen {
    /// Something beyond the tail was cleared.
    pub cleared: bool,
    /// A request landed for which nobody waited any more.
    pub landed: bool,
    /// A message that was sent again was found to be stored.
    pub repeated: bool,
    /// The follower was overtaken by retention.
    pub reader_overtaken: bool,
    /// A strong read was answered that had something to miss.
    pub strong: bool,
}

/// A message and its offset.
pub type Placed = (Offset, Message);

impl State {
    /// A stream that was created, and two servers that have started.
    #[must_use]
    pub fn new(bounds: &Bounds) -> Self {
        assert!(usize::from(bounds.messages) <= MESSAGES, "messages are counted in arrays of that size");
        let fates = vec![Fate::New; usize::from(bounds.messages)];
        let Bounds { time_outs, tears, damages, .. } = *bounds;
        Self {
            storage: Storage::new(),
            network: Vec::new(),
            servers: [Server::Follows, Server::Follows],
            reader: Reader::default(),
            left: Left { time_outs, tears, damages },
            noted: Noted {
                fates,
                deleted: Vec::new(),
                in_charge: 0,
                overtaken: false,
                stale_read: false,
                landed_late: false,
                same_term: false,
                cut_off: false,
                held_back: false,
                seen: Seen::default(),
            },
        }
    }

    /// The oldest segment that counts: one in front of others that nobody has used is none.
    #[must_use]
    pub fn oldest(&self) -> Option<Offset> {
        let mut segments = self.storage.segments.iter();
        segments.find(|segment| !segment.is_unused()).or(self.storage.segments.last()).map(|it| it.base)
    }

    /// The log as the format defines it: what was deleted, and what a scan finds from the oldest segment on.
    #[must_use]
    pub fn log(&self) -> Vec<Placed> {
        let deleted = self.noted.deleted.iter().zip(0..).map(|(message, offset)| (offset, *message));
        let mut log: Vec<Placed> = deleted.collect();
        let mut at = self.oldest().map(Chain::at_segment_start);
        while let Some(mut chain) = at.take() {
            let Some(segment) = self.storage.segment(chain.next) else { break };
            while let Some(batch) = Rules::FORMAT.next_batch(&segment.pages, &chain) {
                log.extend(messages(&[batch]).map(|(message, offset)| (offset, message)));
                chain = chain.after(&batch);
                if batch.kind == crate::batch::Kind::Seal {
                    at = Some(chain.in_next_segment());
                    break;
                }
            }
        }
        log
    }

    /// The offset behind all that was acknowledged.
    #[must_use]
    pub fn acknowledged_end(&self) -> Offset {
        let offsets = self.noted.fates.iter().filter_map(|fate| match fate {
            Fate::Acknowledged { offset } => Some(offset + 1),
            _ => None,
        });
        offsets.max().unwrap_or(0)
    }

    /// Sends a request that its sender waits for.
    pub fn send(&mut self, from: Name, term: Term, what: What) {
        self.network.push(Request { from, term, awaited: true, what });
    }

    /// A server's term is over, or it has crashed. Whoever waits for it is told what it knows: what was sent may be stored.
    pub fn end_term(&mut self, protocol: &Protocol, name: Name) {
        if let Server::Leads(leading) = &self.servers[name] {
            for flight in &leading.in_flight {
                for (message, _) in messages(&flight.batches) {
                    let fate = &mut self.noted.fates[usize::from(message)];
                    if let Fate::Waiting { floor } = *fate {
                        let refuse = protocol.lacks(Mutation::RefuseUnknown);
                        *fate = if refuse { Fate::Refused } else { Fate::Unknown { floor } };
                    }
                }
            }
        }
        for request in self.network.iter_mut().filter(|request| request.from == name) {
            request.awaited = false;
        }
        self.servers[name] = Server::Follows;
    }

    /// A server takes the stream for damaged, or for gone.
    pub fn hold_back(&mut self, protocol: &Protocol, name: Name) {
        // One that was deposed has yet to learn it, and then forgets all this.
        self.noted.held_back |= self.servers[name].term() == self.storage.leader;
        self.end_term(protocol, name);
        self.servers[name] = Server::HoldsBack;
    }

    /// Tells a message's sender that it is stored.
    pub fn acknowledge(&mut self, message: Message, offset: Offset) {
        let fate = &mut self.noted.fates[usize::from(message)];
        if let Fate::Waiting { floor } | Fate::Unknown { floor } = *fate {
            self.noted.overtaken |= offset < floor;
            *fate = Fate::Acknowledged { offset };
        }
    }

    /// Carries out a request that is on its way, and takes note of what should not have been carried out.
    pub fn carry_out(&mut self, protocol: &Protocol, request: &Request) -> Answer {
        let fenced = !match request.what {
            What::Put { .. } | What::Clear { .. } => protocol.lacks(Mutation::NoFence),
            What::SetTerm { .. } => protocol.lacks(Mutation::UnconditionalTerm),
            What::Claim { .. } => protocol.lacks(Mutation::ClaimBlindly),
            What::Delete { .. } | What::Create { .. } => false,
        };
        let (before, oldest) = (self.storage.clone(), self.oldest());
        let contents = self.log();
        let cuts_off =
            matches!(request.what, What::Clear { base, from } if self.is_provably_damaged(base, from));
        let answer = request.carry_out(&mut self.storage, protocol, fenced);
        let changed = self.storage != before;
        match request.what {
            What::SetTerm { .. } => {}
            // A segment that nobody has used counts for nobody; and a claim of an earlier term takes nothing from a later one.
            What::Create { .. } | What::Claim { .. } => {}
            _ => self.noted.landed_late |= changed && request.term < self.noted.in_charge,
        }
        if let (What::Delete { base, leftover: true, .. }, Answer::Done) = (&request.what, answer) {
            // What somebody has written to is no leftover, whatever has become of the seal in front of it.
            self.noted.cut_off |= before.segment(*base).is_some_and(|segment| !segment.is_blank());
        }
        if let (What::Delete { base, .. }, Answer::Done) = (&request.what, answer) {
            let next = self.oldest().unwrap_or(Offset::MAX);
            if oldest == Some(*base) {
                let gone = contents.iter().filter(|(offset, _)| *offset < next);
                self.noted.deleted = gone.map(|(_, message)| *message).collect();
            }
        }
        if let (What::Clear { .. }, true) = (&request.what, changed) {
            self.noted.cut_off |= cuts_off;
            self.noted.seen.cleared = true;
        }
        answer
    }

    /// A server hears how its request ended.
    pub fn hear(&mut self, protocol: &Protocol, request: &Request, answer: Answer) {
        let name = request.from;
        match (&request.what, answer) {
            (What::SetTerm { .. }, _) => election::hear(self, protocol, name, request.term, answer),
            (What::Create { base }, _) => crate::making::hear(self, protocol, name, *base, answer),
            (What::Put { .. }, Answer::Done) => crate::leading::stored(self, protocol, name, request),
            (What::Clear { .. }, Answer::Done) => crate::recovery::cleared(self, name),
            (What::Put { .. } | What::Clear { .. }, _) => self.end_term(protocol, name),
            (What::Claim { .. }, _) => unreachable!("nobody waits for what is left of a claim"),
            (What::Delete { leftover: true, .. }, _) => crate::recovery::leftover_deleted(self, name, answer),
            (What::Delete { leftover: false, base, .. }, _) => {
                crate::retention::hear(self, name, *base, answer);
            }
        }
    }

    /// Whether the page at this place is damaged, although an intact one behind it says that it was committed.
    #[must_use]
    pub fn is_provably_damaged(&self, base: Offset, tail: Position) -> bool {
        let Some(segment) = self.storage.segment(base) else { return false };
        let damaged = segment.pages.iter().zip(0..).find(|(page, at)| **page == Page::Damaged && *at >= tail);
        damaged.is_some_and(|(_, at)| evidence(&segment.pages, at, Term::MAX).is_some())
    }

    /// Sorts what has no order, and forgets what can change nothing any more.
    pub fn tidy(&mut self, protocol: &Protocol) {
        let conditional = !matches!(
            protocol.mutation,
            Some(Mutation::NoFence | Mutation::UnconditionalTerm | Mutation::ClaimBlindly)
        );
        let storage = &self.storage;
        self.network.retain(|request| request.awaited || !conditional || !request.is_hopeless(storage));
        self.network.sort();
    }
}
