//! The lease and the term.
//!
//! A server takes the lease whenever it likes: it may be wrong about the other's death, and the other does not notice. So
//! nothing in the model rests on the lease, on time or on clocks.

use crate::mutation::Mutation;
use crate::network::What;
use crate::recovery::Recovery;
use crate::state::{Protocol, Server, State};
use crate::storage::Answer;
use crate::{Name, Term};

/// Whether a server may take the lease, breaking the other's if need be.
#[must_use]
pub fn may_take_lease(state: &State, protocol: &Protocol, name: Name) -> bool {
    // Both servers are alike: the first one begins.
    let begins = name == 0 || state.storage.leader > 0;
    begins && state.servers[name] == Server::Follows && state.storage.leader < protocol.bounds.terms
}

/// Takes the lease.
pub fn take_lease(state: &mut State, name: Name) {
    state.storage.lease = Some(name);
    state.servers[name] = Server::Holds;
}

/// Reads the number of `leader`, and asks for the next.
pub fn ask_term(state: &mut State, name: Name) {
    let if_number = state.storage.leader;
    state.send(name, if_number + 1, What::SetTerm { if_number });
    state.servers[name] = Server::Asks;
}

/// Only an answered change gives a term.
pub fn hear(state: &mut State, protocol: &Protocol, name: Name, term: Term, answer: Answer) {
    if answer == Answer::Done {
        begin(state, name, term);
    } else {
        state.end_term(protocol, name);
    }
}

/// Nobody knows whether the number was set: read it and set it again.
pub fn unheard(state: &mut State, protocol: &Protocol, name: Name, term: Term) {
    if protocol.lacks(Mutation::UnansweredTerm) {
        begin(state, name, term);
    } else {
        state.servers[name] = Server::Holds;
    }
}

fn begin(state: &mut State, name: Name, term: Term) {
    let others = |server: &Server| match server {
        Server::Recovers(recovery) => recovery.term == term,
        Server::Leads(leading) => leading.term == term,
        _ => false,
    };
    state.noted.same_term |= state.servers.iter().any(others) || state.noted.in_charge >= term;
    state.servers[name] = Server::Recovers(Recovery::new(term));
}
