//! Claiming a segment: from then on nothing of an earlier term lands in it.
//!
//! ```text
//!  raise the number to our term --> it is our term now ------------------------------> claimed
//!     ^                         \-> it is a higher one ------------------------------> outrun
//!     |                          \-> nobody has used the segment: look at it, then
//!     |                              at `leader`, then set the number in that state -> claimed
//!     +------------------------------- it is in another state by now
//! ```
//!
//! A segment is made with [`Term::UNUSED`] as its number, which is above every term. So there are two requests that claim,
//! and neither can do harm however late it arrives:
//!
//! - **Raising** takes a segment over that somebody has used. It has no condition, so that a deposed leader that writes
//!   without a pause cannot keep it from landing. A copy of it that comes when retention has deleted the segment, and a late
//!   request has made it anew, changes nothing: the number there is higher.
//! - **Setting** the number takes one that nobody has used, and only in the state in which it was looked at, before `leader`
//!   showed that our term is the highest. One that was made anew is in another state; and what a successor has used and
//!   deleted since was not there any more, or the term was not in force. Nobody writes to such a segment, so that its state
//!   changes by claims and deletions alone.

use vault_format::ids::{Position, Term};

use crate::log::recover::{RecoverError, corrupt};
use crate::log::reign::{Reign, ReignEnd};
use crate::log::retry::{Backoff, until_definite};
use crate::log::store::{Segment, Store};
use crate::storage::{ETag, StorageError};

/// What raising a segment's number has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Raised {
    /// It is our term: no write of an earlier one lands after this.
    Claimed,
    /// Nobody has used the segment, and nobody can write to it before he has claimed it.
    Unused,
}

/// Makes our term the segment's number. No write of an earlier term lands after this has returned.
pub(crate) async fn claim(store: &Store, reign: &Reign, segment: &Segment) -> Result<(), RecoverError> {
    let blob = store.blob(segment.base);
    let mut backoff = Backoff::default();
    while raise(store, reign, segment).await? == Raised::Unused {
        let found = match until_definite(&store.env, || store.storage.properties(&blob)).await {
            Ok(found) => found,
            Err(error) => return Err(refused(store, reign, error).await),
        };
        if found.sequence_number == Term::UNUSED && claim_unused(store, reign, segment, &found.etag).await? {
            break;
        }
        backoff.wait(&store.env).await;
    }
    Ok(())
}

/// Claims a segment that somebody has used.
pub(crate) async fn raise(store: &Store, reign: &Reign, segment: &Segment) -> Result<Raised, RecoverError> {
    let blob = store.blob(segment.base);
    let raised = until_definite(&store.env, || store.storage.raise_sequence_number(&blob, reign.term)).await;
    match raised {
        Ok(term) if term == reign.term => Ok(Raised::Claimed),
        Ok(Term::UNUSED) => Ok(Raised::Unused),
        // No leader has set it. To rise above it is impossible, and the other streams are not to suffer.
        Ok(number) if number > Term::UNUSED => {
            let detail = format!("its sequence number {number} is above every term");
            Err(corrupt(segment, Position::ZERO, detail).into())
        }
        Ok(higher) => Err(RecoverError::Reign(ReignEnd::Outrun(Some(higher)))),
        Err(error) => Err(refused(store, reign, error).await),
    }
}

/// Claims a segment that nobody had used when it was seen in state `seen`. Not where it is in another by now: somebody has
/// claimed it, or a copy of this very request has.
pub(crate) async fn claim_unused(
    store: &Store,
    reign: &Reign,
    segment: &Segment,
    seen: &ETag,
) -> Result<bool, RecoverError> {
    // A leader that was deposed before it looked must not claim it: retention may have deleted what its successor had made
    // of it, and a late request have made it anew.
    prove(store, reign).await?;
    let blob = store.blob(segment.base);
    let set = || store.storage.set_sequence_number(&blob, reign.term, seen, None);
    match until_definite(&store.env, set).await {
        Ok(()) => Ok(true),
        Err(StorageError::PreconditionFailed) => Ok(false),
        Err(error) => Err(refused(store, reign, error).await),
    }
}

/// Fails where a higher term was given out.
pub(crate) async fn prove(store: &Store, reign: &Reign) -> Result<(), RecoverError> {
    if reign.in_force(&store.storage, &store.env, None).await? { Ok(()) } else { Err(outrun()) }
}

pub(crate) fn outrun() -> RecoverError {
    RecoverError::Reign(ReignEnd::Outrun(None))
}

/// Why a segment could not be claimed.
async fn refused(store: &Store, reign: &Reign, error: StorageError) -> RecoverError {
    match error {
        StorageError::LeaseHeld | StorageError::PreconditionFailed => outrun(),
        // A successor's retention may have deleted it, or its recovery taken it for a leftover.
        StorageError::NotFound => match prove(store, reign).await {
            Ok(()) => error.into(),
            Err(end) => end,
        },
        error => error.into(),
    }
}
