//! How a segment is made: `log::recover::create_segment`, for a recovery that finds a seal without a successor, and for a
//! leader whose segment is full or who has none yet.

use crate::mutation::Mutation;
use crate::network::What;
use crate::state::{Protocol, Server, State};
use crate::storage::Answer;
use crate::{Name, Offset, leading, recovery};

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Making {
    /// The request is to be sent.
    Due,
    /// It is on its way.
    Sent,
    /// The blob is there, made by this request or an earlier one: `leader` is looked at, so that one who was deposed does
    /// not claim what was made late.
    There,
    /// It is to be claimed, and must be blank.
    Proven,
    /// `leader` has still to be looked at: one who was deposed meanwhile may have made a segment that its successor knows
    /// nothing of.
    Made,
}

fn set(state: &mut State, name: Name, step: Making) {
    match &mut state.servers[name] {
        Server::Recovers(recovery) => recovery.step = recovery::Step::Make(step),
        Server::Leads(leading) => leading.making = Some(step),
        _ => unreachable!("only who recovers or leads makes segments"),
    }
}

/// Goes one step on.
pub fn go_on(state: &mut State, protocol: &Protocol, name: Name, making: Making, base: Offset) {
    let term = state.servers[name].term();
    match making {
        Making::Due => {
            state.send(name, term, What::Create { base });
            set(state, name, Making::Sent);
        }
        Making::Sent => unreachable!("the answer makes it go on"),
        Making::There
            if state.storage.leader == term
                || protocol.lacks(Mutation::ClaimUnproven)
                || protocol.lacks(Mutation::NoLookAfterMaking) =>
        {
            set(state, name, Making::Proven);
        }
        Making::There => state.end_term(protocol, name),
        Making::Proven => match state.storage.claim(base, term) {
            // It was there a moment ago, and somebody has taken it for a leftover.
            None if state.storage.leader == term => set(state, name, Making::Due),
            None => state.end_term(protocol, name),
            Some(number) if number > term => state.end_term(protocol, name),
            Some(_) if !state.storage.segment(base).is_some_and(|segment| segment.is_blank()) => {
                state.hold_back(protocol, name);
            }
            Some(_) => set(state, name, Making::Made),
        },
        Making::Made
            if state.storage.leader == term
                || protocol.lacks(Mutation::NoLookAfterMaking)
                || protocol.lacks(Mutation::UseUnproven) =>
        {
            match &mut state.servers[name] {
                Server::Recovers(recovery) => recovery.enter_made(base),
                _ => leading::enter(state, name, base),
            }
        }
        Making::Made => state.end_term(protocol, name),
    }
}

/// The answer to the request that makes it.
pub fn hear(state: &mut State, protocol: &Protocol, name: Name, _base: Offset, answer: Answer) {
    match answer {
        Answer::Done | Answer::Exists => set(state, name, Making::There),
        Answer::Refused | Answer::Missing => state.end_term(protocol, name),
    }
}

impl Server {
    /// The term under which it works.
    #[must_use]
    pub fn term(&self) -> crate::Term {
        match self {
            Self::Recovers(recovery) => recovery.term,
            Self::Leads(leading) => leading.term,
            _ => 0,
        }
    }
}
