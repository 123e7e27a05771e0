//! The deletion of the oldest segment: `log::writer::retaining`. Ages and sizes are left out: a segment goes whenever the
//! protocol allows it.

use crate::mutation::Mutation;
use crate::network::What;
use crate::state::{Protocol, Server, State};
use crate::storage::{self, Answer};
use crate::{Name, Offset};

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Deletion {
    /// It has to be on record that segments are deleted.
    Due,
    /// The segment has to be looked at.
    Recorded,
    /// It was in this state; `leader` has to show that the term is still in force.
    Looked(storage::State),
    /// The request has to be sent.
    Proven(storage::State),
    /// It is on its way.
    Sent,
}

/// Whether the oldest segment may go: its successor holds a batch on whose record that is committed.
#[must_use]
pub fn may_begin(state: &State, protocol: &Protocol, name: Name) -> bool {
    let Server::Leads(leading) = &state.servers[name] else { return false };
    let foothold = match leading.segments.len() {
        0 | 1 => false,
        2 => leading.recorded > 0 || protocol.lacks(Mutation::DeleteWithoutFoothold),
        _ => true,
    };
    protocol.bounds.retention && foothold && leading.deletion.is_none()
}

/// Goes one step on.
pub fn go_on(state: &mut State, protocol: &Protocol, name: Name) {
    let Server::Leads(leading) = &mut state.servers[name] else { return };
    let (term, base) = (leading.term, leading.segments[0]);
    let next = match leading.deletion {
        None => Some(Deletion::Due),
        Some(Deletion::Due) => {
            state.storage.trimmed |= !protocol.lacks(Mutation::DeleteUnrecorded);
            Some(Deletion::Recorded)
        }
        Some(Deletion::Recorded) => match state.storage.segment(base) {
            Some(segment) => Some(Deletion::Looked(segment.state())),
            None => return gone(state, name, base),
        },
        // One who was deposed tries again, until it learns that it was.
        Some(Deletion::Looked(seen)) => {
            let in_force = state.storage.leader == term || protocol.lacks(Mutation::DeleteUnproven);
            in_force.then_some(Deletion::Proven(seen))
        }
        Some(Deletion::Proven(seen)) => {
            leading.deletion = Some(Deletion::Sent);
            return state.send(name, term, What::Delete { base, seen, leftover: false });
        }
        Some(Deletion::Sent) => unreachable!("the answer makes it go on"),
    };
    leading.deletion = next;
}

fn gone(state: &mut State, name: Name, base: Offset) {
    if let Server::Leads(leading) = &mut state.servers[name] {
        leading.deletion = None;
        leading.segments.retain(|segment| *segment != base);
    }
}

/// The answer to the request that deletes it.
pub fn hear(state: &mut State, name: Name, base: Offset, answer: Answer) {
    match answer {
        Answer::Done | Answer::Missing => gone(state, name, base),
        Answer::Refused | Answer::Exists => unheard(state, name),
    }
}

/// Nobody knows whether it is deleted: everything is looked at again.
pub fn unheard(state: &mut State, name: Name) {
    if let Server::Leads(leading) = &mut state.servers[name] {
        leading.deletion = None;
    }
}
