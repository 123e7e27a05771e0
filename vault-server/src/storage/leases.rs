//! Who holds which lease, for backends that keep leases themselves. Takes the time as an argument.

use std::collections::HashMap;
use std::time::Duration;

use vault_format::names::ContainerName;

use super::{LeaseId, LeaseTarget, StorageError};
use crate::env::Env;

/// The leases held. With each goes a `G`, kept for as long as the lease.
#[derive(Debug)]
pub(super) struct Leases<G> {
    held: HashMap<LeaseTarget, Held<G>>,
}

impl<G> Default for Leases<G> {
    fn default() -> Self {
        Self { held: HashMap::new() }
    }
}

#[derive(Debug)]
struct Held<G> {
    id: LeaseId,
    /// `None`: until it is released.
    duration: Option<Duration>,
    runs_out: Option<Duration>,
    _kept: G,
}

impl<G> Leases<G> {
    /// Takes a lease under a new id.
    pub(super) fn acquire(
        &mut self,
        target: &LeaseTarget,
        id: LeaseId,
        duration: Option<Duration>,
        now: Duration,
        kept: G,
    ) -> Result<LeaseId, StorageError> {
        self.forget_run_out(now);
        if self.held.contains_key(target) {
            return Err(StorageError::LeaseHeld);
        }
        let runs_out = duration.map(|duration| now + duration);
        self.held.insert(target.clone(), Held { id: id.clone(), duration, runs_out, _kept: kept });
        Ok(id)
    }

    pub(super) fn renew(
        &mut self,
        target: &LeaseTarget,
        lease: &LeaseId,
        now: Duration,
    ) -> Result<(), StorageError> {
        self.check(target, Some(lease), now)?;
        if let Some(held) = self.held.get_mut(target) {
            held.runs_out = held.duration.map(|duration| now + duration);
        }
        Ok(())
    }

    pub(super) fn release(
        &mut self,
        target: &LeaseTarget,
        lease: &LeaseId,
        now: Duration,
    ) -> Result<(), StorageError> {
        self.check(target, Some(lease), now)?;
        self.held.remove(target);
        Ok(())
    }

    /// Ends the lease, whoever holds it.
    pub(super) fn break_lease(&mut self, target: &LeaseTarget, now: Duration) -> Result<(), StorageError> {
        self.forget_run_out(now);
        self.held.remove(target).map(|_| ()).ok_or(StorageError::PreconditionFailed)
    }

    /// Whether a change of `target` may go on that names `lease`.
    pub(super) fn check(
        &mut self,
        target: &LeaseTarget,
        lease: Option<&LeaseId>,
        now: Duration,
    ) -> Result<(), StorageError> {
        self.forget_run_out(now);
        match (self.held.get(target), lease) {
            (None, None) => Ok(()),
            (Some(held), Some(lease)) if held.id == *lease => Ok(()),
            (Some(_), None) => Err(StorageError::LeaseHeld),
            (_, Some(_)) => Err(StorageError::PreconditionFailed),
        }
    }

    /// Drops the leases on a target that was deleted, for a container with those on its blobs.
    pub(super) fn forget(&mut self, target: &LeaseTarget) {
        self.held.remove(target);
        if let LeaseTarget::Container(container) = target {
            self.held.retain(|target, _| !is_inside(target, container));
        }
    }

    /// Drops what goes with leases that ran out. Every other method does so first.
    pub(super) fn forget_run_out(&mut self, now: Duration) {
        self.held.retain(|_, held| held.runs_out.is_none_or(|end| now < end));
    }
}

fn is_inside(target: &LeaseTarget, container: &ContainerName) -> bool {
    matches!(target, LeaseTarget::Blob(blob) if blob.container == *container)
}

/// An id that no other lease has.
pub(super) fn new_id(env: &Env) -> LeaseId {
    LeaseId(random_hex(env))
}

/// 32 digits that nothing else is called.
pub(super) fn random_hex(env: &Env) -> String {
    let mut bytes = [0; 16];
    env.entropy.fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn target(name: &str) -> LeaseTarget {
        LeaseTarget::Container(ContainerName::listed(name).unwrap())
    }

    fn id(name: &str) -> LeaseId {
        LeaseId(name.to_owned())
    }

    #[test]
    fn a_lease_runs_out_counted_from_its_last_renewal() {
        let mut leases = Leases::default();
        let target = target("abc");
        leases.acquire(&target, id("a"), Some(15 * SECOND), 100 * SECOND, ()).unwrap();
        let taken =
            |leases: &mut Leases<()>, now| leases.acquire(&target, id("b"), Some(15 * SECOND), now, ());
        assert_eq!(taken(&mut leases, 114 * SECOND), Err(StorageError::LeaseHeld));
        leases.renew(&target, &id("a"), 114 * SECOND).unwrap();
        assert_eq!(taken(&mut leases, 128 * SECOND), Err(StorageError::LeaseHeld));
        assert_eq!(leases.check(&target, Some(&id("a")), 128 * SECOND), Ok(()));
        assert_eq!(taken(&mut leases, 129 * SECOND), Ok(id("b")));
        assert_eq!(leases.renew(&target, &id("a"), 129 * SECOND), Err(StorageError::PreconditionFailed));
    }

    #[test]
    fn a_lease_that_ran_out_guards_nothing_and_lets_go_what_goes_with_it() {
        let mut leases = Leases::default();
        let kept = std::sync::Arc::new(());
        leases.acquire(&target("abc"), id("a"), Some(15 * SECOND), SECOND, kept.clone()).unwrap();
        assert_eq!(leases.check(&target("abc"), None, 15 * SECOND), Err(StorageError::LeaseHeld));
        assert_eq!(leases.check(&target("abc"), None, 16 * SECOND), Ok(()));
        assert_eq!(std::sync::Arc::strong_count(&kept), 1);
        assert_eq!(
            leases.check(&target("abc"), Some(&id("a")), 16 * SECOND),
            Err(StorageError::PreconditionFailed)
        );
    }
}
