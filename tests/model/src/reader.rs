//! A follower that reads the log as it grows: `log::following`. It shows what it has read to consumers, so that nothing of
//! it may ever turn out to be otherwise.

use crate::batch::{Chain, Kind, evidence};
use crate::mutation::Mutation;
use crate::network::messages;
use crate::state::{Protocol, State};
use crate::{Message, Offset};

/// What a follower knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Reader {
    /// The segment that it reads, and up to where it has read.
    pub place: Option<Place>,
    /// The offset of the first message that it has shown since it began, or began anew.
    pub from: Offset,
    /// What it has shown from there on.
    pub shown: Vec<Message>,
    /// What is at its place looks damaged: it looks once more.
    pub doubts: bool,
    /// A strong read waits: what was acknowledged when it began is below this offset.
    pub asked: Option<Offset>,
    /// It takes the stream for damaged.
    pub holds_back: bool,
}

/// Where a follower is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// The segment.
    pub base: Offset,
    /// The state there.
    pub chain: Chain,
    /// It is behind the seal, and has not seen the next segment.
    pub sealed: bool,
}

/// Somebody asks the follower for all that was acknowledged before.
pub fn ask(state: &mut State) {
    state.reader.asked = Some(state.acknowledged_end());
}

/// Reads on: one request to storage, or two that follow each other.
pub fn read(state: &mut State, protocol: &Protocol) {
    let Some(place) = state.reader.place else { return begin(state) };
    let Some(segment) = state.storage.segment(place.base) else { return begin(state) };
    // What was read there is deleted: this one was made since, by a request that came late.
    let is_followed = state.storage.segments.last().is_some_and(|last| last.base > place.base);
    if segment.is_unused() && is_followed && !protocol.lacks(Mutation::FollowMadeAnew) {
        return begin(state);
    }
    if place.sealed {
        let next = place.chain.next;
        let exists = state.storage.segment(next).is_some();
        if exists {
            let chain = place.chain.in_next_segment();
            state.reader.place = Some(Place { base: next, chain, sealed: false });
        } else if state.storage.segments.iter().any(|segment| segment.base > place.base) {
            // Another one follows, but no seal leads to it.
            hold_back(state);
        } else {
            answer(state, next);
        }
        return;
    }
    if let Some(batch) = protocol.rules().next_batch(&segment.pages, &place.chain) {
        let reader = &mut state.reader;
        reader.shown.extend(messages(&[batch]).map(|(message, _)| message));
        let sealed = batch.kind == Kind::Seal;
        reader.place = Some(Place { chain: place.chain.after(&batch), sealed, ..place });
        reader.doubts = false;
    } else if evidence(&segment.pages, place.chain.position, segment.number).is_none() {
        state.reader.doubts = false;
        answer(state, place.chain.next);
    } else if state.reader.doubts {
        hold_back(state);
    } else {
        state.reader.doubts = true;
    }
}

fn hold_back(state: &mut State) {
    state.reader.holds_back = true;
    state.noted.held_back = true;
}

/// Begins, or begins anew where its segment is gone.
fn begin(state: &mut State) {
    let Some(first) = state.oldest() else {
        let lost = state.storage.begun;
        return if lost { hold_back(state) } else { answer(state, 0) };
    };
    if first > 0 && !state.storage.trimmed {
        return hold_back(state);
    }
    state.noted.seen.reader_overtaken |= state.reader.place.is_some();
    let place = Place { base: first, chain: Chain::at_segment_start(first), sealed: false };
    let asked = state.reader.asked;
    state.reader = Reader { place: Some(place), from: first, asked, ..Reader::default() };
}

/// It has come to the tail: a look that began before it knows all that was acknowledged then.
fn answer(state: &mut State, tail: Offset) {
    if let Some(floor) = state.reader.asked.take() {
        state.noted.stale_read |= tail < floor;
        state.noted.seen.strong |= floor > 0;
    }
}
