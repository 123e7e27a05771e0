//! What waits to be sent, cut into runs. Pure: the time is an argument.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::SetOnce;
use tokio::time::Instant;
use vault_format::record::{self, InvalidRecord};

use crate::client::Appended;
use crate::error::SideEffects;
use crate::producer::error::SendError;
use crate::run::Run;

/// What became of a run, for all who wait for one of its messages.
pub(super) type Outcome = SetOnce<Result<Appended, SendError>>;

/// Whoever has this tells the outcome. Where it is dropped without, as with a producer that is dropped while its requests
/// are on their way, nobody knows it.
#[derive(Debug, Default)]
pub(super) struct Promise(Arc<Outcome>);

impl Promise {
    pub(super) fn outcome(&self) -> Arc<Outcome> {
        Arc::clone(&self.0)
    }

    pub(super) fn keep(self, outcome: Result<Appended, SendError>) {
        self.0.set(outcome).expect("an outcome is told once");
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        // It was told, or nobody can tell any more.
        let _ = self.0.set(Err(SendError::Closed { side_effects: SideEffects::Possible }));
    }
}

/// A run, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) run: Run,
    pub(super) promise: Promise,
    /// What it takes of the buffer.
    pub(super) buffer_bytes: usize,
    sealed: Option<Bytes>,
}

impl Pending {
    /// A run to which nothing is added any more.
    pub(super) fn new(run: Run, buffer_bytes: usize) -> Self {
        Self { run, buffer_bytes, ..Self::default() }
    }

    /// Its records, the same however often it is sent.
    pub(super) fn records(&mut self) -> Bytes {
        self.sealed.get_or_insert_with(|| self.run.take_records()).clone()
    }
}

/// Messages that are not on their way yet: runs that are ready, in order, and one that still grows.
#[derive(Debug)]
pub(super) struct Queue {
    request_bytes: usize,
    linger: Duration,
    ready: VecDeque<Pending>,
    open: Option<(Instant, Pending)>,
}

impl Queue {
    pub(super) fn new(request_bytes: usize, linger: Duration) -> Self {
        Self { request_bytes, linger, ready: VecDeque::new(), open: None }
    }

    /// Adds a message, `encoded_bytes` long at most, to the run that still grows. Answers the run's outcome and the message's
    /// place in it, and whether somebody should look: a run became ready, or began.
    pub(super) fn push(
        &mut self,
        message: &record::Message<'_>,
        encoded_bytes: usize,
        buffer_bytes: usize,
        now: Instant,
    ) -> Result<(Arc<Outcome>, u32, bool), InvalidRecord> {
        let before = self.ready.len();
        if self.open.as_ref().is_some_and(|(_, open)| open.run.bytes() + encoded_bytes > self.request_bytes) {
            self.close_open();
        }
        let began = self.open.is_none();
        let (_, open) = self.open.get_or_insert_with(|| (now, Pending::default()));
        let index = open.run.len();
        if let Err(error) = open.run.push_format(message) {
            if open.run.is_empty() {
                self.open = None;
            }
            return Err(error);
        }
        open.buffer_bytes += buffer_bytes;
        let outcome = open.promise.outcome();
        if open.run.bytes() >= self.request_bytes {
            self.close_open();
        }
        Ok((outcome, index, began || self.ready.len() > before))
    }

    /// Adds a run of its own behind all that waits.
    pub(super) fn push_run(&mut self, pending: Pending) {
        self.close_open();
        self.ready.push_back(pending);
    }

    /// Puts runs back in front of all others.
    pub(super) fn put_back(&mut self, runs: Vec<Pending>) {
        for pending in runs.into_iter().rev() {
            self.ready.push_front(pending);
        }
    }

    /// Makes the run that still grows ready.
    pub(super) fn close_open(&mut self) {
        self.ready.extend(self.open.take().map(|(_, open)| open));
    }

    /// The next run that is to be sent by now.
    pub(super) fn take(&mut self, now: Instant) -> Option<Pending> {
        if self.ready.is_empty() && self.due().is_some_and(|due| due <= now) {
            self.close_open();
        }
        self.ready.pop_front()
    }

    /// When the run that still grows is sent, unless it becomes full before; `None` also where that is beyond all time.
    pub(super) fn due(&self) -> Option<Instant> {
        self.open.as_ref().and_then(|(began, _)| began.checked_add(self.linger))
    }

