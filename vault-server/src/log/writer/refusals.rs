//! Requests that are not put: those that are refused, and those that were put before.

use vault_format::ids::Offset;

use super::{AppendRequest, Event, Writer};
use crate::log::appender::{Appended, Misfit};
use crate::log::error::{AppendError, Unusable};
use crate::storage::StorageError;

/// A request that may not be appended: for its offset, or for what is known of its producer. It is refused once the puts
/// on which the refusal rests are stored, and storage has shown, after the request came, that no other leader can know
/// better.
pub(super) struct Refusal {
    pub(super) request: AppendRequest,
    error: AppendError,
    after_put: u64,
    after_check: u64,
}

/// A request that was put before, and is answered as the first time once that put is stored.
pub(super) struct Repeat {
    pub(super) request: AppendRequest,
    appended: Appended,
    after_put: u64,
}

impl Writer {
    pub(super) fn turn_away(&mut self, misfit: Misfit<AppendRequest>) {
        match misfit {
            Misfit::OffsetsExhausted(request) => request.answer(Err(AppendError::OffsetsExhausted)),
            // Whether what was sent before is stored, a successor may know better.
            Misfit::NoRoom(request, max_bytes) => {
                self.refuse_later(request, AppendError::StreamFull { max_bytes });
            }
            Misfit::OtherOffset(request, next_offset) => {
                self.refuse_later(request, AppendError::OffsetMismatch { next_offset });
            }
            Misfit::Refused(request, refused) => {
                if let Some(request) = self.keep_back(request, refused) {
                    self.refuse_later(request, refused.into());
                }
            }
            Misfit::Repeated(request, appended) => {
                self.repeats.push(Repeat { request, appended, after_put: self.next_put() });
                self.repeat();
            }
        }
    }

    fn refuse_later(&mut self, request: AppendRequest, error: AppendError) {
        // The answer to a check that is on its way may have been given before this request came.
        let after_check = self.checks_begun + 1;
        self.refusals.push(Refusal { request, error, after_put: self.next_put(), after_check });
        self.check_term();
    }

    /// Answers those repeated requests whose first answers are certain by now.
    pub(super) fn repeat(&mut self) {
        let settled = self.open.as_ref().map_or(Offset::ZERO, |open| open.appender.settled().next_offset);
        let oldest_put = self.oldest_put;
        let due =
            |repeat: &mut Repeat| repeat.appended.next_offset <= settled || repeat.after_put <= oldest_put;
        for Repeat { request, appended, .. } in self.repeats.extract_if(.., due) {
            self.parts.store.metrics.repeated();
            request.answer(Ok(appended));
        }
    }

    fn check_term(&mut self) {
        if std::mem::replace(&mut self.checking, true) {
            return;
        }
        self.checks_begun += 1;
        let (store, reign) = (self.parts.store.clone(), self.parts.reign.clone());
        let segment = self.open.as_ref().map(|open| store.blob(open.segment.base));
        self.events.push(Box::pin(async move {
            Event::Term(reign.in_force(&store.storage, &store.env, segment.as_ref()).await)
        }));
    }

    /// Refuses what waited for the last check of our term and for puts that are stored by now.
    pub(super) fn refuse(&mut self, check_failed: Option<&StorageError>) {
        let done = if self.checking { self.checks_begun - 1 } else { self.checks_begun };
        let oldest_put = self.oldest_put;
        let due = |refusal: &mut Refusal| {
            refusal.after_check <= done && (refusal.after_put <= oldest_put || check_failed.is_some())
        };
        for refusal in self.refusals.extract_if(.., due) {
            let error = match check_failed {
                Some(error) => Unusable::Storage(error.clone()).into(),
                None => refusal.error,
            };
            refusal.request.answer(Err(error));
        }
        if self.refusals.iter().any(|refusal| refusal.after_check > done) {
            self.check_term();
        }
    }
}
