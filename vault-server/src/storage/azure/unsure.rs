//! Leases that may be held without anybody knowing.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use crate::limits::AZURE_UNSURE_LEASES;
use crate::storage::{LeaseId, LeaseTarget, StorageError};

/// The ids under which leases may be held without anybody knowing, since the answer to the request that took them got
/// lost; of one target the oldest first. Who takes such a lease next does so under that id, which storage allows as it would
/// a renewal; under another one he would wait until it has run out.
///
/// The id is changed then for one that no request has named before. A copy of the first request that arrives late may take
/// the lease on a container that was made anew since, and a deletion under the same id that arrives late as well would find
/// its lease there:
///
/// ```text
///   take A, no answer | take A | change A to B | delete under B, no answer | made anew | take A | delete under B: refused
/// ```
///
/// So nothing is done under an id that a request without an answer has named, but to change it. No id is in two hands: they
/// are taken out, and those are put back under which the lease may be held still.
#[derive(Debug, Default)]
pub(super) struct UnsureLeases(Mutex<HashMap<LeaseTarget, VecDeque<LeaseId>>>);

/// A request that gives a lease an id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Taking {
    Acquire(LeaseId),
    Change { from: LeaseId, to: LeaseId },
}

impl UnsureLeases {
    /// Takes a lease by means of `send`, under an id that no request without an answer has named.
    pub(super) async fn take<F>(
        &self,
        target: &LeaseTarget,
        new_id: impl Fn() -> LeaseId,
        send: impl Fn(Taking) -> F,
    ) -> Result<LeaseId, StorageError>
    where
        F: Future<Output = Result<(), StorageError>>,
    {
        let mut asked = Asked { unsure: self, target, ids: self.take_out(target) };
        if asked.ids.is_empty() {
            let id = new_id();
            asked.ids.push_back(id.clone());
            return asked.settled(send(Taking::Acquire(id.clone())).await).map(|()| id);
        }
        while let Some(id) = asked.ids.front().cloned() {
            match send(Taking::Acquire(id.clone())).await {
                Ok(()) => {}
                // It is held under another one, if it is ours.
                Err(StorageError::LeaseHeld) => {
                    asked.ids.pop_front();
                    continue;
                }
                failed => return asked.settled(failed).map(|()| id),
            }
            let fresh = new_id();
            asked.ids.insert(1, fresh.clone());
            match send(Taking::Change { from: id, to: fresh.clone() }).await {
                // A change from before has come in between, or somebody has broken the lease.
                Err(StorageError::PreconditionFailed | StorageError::LeaseHeld) => {
                    asked.ids.drain(..2);
                }
                changed => return asked.settled(changed).map(|()| fresh),
            }
        }
        Err(StorageError::LeaseHeld)
    }

    fn take_out(&self, target: &LeaseTarget) -> VecDeque<LeaseId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(target).unwrap_or_default()
    }

    /// Beside those that others have put back meanwhile: one of them all holds the lease, if any does.
    fn put_back(&self, target: &LeaseTarget, ids: VecDeque<LeaseId>) {
        let mut unsure = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = unsure.entry(target.clone()).or_default();
        all.extend(ids);
        let too_many = all.len().saturating_sub(AZURE_UNSURE_LEASES);
        all.drain(..too_many);
    }
}

/// The ids under which a lease is asked for. Those that may hold it are put back at the end: also where whoever waits for it
/// gives up.
struct Asked<'a> {
    unsure: &'a UnsureLeases,
    target: &'a LeaseTarget,
    ids: VecDeque<LeaseId>,
}

