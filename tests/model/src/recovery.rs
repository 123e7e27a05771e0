//! Taking the stream over, as `log::recover` and `log::stream::life` do it.
//!
//! ```text
//!  list -> pick -> claim -> scan --+-- sealed --> next: there, or made --> claim ...
//!                                  +-- tail ----> look beyond --> clear --> leftovers --> claim the oldest --> lead
//! ```

use crate::batch::{Chain, Page, Scanned, evidence};
use crate::claim::{self, Claim, Outcome};
use crate::leading::Leading;
use crate::making::Making;
use crate::mutation::Mutation;
use crate::network::What;
use crate::state::{Protocol, Server, State};
use crate::storage::{Answer, UNUSED};
use crate::{Name, Offset, Term};

/// How far a server is with taking the stream over.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Recovery {
    /// Its term.
    pub term: Term,
    /// The segments that it knows of, oldest first.
    pub listed: Vec<Offset>,
    /// The one that it looks at.
    pub at: usize,
    /// What comes next.
    pub step: Step,
    /// What it found there.
    pub scanned: Option<Scanned>,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    /// Read the metadata, then list the segments.
    List,
    /// Look which of them is the newest that holds a page.
    Pick,
    /// Make the term its number.
    Claim(Claim),
    /// Go forward to the tail.
    Scan,
    /// Make the segment that the seal names.
    Make(Making),
    /// Look at the pages beyond the tail.
    Look,
    /// Something there says that the tail is none: read once more.
    LookAgain,
    /// What lies beyond the tail is being cleared.
    Clearing,
    /// Delete the segments behind the last one in use: raise the number of the next of them.
    Leftovers,
    /// Look whether it is blank, and still has this number.
    LookAtLeftover(Term),
    /// One of them is being deleted.
    DeletingLeftover,
    /// Claim the oldest segment, and check that nothing is missing.
    Guard,
}

impl Recovery {
    /// At the beginning.
    #[must_use]
    pub fn new(term: Term) -> Self {
        Self { term, listed: Vec::new(), at: 0, step: Step::List, scanned: None }
    }

    /// Goes on in a segment that was made.
    pub fn enter_made(&mut self, base: Offset) {
        self.listed.insert(self.at + 1, base);
        self.enter_next();
    }

    fn enter_next(&mut self) {
        self.at += 1;
        self.scanned = None;
        self.step = Step::Claim(Claim::Due);
    }

    /// Whether the oldest segment is to be claimed.
    #[must_use]
    pub fn guards(&self, protocol: &Protocol) -> bool {
        let guards = protocol.bounds.retention && !protocol.lacks(Mutation::NoGuardOfOldest);
        guards && self.listed.len() > 1
    }

    fn scanned(&self) -> Scanned {
        self.scanned.expect("this step comes after a scan")
    }

    /// What comes after claim and scan.
    fn after_scan(&mut self) {
        let scanned = self.scanned();
        if !scanned.sealed {
            self.step = Step::Look;
        } else if self.listed.get(self.at + 1) == Some(&scanned.chain.next) {
            self.enter_next();
        } else {
            self.step = Step::Make(Making::Due);
        }
    }
}

/// Goes one step on.
pub fn go_on(state: &mut State, protocol: &Protocol, name: Name) {
    let Server::Recovers(mut recovery) = state.servers[name].clone() else { return };
    let mut proceeds = true;
    match recovery.step {
        Step::List => {
            recovery.listed = state.storage.segments.iter().map(|segment| segment.base).collect();
            recovery.step = Step::Pick;
            if recovery.listed.is_empty() {
                proceeds = !state.storage.begun;
                recovery.step = Step::Guard;
            }
        }
        Step::Pick => {
            // In front stands what was made by a request that arrived after retention had deleted that very segment.
            let unused =
                |base: &Offset| state.storage.segment(*base).is_some_and(|segment| segment.is_unused());
            let last = recovery.listed.len() - 1;
            let late = recovery.listed[..last].iter().take_while(|base| unused(base)).count();
            recovery.listed.drain(..late);
            let is_written =
                |base: &Offset| state.storage.segment(*base).is_some_and(|segment| !segment.is_blank());
            let newest = recovery.listed.len() - 1;
            recovery.at = recovery.listed.iter().rposition(is_written).unwrap_or(newest);
            recovery.step =
                if protocol.lacks(Mutation::ScanBeforeClaim) { Step::Scan } else { Step::Claim(Claim::Due) };
        }
        Step::Claim(claim) => {
            match claim::go_on(state, protocol, name, claim, recovery.listed[recovery.at]) {
                Outcome::Gone => proceeds = false,
                Outcome::Ended => return,
                Outcome::GoesOn(claim) => recovery.step = Step::Claim(claim),
                Outcome::Claimed if recovery.scanned.is_some() => recovery.after_scan(),
                Outcome::Claimed => recovery.step = Step::Scan,
            }
        }
        Step::Scan => match scan(state, protocol, &recovery) {
            None => proceeds = false,
            Some(scanned) if scanned.chain.fence > recovery.term => return state.end_term(protocol, name),
            Some(scanned) => {
                recovery.scanned = Some(scanned);
                if protocol.lacks(Mutation::ScanBeforeClaim) {
                    recovery.step = Step::Claim(Claim::Due);
                } else {
                    recovery.after_scan();
                }
            }
        },
        Step::Make(making) => {
            let base = recovery.scanned().chain.next;
            return crate::making::go_on(state, protocol, name, making, base);
        }
        Step::Look | Step::LookAgain => match look(state, protocol, name, &mut recovery) {
            Some(step) => recovery.step = step,
            None => proceeds = false,
        },
        Step::Leftovers => match recovery.listed.get(recovery.at + 1).copied() {
            None => recovery.step = Step::Guard,
            Some(base) => {
                let number = if protocol.lacks(Mutation::LeftoverUnclaimed) {
                    state.storage.segment(base).map(|segment| segment.number)
                } else {
                    state.storage.raise(base, recovery.term)
                };
                match number {
                    None => {
                        recovery.listed.remove(recovery.at + 1);
                    }
                    Some(number) if number > recovery.term && number != UNUSED => {
                        return state.end_term(protocol, name);
                    }
                    Some(number) => recovery.step = Step::LookAtLeftover(number),
                }
            }
        },
        Step::LookAtLeftover(number) => {
            let base = recovery.listed[recovery.at + 1];
            match state.storage.segment(base).map(|it| (it.state(), it.is_blank())) {
                None => {
                    recovery.listed.remove(recovery.at + 1);
                    recovery.step = Step::Leftovers;
                }
                Some((seen, blank))
                    if seen.number == number && (blank || protocol.lacks(Mutation::LeftoverUnseen)) =>
                {
                    state.send(name, recovery.term, What::Delete { base, seen, leftover: true });
                    recovery.step = Step::DeletingLeftover;
                }
                Some(_) => recovery = Recovery::new(recovery.term),
            }
        }
        Step::Guard => return guard(state, protocol, name, recovery),
        Step::Clearing | Step::DeletingLeftover => unreachable!("the answer makes it go on"),
    }
    if proceeds {
        state.servers[name] = Server::Recovers(recovery);
    } else {
        state.hold_back(protocol, name);
    }
}

