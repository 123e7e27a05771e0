//! Requests of idempotent producers that come before their predecessors.
//!
//! A producer has several requests on their way, in order. They travel on connections of their own, or through another
//! server, so that one may overtake another. Such a request is kept back for a moment and taken up as soon as those before
//! it are. Only if they do not come it is refused, as any request that would leave a gap.

use vault_format::limits::MAX_OUTCOMES;
use vault_format::producers::Refused;
use vault_format::record::stamp_of;

use super::{AppendRequest, Writer};
use crate::limits::EARLY_WAIT;

/// Whether the requests before one that would leave a gap may be on their way: a producer may have so many at once.
fn may_be_early(request: &AppendRequest, refused: Refused) -> bool {
    let Refused::Gap { expected } = refused else { return false };
    let ahead = stamp_of(&request.records).and_then(|stamp| stamp.sequence.checked_sub(expected));
    ahead.is_some_and(|ahead| ahead < MAX_OUTCOMES as u64)
}

impl Writer {
    /// Keeps a request back that may be taken in a moment. Gives back one that is to be refused.
    pub(super) fn keep_back(
        &mut self,
        mut request: AppendRequest,
        refused: Refused,
    ) -> Option<AppendRequest> {
        if !may_be_early(&request, refused) {
            return Some(request);
        }
        let now = self.parts.store.env.clock.monotonic();
        let until = *request.early_until.get_or_insert(now + EARLY_WAIT);
        if now >= until {
            return Some(request);
        }
        self.early.push(request);
        None
    }

    /// Those that were kept back have their turn again: where something was put since the last one, or the oldest has waited
    /// for long enough. Nothing else changes what becomes of them, however many others come meanwhile.
    pub(super) fn try_early(&mut self) {
        let built = self.next_put();
        if self.early_over.is_none() || self.early_tried != built {
            (self.early_tried, self.early_over) = (built, None);
            self.queue.extend(self.early.drain(..));
        }
    }

    /// Starts the wait for the one that waits longest.
    pub(super) fn await_early(&mut self) {
        let oldest = self.early.iter().filter_map(|request| request.early_until).min();
        if let (Some(until), None) = (oldest, &self.early_over) {
            let clock = &self.parts.store.env.clock;
            self.early_over = Some(clock.sleep(until.saturating_sub(clock.monotonic())));
        }
    }
}
