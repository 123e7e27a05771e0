//! Everything that can happen next. One action is one step of one server, or of storage.

use std::fmt;

use stateright::Model;

use crate::batch::Page;
use crate::network::{Request, What};
use crate::recovery::Step;
use crate::state::{Fate, Protocol, Server, State};
use crate::{
    Message, Name, Offset, Position, claim, election, leading, making, promises, reader, recovery, retention,
};

/// What can happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// A server takes the lease, from the other one if need be.
    TakeLease(Name),
    /// It asks for a term.
    AskTerm(Name),
    /// It goes one step on with taking the stream over.
    Recover(Name, Step),
    /// A leader goes one step on with making the next segment.
    MakeSegment(Name, making::Making),
    /// A leader puts the next message, of so many pages.
    Append(Name, u8),
    /// A producer sends a message again whose outcome it does not know.
    Repeat(Name, Message),
    /// A leader ends its segment.
    Seal(Name),
    /// A leader puts on record what is committed.
    Record(Name),
    /// A leader goes one step on with deleting the oldest segment.
    Delete(Name, Option<retention::Deletion>),
    /// A strong read comes to a leader.
    AskStrong(Name),
    /// The leader proves its term, and answers it.
    AnswerStrong(Name),
    /// A server crashes and starts again, or its term ends otherwise.
    Crash(Name),
    /// The same, while a request that claims a segment is on its way.
    CrashClaiming(Name),
    /// A server has no answer to a request that claims a segment, and sends it again; the first may land later.
    ClaimAgain(Name),
    /// A request is carried out, and its sender hears how that ended.
    Answered(Request),
    /// Its sender does not wait any longer. It is still on its way.
    TimedOut(Request),
    /// A request is carried out that nobody waits for.
    Landed(Request),
    /// Of a put only the page with this number is stored; its server crashes.
    Torn(Request, usize),
    /// A stored page is damaged.
    Damage(Offset, Position),
    /// A strong read comes to the follower.
    AskReader,
    /// The follower reads on.
    Read,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakeLease(name) => write!(f, "server {name} takes the lease"),
            Self::AskTerm(name) => write!(f, "server {name} asks for a term"),
            Self::Recover(name, step) => write!(f, "server {name} recovers: {step:?}"),
            Self::MakeSegment(name, step) => write!(f, "server {name} makes the next segment: {step:?}"),
            Self::Append(name, pages) => write!(f, "server {name} appends a message of {pages} page(s)"),
            Self::Repeat(name, message) => write!(f, "message {message} is sent again, to server {name}"),
            Self::Seal(name) => write!(f, "server {name} ends its segment"),
            Self::Record(name) => write!(f, "server {name} puts on record what is committed"),
            Self::Delete(name, None) => write!(f, "server {name} begins to delete the oldest segment"),
            Self::Delete(name, Some(step)) => write!(f, "server {name} deletes the oldest segment: {step:?}"),
            Self::AskStrong(name) => write!(f, "server {name} is asked for a strong read"),
            Self::AnswerStrong(name) => {
                write!(f, "server {name} proves its term and answers the strong read")
            }
            Self::Crash(name) => write!(f, "server {name} crashes"),
            Self::CrashClaiming(name) => write!(f, "server {name} crashes, its claim is on its way"),
            Self::ClaimAgain(name) => {
                write!(f, "server {name} will claim twice: a first claim is on its way")
            }
            Self::Answered(request) => write!(f, "[{request}] is carried out and answered"),
            Self::TimedOut(request) => write!(f, "[{request}] times out, and is still on its way"),
            Self::Landed(request) => write!(f, "[{request}] lands, and nobody hears of it"),
            Self::Torn(request, page) => {
                write!(f, "of [{request}] only page {page} is stored, and it crashes")
            }
            Self::Damage(base, position) => write!(f, "page {position} of segment {base} is damaged"),
            Self::AskReader => write!(f, "the follower is asked for a strong read"),
            Self::Read => write!(f, "the follower reads on"),
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(&self.bounds)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for name in 0..state.servers.len() {
            self.actions_of(state, name, actions);
        }
        let mut before = None;
        for request in state.network.iter().filter(|request| before.replace(*request) != Some(*request)) {
            if request.awaited {
                actions.push(Action::Answered(request.clone()));
                if state.left.time_outs > 0 {
                    actions.push(Action::TimedOut(request.clone()));
                }
            } else {
                actions.push(Action::Landed(request.clone()));
            }
            if let What::Put { batches, .. } = &request.what
                && state.left.tears > 0
            {
                let pages = batches.iter().map(|batch| usize::from(batch.pages)).sum();
                let torn = (0..pages).filter(|_| pages > 1);
                actions.extend(torn.map(|page| Action::Torn(request.clone(), page)));
            }
        }
        if self.bounds.reader && !state.reader.holds_back {
            actions.push(Action::Read);
            if self.bounds.strong && state.reader.asked.is_none() {
                actions.push(Action::AskReader);
            }
        }
        if state.left.damages > 0 {
            for segment in &state.storage.segments {
                let written = segment.pages.iter().zip(0..).filter(|(page, _)| **page != Page::Blank);
                actions.extend(written.map(|(_, at)| Action::Damage(segment.base, at)));
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        self.act(&mut state, &action);
        state.tidy(self);
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<stateright::Property<Self>> {
        promises::all(self)
    }
}

impl Protocol {
    fn actions_of(&self, state: &State, name: Name, actions: &mut Vec<Action>) {
        if election::may_take_lease(state, self, name) {
            actions.push(Action::TakeLease(name));
        }
        if claim::due(self, &state.servers[name]).is_some() {
            if state.left.time_outs > 0 {
                actions.push(Action::ClaimAgain(name));
            }
            if self.bounds.crashes {
                actions.push(Action::CrashClaiming(name));
            }
        }
        match &state.servers[name] {
            Server::Follows | Server::Asks | Server::HoldsBack => {}
            Server::Holds => actions.push(Action::AskTerm(name)),
            Server::Recovers(recovery) => {
                if self.bounds.crashes {
                    actions.push(Action::Crash(name));
                }
                if !matches!(
                    recovery.step,
                    Step::Clearing | Step::DeletingLeftover | Step::Make(making::Making::Sent)
                ) {
                    actions.push(Action::Recover(name, recovery.step));
                }
            }
            Server::Leads(leading) => self.actions_of_leader(state, name, leading, actions),
        }
    }

    fn actions_of_leader(
        &self,
        state: &State,
        name: Name,
        leading: &leading::Leading,
        actions: &mut Vec<Action>,
    ) {
        if self.bounds.crashes {
            actions.push(Action::Crash(name));
        }
        let more = state.noted.fates.contains(&Fate::New);
        if let Some(making) = leading.making {
            if making != making::Making::Sent {
                actions.push(Action::MakeSegment(name, making));
            }
        } else if leading.next_segment(self, more).is_some() {
            actions.push(Action::MakeSegment(name, making::Making::Due));
        }
        let sizes = if self.bounds.long { 1..=2 } else { 1..=1 };
        if more {
            let fitting = sizes.filter(|pages| leading.may_append(self, *pages));
            actions.extend(fitting.map(|pages| Action::Append(name, pages)));
        }
        if self.bounds.retries {
            let unknown = state.noted.fates.iter().zip(0..);
            let unknown = unknown.filter(|(fate, _)| matches!(fate, Fate::Unknown { .. }));
            let ready = unknown.filter(|(_, message)| match leading.known.offset(*message) {
                // One that is in flight is waited for.
                Some(offset) => offset < leading.settled.next,
                None => leading.may_append(self, 1),
            });
            actions.extend(ready.map(|(_, message)| Action::Repeat(name, message)));
        }
        if leading.may_seal(self)
            && leading.making.is_none()
            && !self.lacks(crate::mutation::Mutation::NoSeal)
        {
            actions.push(Action::Seal(name));
        }
        if leading.may_record(self) {
            actions.push(Action::Record(name));
        }
        match leading.deletion {
            None if retention::may_begin(state, self, name) => actions.push(Action::Delete(name, None)),
            None | Some(retention::Deletion::Sent) => {}
            deletion => actions.push(Action::Delete(name, deletion)),
        }
        if self.bounds.strong {
            actions.push(if leading.asked.is_some() {
                Action::AnswerStrong(name)
            } else {
                Action::AskStrong(name)
            });
        }
    }

    fn act(&self, state: &mut State, action: &Action) {
        match action {
            Action::TakeLease(name) => election::take_lease(state, *name),
            Action::AskTerm(name) => election::ask_term(state, *name),
            Action::Recover(name, _) => recovery::go_on(state, self, *name),
            Action::MakeSegment(name, making) => {
                let Server::Leads(leading) = &state.servers[*name] else { return };
                let base = leading.next_segment(self, true).expect("there is a segment to make");
                making::go_on(state, self, *name, *making, base);
            }
            Action::Append(name, pages) => {
                let Some(new) = state.noted.fates.iter().position(|fate| *fate == Fate::New) else { return };
                let message = u8::try_from(new).expect("there are few messages");
                leading::append(state, self, *name, message, *pages);
            }
            Action::Repeat(name, message) => {
                if !leading::repeat(state, *name, *message) {
                    leading::append(state, self, *name, *message, 1);
                }
            }
            Action::Seal(name) => leading::seal(state, *name),
            Action::Record(name) => leading::record(state, *name),
            Action::Delete(name, _) => retention::go_on(state, self, *name),
            Action::AskStrong(name) => leading::ask(state, *name),
            Action::AnswerStrong(name) => leading::answer(state, self, *name),
            Action::Crash(name) => state.end_term(self, *name),
            Action::CrashClaiming(name) => {
                claim::leave(state, self, *name);
                state.end_term(self, *name);
            }
            Action::ClaimAgain(name) => {
                claim::leave(state, self, *name);
                state.left.time_outs -= 1;
            }
            Action::Answered(request) => {
                remove(state, request);
                let answer = state.carry_out(self, request);
                state.hear(self, request, answer);
            }
            Action::TimedOut(request) => self.time_out(state, request),
            Action::Landed(request) => {
                remove(state, request);
                state.carry_out(self, request);
                state.noted.seen.landed = true;
            }
            Action::Torn(request, page) => {
                remove(state, request);
                state.left.tears -= 1;
                if let What::Put { base, batches } = &request.what {
                    let fenced = !self.lacks(crate::mutation::Mutation::NoFence);
                    state.storage.put(*base, batches, fenced.then_some(request.term), |at| at == *page);
                }
                if request.awaited {
                    state.end_term(self, request.from);
                }
            }
            Action::Damage(base, position) => {
                state.left.damages -= 1;
                let mut segments = state.storage.segments.iter_mut();
                let segment = segments.find(|segment| segment.base == *base).expect("it was there");
                segment.pages[usize::from(*position)] = Page::Damaged;
            }
            Action::AskReader => reader::ask(state),
            Action::Read => reader::read(state, self),
        }
    }

    /// Nobody waits for a request any longer: what its sender does then.
    fn time_out(&self, state: &mut State, request: &Request) {
        remove(state, request);
        state.network.push(Request { awaited: false, ..request.clone() });
        state.left.time_outs -= 1;
        let (name, what) = (request.from, request.what.clone());
        match request.what {
            What::SetTerm { .. } => election::unheard(state, self, name, request.term),
            What::Put { .. } => leading::unheard(state, self, name, what),
            // Made, or deleted, twice is made or deleted once.
            What::Create { .. } | What::Delete { leftover: true, .. } => state.send(name, request.term, what),
            // It could arrive later, and clear what was written since.
            What::Clear { .. } if !self.lacks(crate::mutation::Mutation::ClearAgain) => {
                state.end_term(self, name);
            }
            What::Clear { .. } => state.send(name, request.term, what),
            What::Delete { leftover: false, .. } => retention::unheard(state, name),
            What::Claim { .. } => unreachable!("nobody waits for what is left of a claim"),
        }
    }
}

fn remove(state: &mut State, request: &Request) {
    let at = state.network.iter().position(|it| it == request);
    state.network.remove(at.expect("what is on its way was chosen"));
}