/// The state at the tail of the segment; of the one before it, where nothing valid stands in it. `None` where what is there
/// does not belong together.
fn scan(state: &State, protocol: &Protocol, recovery: &Recovery) -> Option<Scanned> {
    let base = recovery.listed[recovery.at];
    let rules = protocol.rules();
    let scan_of =
        |base: Offset| Some(rules.scan(&state.storage.segment(base)?.pages, Chain::at_segment_start(base)));
    let scanned = scan_of(base)?;
    if scanned.chain.position > 0 || recovery.at == 0 {
        return Some(scanned);
    }
    let before = scan_of(recovery.listed[recovery.at - 1])?;
    let leads_here = before.sealed && before.chain.next == base;
    leads_here.then(|| Scanned { chain: before.chain.in_next_segment(), known: before.known, ..scanned })
}

/// Decides what lies beyond the tail. `None`: damage.
fn look(state: &mut State, protocol: &Protocol, name: Name, recovery: &mut Recovery) -> Option<Step> {
    let base = recovery.listed[recovery.at];
    let chain = recovery.scanned().chain;
    let pages = &state.storage.segment(base)?.pages;
    let beyond = &pages[usize::from(chain.position)..];
    if beyond.iter().all(|page| *page == Page::Blank) {
        return Some(Step::Leftovers);
    }
    let proof = evidence(pages, chain.position, recovery.term);
    if proof.is_some() && !protocol.lacks(Mutation::DamageIsTail) {
        if recovery.step == Step::Look {
            return Some(Step::LookAgain);
        }
        let again = protocol.rules().scan(pages, chain);
        return (again.chain.position > chain.position).then_some(Step::Scan);
    }
    if matches!(protocol.mutation, Some(Mutation::NoClear | Mutation::NoClearNoFenceOrder)) {
        return Some(Step::Leftovers);
    }
    state.send(name, recovery.term, What::Clear { base, from: chain.position });
    Some(Step::Clearing)
}

/// What lay beyond the tail is gone.
pub fn cleared(state: &mut State, name: Name) {
    if let Server::Recovers(recovery) = &mut state.servers[name] {
        recovery.step = Step::Leftovers;
    }
}

/// A leftover is gone, or is none: then everything is looked at again.
pub fn leftover_deleted(state: &mut State, name: Name, answer: Answer) {
    if let Server::Recovers(recovery) = &mut state.servers[name] {
        if answer == Answer::Refused {
            *recovery = Recovery::new(recovery.term);
        } else {
            recovery.listed.remove(recovery.at + 1);
            recovery.step = Step::Leftovers;
        }
    }
}

/// Claims the oldest segment, so that a deletion which an earlier leader has on its way is refused; then leads.
fn guard(state: &mut State, protocol: &Protocol, name: Name, mut recovery: Recovery) {
    if recovery.guards(protocol) {
        match state.storage.raise(recovery.listed[0], recovery.term) {
            // What was deleted since the list was made may have been made anew by a request that came late.
            None | Some(UNUSED) => {
                recovery.listed.remove(0);
                recovery.at -= 1;
                state.servers[name] = Server::Recovers(recovery);
                return;
            }
            Some(number) if number > recovery.term => return state.end_term(protocol, name),
            Some(_) => {}
        }
    }
    if recovery.listed.first().is_some_and(|base| *base > 0) && !state.storage.trimmed {
        return state.hold_back(protocol, name);
    }
    state.storage.begun |= !recovery.listed.is_empty();
    state.noted.in_charge = state.noted.in_charge.max(recovery.term);
    let scanned = recovery.scanned.unwrap_or_default();
    state.servers[name] = Server::Leads(Leading::new(recovery.term, recovery.listed, &scanned));
}