impl Asked<'_> {
    /// Takes it into account that a definite outcome leaves nothing open.
    fn settled(&mut self, outcome: Result<(), StorageError>) -> Result<(), StorageError> {
        if !matches!(outcome, Err(StorageError::Unavailable(_))) {
            self.ids.clear();
        }
        outcome
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            self.unsure.put_back(self.target, std::mem::take(&mut self.ids));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::HashSet;

    use futures::FutureExt;
    use proptest::prelude::*;
    use vault_format::names::ContainerName;

    use super::*;

    /// What becomes of a request.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Fate {
        Answered,
        AnswerLost,
        /// It arrives later, if ever.
        Late,
        /// The sender gives up at once; it arrives, or does so later.
        GivenUp {
            arrives: bool,
        },
    }

    /// One lease of Azure's, and the way to it.
    #[derive(Default)]
    struct Service {
        holder: RefCell<Option<LeaseId>>,
        late: RefCell<Vec<Taking>>,
        /// The ids in requests that had no answer.
        unanswered: RefCell<HashSet<String>>,
        ids: Cell<u32>,
    }

    impl Service {
        fn new_id(&self) -> LeaseId {
            self.ids.set(self.ids.get() + 1);
            LeaseId(format!("id {}", self.ids.get()))
        }

        fn arrive(&self, request: &Taking) -> Result<(), StorageError> {
            let mut holder = self.holder.borrow_mut();
            match request {
                Taking::Acquire(id) if holder.as_ref().is_some_and(|holder| holder != id) => {
                    Err(StorageError::LeaseHeld)
                }
                Taking::Acquire(id) => {
                    *holder = Some(id.clone());
                    Ok(())
                }
                Taking::Change { from, to } if [Some(from), Some(to)].contains(&holder.as_ref()) => {
                    *holder = Some(to.clone());
                    Ok(())
                }
                Taking::Change { .. } => Err(StorageError::PreconditionFailed),
            }
        }

        async fn send(&self, request: Taking, fate: Fate) -> Result<(), StorageError> {
            if fate != Fate::Answered {
                let ids = match &request {
                    Taking::Acquire(id) => vec![id],
                    Taking::Change { from, to } => vec![from, to],
                };
                self.unanswered.borrow_mut().extend(ids.into_iter().map(|id| id.0.clone()));
            }
            match fate {
                Fate::Answered => return self.arrive(&request),
                Fate::AnswerLost | Fate::GivenUp { arrives: true } => {
                    let _unheard = self.arrive(&request);
                }
                Fate::Late | Fate::GivenUp { arrives: false } => self.late.borrow_mut().push(request),
            }
            if matches!(fate, Fate::GivenUp { .. }) {
                std::future::pending::<()>().await;
            }
            Err(StorageError::Unavailable("no answer".to_owned()))
        }

        /// Takes the lease with requests that fare so, one after the other; those that follow are answered. `None` where
        /// it is given up.
        fn take(&self, unsure: &UnsureLeases, fates: &[Fate]) -> Option<Result<LeaseId, StorageError>> {
            let sent = Cell::new(0);
            let send = |request| {
                let fate = fates.get(sent.replace(sent.get() + 1)).copied().unwrap_or(Fate::Answered);
                self.send(request, fate)
            };
            unsure.take(&target(), || self.new_id(), send).now_or_never()
        }
    }

    fn target() -> LeaseTarget {
        LeaseTarget::Container(ContainerName::listed("abc").unwrap())
    }

    #[test]
    fn a_lease_that_was_taken_without_an_answer_gets_an_id_that_no_late_copy_knows() {
        for first in [Fate::AnswerLost, Fate::Late, Fate::GivenUp { arrives: true }] {
            let (service, unsure) = (Service::default(), UnsureLeases::default());
            assert!(!matches!(service.take(&unsure, &[first]), Some(Ok(_))));
            let lease = service.take(&unsure, &[]).unwrap().unwrap();
            assert_eq!(service.holder.borrow().as_ref(), Some(&lease));
            assert_eq!(lease.0, "id 2", "{first:?}");
            assert_eq!(service.take(&unsure, &[]), Some(Err(StorageError::LeaseHeld)));
        }
    }

    #[test]
    fn it_is_found_whichever_of_two_requests_without_an_answer_has_taken_it() {
        for taken in ["id 1", "id 2"] {
            let (service, unsure) = (Service::default(), UnsureLeases::default());
            // Neither knows of the other.
            for id in ["id 1", "id 2"] {
                unsure.put_back(&target(), VecDeque::from([LeaseId(id.to_owned())]));
            }
            service.ids.set(2);
            *service.holder.borrow_mut() = Some(LeaseId(taken.to_owned()));
            assert_eq!(service.take(&unsure, &[]), Some(Ok(LeaseId("id 3".to_owned()))));
        }
    }

    fn fates() -> impl Strategy<Value = Fate> {
        prop_oneof![
            3 => Just(Fate::Answered),
            2 => Just(Fate::AnswerLost),
            2 => Just(Fate::Late),
            1 => any::<bool>().prop_map(|arrives| Fate::GivenUp { arrives }),
        ]
    }

    proptest! {
        /// Whatever gets lost or comes late, in one life of the container or in the next.
        #[test]
        fn nobody_is_given_an_id_that_a_request_without_an_answer_has_named(
            turns in prop::collection::vec(
                (prop::collection::vec(fates(), 0..4), any::<bool>(), prop::option::of(0..8_usize)),
                1..20,
            ),
        ) {
            let (service, unsure) = (Service::default(), UnsureLeases::default());
            for (fates, made_anew, late) in turns {
                if made_anew {
                    *service.holder.borrow_mut() = None;
                }
                let landing = late.filter(|at| *at < service.late.borrow().len());
                if let Some(at) = landing {
                    let landing = service.late.borrow_mut().swap_remove(at);
                    let _unheard = service.arrive(&landing);
                }
                if let Some(Ok(lease)) = service.take(&unsure, &fates) {
                    let holder = service.holder.replace(None);
                    prop_assert_eq!(holder.as_ref(), Some(&lease));
                    prop_assert!(!service.unanswered.borrow().contains(&lease.0), "{:?}", lease);
                }
                let kept = unsure.0.lock().unwrap().get(&target()).map_or(0, VecDeque::len);
                prop_assert!(kept <= AZURE_UNSURE_LEASES);
            }
        }
    }
}
