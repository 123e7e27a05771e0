//! How a segment is made: `log::recover::create_segment`, for a recovery that finds a seal without a successor, and for a
//! leader whose segment is full or who has none yet.

use crate::claim::{self, Claim, Outcome};
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
    /// The blob is there, made by this request or an earlier one. It is to be claimed, and must be blank.
    Claim(Claim),
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
        Making::Claim(claim) => match claim::go_on(state, protocol, name, claim, base) {
            // It was there a moment ago, and somebody has taken it for a leftover.
            Outcome::Gone if state.storage.leader == term => set(state, name, Making::Due),
            Outcome::Gone => state.end_term(protocol, name),
            Outcome::Ended => {}
            Outcome::GoesOn(claim) => set(state, name, Making::Claim(claim)),
            Outcome::Claimed if !state.storage.segment(base).is_some_and(|segment| segment.is_blank()) => {
                state.hold_back(protocol, name);
            }
            Outcome::Claimed => match &mut state.servers[name] {
                Server::Recovers(recovery) => recovery.enter_made(base),
                _ => leading::enter(state, name, base),
            },
        },
    }
}

/// The answer to the request that makes it; it says in which state that is.
pub fn hear(state: &mut State, protocol: &Protocol, name: Name, base: Offset, answer: Answer) {
    match answer {
        Answer::Done => {
            let made = state.storage.segment(base).expect("it was made a moment ago").made;
            set(state, name, Making::Claim(Claim::Seen { made }));
        }
        Answer::Exists => set(state, name, Making::Claim(Claim::Due)),
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
