//! The streams that a leader has let go of. Pure.
//!
//! What a halted writer had sent may arrive minutes later. It harms nobody as long as its segment is gone. Where somebody
//! brings a deleted container back, it bears the fence of the term under which the stream would be opened again: so that
//! one is opened under the next term only.

use std::collections::BTreeMap;

use vault_format::ids::{StreamId, Term};

use crate::limits::STREAMS_LET_GO;

/// How many streams had been let go of when something began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Mark(u64);

/// What a stream that shows up is to a leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// Never led under this term.
    New,
    /// Let go of under this term, before the look that has found it.
    Back,
    /// Let go of after that look had begun: it shows what was.
    Gone,
}

/// The streams that were let go of under one term, each with how many went before it.
#[derive(Debug, Default)]
pub(crate) struct LetGo {
    term: Term,
    gone: BTreeMap<StreamId, Mark>,
    count: u64,
}

impl LetGo {
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.count)
    }

    /// Notes a stream. Whether there are as many now as can be kept in mind, so that the term has to end.
    pub(crate) fn note(&mut self, term: Term, stream: StreamId) -> bool {
        if self.term != term {
            self.term = term;
            self.gone.clear();
        }
        self.gone.insert(stream, self.mark());
        self.count += 1;
        self.gone.len() >= STREAMS_LET_GO
    }

    /// What a stream is that was found by a look that began at `mark`, under a term.
    pub(crate) fn arrival(&self, term: Term, stream: StreamId, mark: Mark) -> Arrival {
        match self.gone.get(&stream).filter(|_| self.term == term) {
            None => Arrival::New,
            Some(gone) if *gone < mark => Arrival::Back,
            Some(_) => Arrival::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: StreamId = StreamId([1; 16]);

    #[test]
    fn what_was_let_go_of_before_a_look_is_back_and_after_its_beginning_gone() {
        let mut let_go = LetGo::default();
        let before = let_go.mark();
        assert_eq!(let_go.arrival(Term(7), A, before), Arrival::New);
        assert!(!let_go.note(Term(7), A));
        assert_eq!(let_go.arrival(Term(7), A, before), Arrival::Gone);
        assert_eq!(let_go.arrival(Term(7), A, let_go.mark()), Arrival::Back);
    }

    #[test]
    fn another_term_knows_nothing_of_it() {
        let mut let_go = LetGo::default();
        let_go.note(Term(7), A);
        assert_eq!(let_go.arrival(Term(8), A, let_go.mark()), Arrival::New);
        let_go.note(Term(8), StreamId([2; 16]));
        assert_eq!(let_go.arrival(Term(8), A, let_go.mark()), Arrival::New);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept_in_mind() {
        let mut let_go = LetGo::default();
        let full = (0u128..).find(|id| let_go.note(Term(7), StreamId(id.to_le_bytes())));
        assert_eq!(full, Some(STREAMS_LET_GO as u128 - 1));
    }
}