    /// Everything that waits, in order.
    pub(super) fn drain(&mut self) -> Vec<Pending> {
        self.close_open();
        self.ready.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vault_format::record::{Message, Record};

    use super::*;

    const LINGER: Duration = Duration::from_millis(5);

    /// What happens to a queue: a message of so many bytes, a run of its own, time that passes, or a look.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push(usize),
        PushRun,
        Pass(u64),
        Take,
        PutBack(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_usize..300).prop_map(Step::Push),
            1 => Just(Step::PushRun),
            2 => (0_u64..8).prop_map(Step::Pass),
            2 => Just(Step::Take),
            1 => (1_usize..4).prop_map(Step::PutBack),
        ]
    }

    fn message(value: &[u8]) -> Message<'_> {
        Message { attributes: 0, key: &[], headers: &[], value }
    }

    fn numbers(pending: &mut Pending) -> Vec<u32> {
        let records = pending.records();
        assert_eq!(pending.records(), records, "the same however often it is asked for");
        let (mut rest, mut numbers) = (&records[..], Vec::new());
        while !rest.is_empty() {
            let value = Record::take(&mut rest).unwrap().value;
            numbers.push(u32::from_le_bytes(*value.first_chunk().unwrap()));
        }
        assert_eq!(numbers.len(), pending.run.len() as usize, "its length outlives its records");
        numbers
    }

    proptest! {
        #[test]
        fn runs_hold_all_messages_in_order(steps in proptest::collection::vec(step(), 0..120)) {
            let mut now = Instant::now();
            let mut queue = Queue::new(1_000, LINGER);
            let (mut pushed, mut began, mut taken) = (0_u32, None, Vec::<Pending>::new());
            for step in steps {
                match step {
                    Step::Push(bytes) => {
                        let mut value = pushed.to_le_bytes().to_vec();
                        value.resize(4 + bytes, 0);
                        let (_, index, look) = queue.push(&message(&value), bytes + 40, 1, now).unwrap();
                        if index == 0 {
                            assert!(look, "somebody looks at what begins");
                            began = Some(now);
                        }
                        pushed += 1;
                    }
                    Step::PushRun => {
                        let mut run = Run::new();
                        run.push_format(&message(&pushed.to_le_bytes())).unwrap();
                        queue.push_run(Pending::new(run, 1));
                        pushed += 1;
                    }
                    Step::Pass(ms) => now += Duration::from_millis(ms),
                    Step::Take => {
                        let due = queue.due();
                        assert!(due.is_none_or(|due| Some(due) == began.map(|began| began + LINGER)));
                        match queue.take(now) {
                            Some(pending) => taken.push(pending),
                            None => assert!(due.is_none_or(|due| due > now), "nothing waits too long"),
                        }
                    }
                    Step::PutBack(count) => {
                        let count = taken.len().saturating_sub(count);
                        queue.put_back(taken.split_off(count));
                    }
                }
            }
            let taken_before = taken.len();
            taken.extend(queue.drain());
            assert!(queue.take(now).is_none() && queue.due().is_none());
            assert!(taken.len() >= taken_before);
            let mut all = Vec::new();
            let mut buffered = 0;
            for pending in &mut taken {
                let run = numbers(pending);
                assert!(!run.is_empty() && pending.records().len() <= 1_000 + 344);
                buffered += pending.buffer_bytes;
                all.extend(run);
            }
            assert_eq!(all, (0..pushed).collect::<Vec<_>>());
            assert_eq!(buffered, pushed as usize);
        }
    }

    #[test]
    fn what_breaks_a_rule_leaves_nothing_behind() {
        let now = Instant::now();
        let mut queue = Queue::new(1_000, LINGER);
        let long_key = [0; 1_025];
        let wrong = Message { key: &long_key, ..message(&[]) };
        assert!(queue.push(&wrong, 10, 1, now).is_err());
        assert!(queue.due().is_none() && queue.take(now + LINGER).is_none());
        queue.push(&message(&[1; 4]), 10, 1, now).unwrap();
        assert!(queue.push(&wrong, 10, 1, now).is_err());
        let taken = queue.take(now + LINGER).unwrap();
        assert_eq!((taken.run.len(), taken.buffer_bytes), (1, 1));
    }

    #[test]
    fn a_promise_that_is_dropped_is_told_to_be_unknown() {
        let outcome = Promise::default().outcome();
        let unknown = SendError::Closed { side_effects: SideEffects::Possible };
        assert_eq!(outcome.get(), Some(&Err(unknown)));
    }
}
