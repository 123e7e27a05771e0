//! What must hold in every state, named after the promises of the design; and what some state must show, since a check in
//! which nothing interesting happens proves nothing.

use stateright::Property;

use crate::Message;
use crate::bounds::Bounds;
use crate::state::{Fate, Placed, Protocol, Server, State};

/// Every acknowledged message is in the log exactly once, at the offset that the answer named.
pub const I1: &str = "I1 acknowledged, so in the log once, where the answer said";
/// Acknowledged before another append began: lower offset.
pub const I2: &str = "I2 acknowledged before another began, so in front of it";
/// What a reader was shown is a prefix of the log; a strong read misses nothing.
pub const I3: &str = "I3 what was read stays, and a strong read misses nothing";
/// Nothing of a deposed leader lands after its successor took the stream over.
pub const I4: &str = "I4 nothing of a deposed leader lands";
/// What failed definitely never appears, and nothing appears twice.
pub const I5: &str = "I5 refused, so never in the log, and nothing twice";
/// Damage is not taken for the tail.
pub const I7: &str = "I7 damage is not taken for the tail";
/// The other side of I7.
pub const NO_FALSE_ALARM: &str = "I7 what is not damaged is not held back";
/// What I4 rests on.
pub const TERMS: &str = "no term is given twice";

/// What must hold under every bounds.
pub const ALWAYS: &[&str] = &[I1, I2, I3, I4, I5, I7, NO_FALSE_ALARM, TERMS];

/// All properties of a check.
#[must_use]
pub fn all(protocol: &Protocol) -> Vec<Property<Protocol>> {
    let mut properties = vec![
        Property::always(I1, |protocol, state: &State| {
            damaged(protocol, state) || acknowledged_are_there(state)
        }),
        Property::always(I2, |protocol, state: &State| damaged(protocol, state) || !state.noted.overtaken),
        Property::always(I3, |protocol, state: &State| {
            !state.noted.stale_read && (damaged(protocol, state) || read_stays(state))
        }),
        Property::always(I4, |_, state: &State| !state.noted.landed_late),
        Property::always(I5, |_, state: &State| refused_are_not(state)),
        Property::always(I7, |_, state: &State| !state.noted.cut_off),
        Property::always(NO_FALSE_ALARM, |protocol, state: &State| {
            damaged(protocol, state) || !state.noted.held_back
        }),
        Property::always(TERMS, |_, state: &State| !state.noted.same_term),
    ];
    if protocol.mutation.is_none() {
        properties.extend(witnesses(&protocol.bounds));
    }
    properties
}

/// A damaged page takes messages with it: then what counts is that this is told.
fn damaged(protocol: &Protocol, state: &State) -> bool {
    state.left.damages < protocol.bounds.damages
}

fn offsets(log: &[Placed], message: Message) -> impl Iterator<Item = u8> + '_ {
    log.iter().filter(move |(_, placed)| *placed == message).map(|(offset, _)| *offset)
}

fn fates(state: &State) -> impl Iterator<Item = (Message, Fate)> + '_ {
    (0..).zip(state.noted.fates.iter().copied())
}

fn acknowledged_are_there(state: &State) -> bool {
    let log = state.log();
    fates(state).all(|(message, fate)| match fate {
        Fate::Acknowledged { offset } => offsets(&log, message).eq([offset]),
        _ => true,
    })
}

fn refused_are_not(state: &State) -> bool {
    let log = state.log();
    fates(state).all(|(message, fate)| {
        let most = usize::from(!matches!(fate, Fate::Refused | Fate::New));
        offsets(&log, message).count() <= most
    })
}

fn read_stays(state: &State) -> bool {
    let log = state.log();
    let shown = (state.reader.from..).zip(&state.reader.shown);
    let mut shown = shown.map(|(offset, message)| (offset, *message));
    shown.all(|placed| log.contains(&placed))
}

/// What some state must show under these bounds.
fn witnesses(bounds: &Bounds) -> Vec<Property<Protocol>> {
    let mut some: Vec<Property<Protocol>> = vec![
        Property::sometimes("all messages are acknowledged, by two leaders", |_, state: &State| {
            all_acknowledged(state) && fences(state) >= 2
        }),
        Property::sometimes("two believe that they lead", |_, state: &State| {
            state.servers.iter().all(|server| matches!(server, Server::Leads(_)))
        }),
    ];
    if bounds.terms > 2 {
        some.push(Property::sometimes("what lay beyond the tail is cleared", |_, state: &State| {
            state.noted.seen.cleared
        }));
    }
    if bounds.time_outs > 0 {
        some.push(Property::sometimes("a request lands that nobody waits for", |_, state: &State| {
            state.noted.seen.landed
        }));
    }
    if bounds.retries && (bounds.crashes || bounds.time_outs > 0) {
        some.push(Property::sometimes("a repeated message is found", |_, state: &State| {
            state.noted.seen.repeated
        }));
    }
    if (bounds.pages == 3 || bounds.retention) && bounds.messages > 1 {
        some.push(Property::sometimes("a second segment holds messages", |_, state: &State| {
            state.storage.segments.last().is_some_and(|last| {
                last.base > 0 && state.log().iter().any(|(offset, _)| *offset >= last.base)
            })
        }));
    }
    if bounds.strong {
        some.push(Property::sometimes("a strong read has something to miss", |_, state: &State| {
            state.noted.seen.strong
        }));
    }
    if bounds.reader {
        some.push(Property::sometimes(
            "the follower has shown all messages",
            |protocol: &Protocol, state: &State| {
                state.reader.shown.len() == usize::from(protocol.bounds.messages)
            },
        ));
    }
    if bounds.retention {
        some.push(Property::sometimes("a segment is deleted", |_, state: &State| {
            !state.noted.deleted.is_empty()
        }));
        if bounds.reader {
            some.push(Property::sometimes("retention overtakes the follower", |_, state: &State| {
                state.noted.seen.reader_overtaken
            }));
        }
    }
    if bounds.damages > 0 {
        some.push(Property::sometimes("damage is reported", |_, state: &State| state.noted.held_back));
    }
    some
}

fn all_acknowledged(state: &State) -> bool {
    state.noted.fates.iter().all(|fate| matches!(fate, Fate::Acknowledged { .. }))
}

/// How many terms have written what is in the log's segments.
fn fences(state: &State) -> usize {
    let pages = state.storage.segments.iter().flat_map(|segment| &segment.pages);
    let mut fences: Vec<u8> = pages
        .filter_map(|page| match page {
            crate::batch::Page::Of(batch, _) => Some(batch.fence),
            _ => None,
        })
        .collect();
    fences.sort_unstable();
    fences.dedup();
    fences.len()
}
