//! How a segment is claimed: `log::claim`.
//!
//! A request that claims is carried out and answered in one step, since nobody decides anything between its sending and its
//! landing. A copy of it may be left on its way: its sender had no answer and sends it again, or has crashed.

use crate::mutation::Mutation;
use crate::network::{Request, What};
use crate::state::{Protocol, Server, State};
use crate::storage::{Answer, UNUSED};
use crate::{Name, Offset, leading, making, recovery};

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Claim {
    /// The number is to be raised.
    Due,
    /// Nobody has used the segment: it is to be looked at.
    Unused,
    /// It was seen so, in this state; `leader` is looked at, so that one who was deposed does not claim what was made late.
    Seen {
        /// When it was made.
        made: u8,
    },
    /// The number is to be set, in that very state.
    Proven {
        /// When it was made.
        made: u8,
    },
}

/// What a step has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The number is the term.
    Claimed,
    /// There is another step.
    GoesOn(Claim),
    /// There is no such segment.
    Gone,
    /// The server's term is over.
    Ended,
}

/// Goes one step on.
pub fn go_on(state: &mut State, protocol: &Protocol, name: Name, claim: Claim, base: Offset) -> Outcome {
    let term = state.servers[name].term();
    match claim {
        Claim::Due => match state.storage.raise(base, term) {
            None => Outcome::Gone,
            Some(UNUSED) => Outcome::GoesOn(Claim::Unused),
            Some(number) if number == term => Outcome::Claimed,
            Some(_) => end(state, protocol, name),
        },
        Claim::Unused => match state.storage.segment(base) {
            None => Outcome::Gone,
            Some(segment) if segment.number == UNUSED => Outcome::GoesOn(Claim::Seen { made: segment.made }),
            Some(_) => Outcome::GoesOn(Claim::Due),
        },
        Claim::Seen { made } => {
            let goes_on = state.storage.leader == term || protocol.lacks(Mutation::ClaimUnproven);
            if goes_on { Outcome::GoesOn(Claim::Proven { made }) } else { end(state, protocol, name) }
        }
        Claim::Proven { made } => match set(state, protocol, term, made, base) {
            Answer::Done => Outcome::Claimed,
            Answer::Missing => Outcome::Gone,
            Answer::Refused | Answer::Exists => Outcome::GoesOn(Claim::Due),
        },
    }
}

fn end(state: &mut State, protocol: &Protocol, name: Name) -> Outcome {
    state.end_term(protocol, name);
    Outcome::Ended
}

fn set(state: &mut State, protocol: &Protocol, term: crate::Term, made: u8, base: Offset) -> Answer {
    let seen = (!protocol.lacks(Mutation::ClaimBlindly)).then_some(made);
    state.storage.claim_unused(base, term, seen)
}

/// The request that a server sends next, if that is one that claims.
#[must_use]
pub fn due(protocol: &Protocol, server: &Server) -> Option<What> {
    let (claim, base) = match server {
        Server::Recovers(recovery) => match recovery.step {
            recovery::Step::Claim(claim) => (claim, recovery.listed[recovery.at]),
            recovery::Step::Make(making::Making::Claim(claim)) => (claim, recovery.scanned?.chain.next),
            recovery::Step::Leftovers => (Claim::Due, *recovery.listed.get(recovery.at + 1)?),
            recovery::Step::Guard if recovery.guards(protocol) => (Claim::Due, recovery.listed[0]),
            _ => return None,
        },
        Server::Leads(leading::Leading { making: Some(making::Making::Claim(claim)), .. }) => {
            let Server::Leads(leading) = server else { return None };
            (*claim, leading.next_segment(protocol, true)?)
        }
        _ => return None,
    };
    match claim {
        Claim::Due => Some(What::Claim { base, seen: None }),
        Claim::Proven { made } => Some(What::Claim { base, seen: Some(made) }),
        Claim::Unused | Claim::Seen { .. } => None,
    }
}

/// Leaves a copy of it on its way.
pub fn leave(state: &mut State, protocol: &Protocol, name: Name) {
    if let Some(what) = due(protocol, &state.servers[name]) {
        let term = state.servers[name].term();
        state.network.push(Request { from: name, term, awaited: false, what });
    }
}
