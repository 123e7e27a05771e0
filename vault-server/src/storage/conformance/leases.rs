//! Leases on blobs and containers.

use std::time::Duration;

use futures::FutureExt;
use vault_format::ids::{Position, Term};

use super::Failure::{AlreadyExists, LeaseHeld, NotFound, PreconditionFailed, Refused};
use super::{Bench, Check, LEASE, Outcome, blob, done, equal, fails, holds, no_lease, pages};
use crate::storage::LeaseTarget;

const TERM: Term = Term(3);
const TAKES: &str = "Takes the lease on a target";
const HELD: &str = "`LeaseHeld` where another holder has it";
const RENEWS: &str = "Prolongs a lease. `PreconditionFailed` where it is no longer held";
const RELEASES: &str = "Gives a lease back. `PreconditionFailed` where it is no longer held";

pub(super) const CHECKS: &[Check] = &[
    Check { name: "lease-on-a-blob", run: |bench| on_a_blob(bench).boxed() },
    Check { name: "lease-on-a-container", run: |bench| on_a_container(bench).boxed() },
    Check { name: "lease-guards-a-blob", run: |bench| guards(bench).boxed() },
    Check { name: "lease-rewrites", run: |bench| rewrites(bench).boxed() },
    Check { name: "lease-ends-with-its-blob", run: |bench| ends(bench).boxed() },
    Check { name: "lease-broken", run: |bench| broken(bench).boxed() },
    Check { name: "lease-durations", run: |bench| durations(bench).boxed() },
];

async fn held_renewed_released(bench: &Bench, target: &LeaseTarget) -> Outcome {
    let storage = &bench.storage;
    fails(RENEWS, storage.renew_lease(target, &no_lease()).await, PreconditionFailed)?;
    fails(RELEASES, storage.release_lease(target, &no_lease()).await, PreconditionFailed)?;
    let first = done(TAKES, storage.acquire_lease(target, LEASE).await)?;
    fails(HELD, storage.acquire_lease(target, LEASE).await, LeaseHeld)?;
    done(RENEWS, storage.renew_lease(target, &first).await)?;
    fails(HELD, storage.acquire_lease(target, LEASE).await, LeaseHeld)?;
    fails(RENEWS, storage.renew_lease(target, &no_lease()).await, PreconditionFailed)?;
    fails(RELEASES, storage.release_lease(target, &no_lease()).await, PreconditionFailed)?;
    done(RELEASES, storage.release_lease(target, &first).await)?;
    fails(RELEASES, storage.release_lease(target, &first).await, PreconditionFailed)?;
    let second = done(TAKES, storage.acquire_lease(target, LEASE).await)?;
    holds("Names one holding of a lease", first != second, &second)?;
    fails(RENEWS, storage.renew_lease(target, &first).await, PreconditionFailed)?;
    fails(RELEASES, storage.release_lease(target, &first).await, PreconditionFailed)?;
    done(RELEASES, storage.release_lease(target, &second).await)
}

async fn on_a_blob(bench: Bench) -> Outcome {
    let name = bench.make_blob(512, TERM).await?;
    held_renewed_released(&bench, &LeaseTarget::Blob(name.clone())).await?;
    let missing = LeaseTarget::Blob(blob(&name.container, "missing"));
    fails("What a request names must exist", bench.storage.acquire_lease(&missing, LEASE).await, NotFound)
}

async fn on_a_container(bench: Bench) -> Outcome {
    let name = bench.make_blob(512, TERM).await?;
    let target = LeaseTarget::Container(name.container.clone());
    held_renewed_released(&bench, &target).await?;
    let missing = LeaseTarget::Container(bench.container("missing"));
    fails("What a request names must exist", bench.storage.acquire_lease(&missing, LEASE).await, NotFound)?;
    let lease = done(TAKES, bench.storage.acquire_lease(&target, LEASE).await)?;
    const CONTAINER: &str = "Guards changes of a container's metadata and its deletion";
    done(CONTAINER, bench.put(&name, 0, pages(1, 1), TERM).await)?;
    done(CONTAINER, bench.storage.container_metadata(&name.container).await)?;
    done(RELEASES, bench.storage.release_lease(&target, &lease).await)
}

async fn guards(bench: Bench) -> Outcome {
    const GUARDS: &str = "while somebody holds the lease on a blob, every request that changes it and does not name that lease fails";
    const NONE_HELD: &str = "A request that names a lease fails where none is held";
    let storage = &bench.storage;
    let name = bench.make_blob(1024, TERM).await?;
    let target = LeaseTarget::Blob(name.clone());
    let stranger = no_lease();
    let put = |at: u64, lease| storage.put_pages(&name, Position(at), pages(1, 1), TERM, lease);
    fails(NONE_HELD, put(0, Some(&stranger)).await, PreconditionFailed)?;
    let lease = done(TAKES, storage.acquire_lease(&target, LEASE).await)?;
    fails(GUARDS, put(0, None).await, LeaseHeld)?;
    fails(GUARDS, put(0, Some(&stranger)).await, PreconditionFailed)?;
    fails(GUARDS, storage.clear_pages(&name, 0..512, TERM).await, LeaseHeld)?;
    fails(GUARDS, storage.raise_sequence_number(&name, Term(9)).await, LeaseHeld)?;
    fails(GUARDS, storage.delete_blob(&name, None).await, LeaseHeld)?;
    let created = storage.create_page_blob(&name, 512, TERM).await;
    fails("`AlreadyExists` where a blob of that name exists", created, AlreadyExists)?;
    let read = done("a lease guards no reads", storage.read(&name, 0..512).await)?;
    equal(GUARDS, (read.bytes, read.sequence_number), (pages(1, 0), TERM))?;
    done("where a lease is on the blob, `lease` is its holder's", put(0, Some(&lease)).await)?;
    let other = blob(&name.container, "other");
    done("Creates a page blob", storage.create_page_blob(&other, 512, TERM).await)?;
    done("Guards writes to a blob", bench.put(&other, 0, pages(1, 1), TERM).await)?;
    let wrong_blob = storage.put_pages(&other, Position(0), pages(1, 1), TERM, Some(&lease)).await;
    fails(NONE_HELD, wrong_blob, PreconditionFailed)?;
    let second = done(
        "each target has its own lease",
        storage.acquire_lease(&LeaseTarget::Blob(other.clone()), LEASE).await,
    )?;
    done(RELEASES, storage.release_lease(&LeaseTarget::Blob(other), &second).await)?;
    fails(GUARDS, put(512, None).await, LeaseHeld)?;
    done(RELEASES, storage.release_lease(&target, &lease).await)?;
    fails(NONE_HELD, put(512, Some(&lease)).await, PreconditionFailed)?;
    done("Writes whole pages", put(512, None).await)
}

async fn rewrites(bench: Bench) -> Outcome {
    const REWRITES: &str =
        "Writes the first page of a page blob anew [...] Answers the state that it is in then";
    const NEXT: &str = "of requests that name one state one takes effect";
    const CONDITIONS: &str =
        "if the blob's sequence number is `fence`, `lease` holds its lease, and it is in state `if_match`";
    let storage = &bench.storage;
    let name = bench.make_blob(1024, TERM).await?;
    done("Writes whole pages", bench.put(&name, 512, pages(1, 9), TERM).await)?;
    let target = LeaseTarget::Blob(name.clone());
    let first = bench.etag(&name).await?;
    let rewrite = |page, fence, state, lease| {
        let name = name.clone();
        async move { storage.rewrite_page(&name, page, fence, &state, &lease).await }
    };
    let none_held = rewrite(pages(1, 1), TERM, first.clone(), no_lease()).await;
    fails("A request that names a lease fails where none is held", none_held, PreconditionFailed)?;
    let lease = done(TAKES, storage.acquire_lease(&target, LEASE).await)?;
    let second = done(REWRITES, rewrite(pages(1, 1), TERM, first.clone(), lease.clone()).await)?;
    equal(REWRITES, bench.etag(&name).await?, second.clone())?;
    holds("which is another one", second != first, &second)?;
    let late = rewrite(pages(1, 2), TERM, first.clone(), lease.clone()).await;
    fails(NEXT, late, PreconditionFailed)?;
    for (fence, state, lease) in
        [(Term(4), second.clone(), lease.clone()), (TERM, second.clone(), no_lease())]
    {
        fails(CONDITIONS, rewrite(pages(1, 2), fence, state, lease).await, PreconditionFailed)?;
    }
    let read = done(REWRITES, storage.read(&name, 0..1024).await)?;
    let whole = [pages(1, 1), pages(1, 9)].concat();
    equal(REWRITES, (read.bytes.to_vec(), read.sequence_number, read.etag), (whole, TERM, second.clone()))?;
    let third = done(REWRITES, rewrite(pages(1, 2), TERM, second.clone(), lease.clone()).await)?;
    done(
        "Sets the sequence number",
        storage.set_sequence_number(&name, Term(4), &third, Some(&lease)).await,
    )?;
    fails(NEXT, rewrite(pages(1, 3), Term(4), third, lease.clone()).await, PreconditionFailed)?;
    let fourth = bench.etag(&name).await?;
    let long = rewrite(pages(2, 3), Term(4), fourth.clone(), lease.clone()).await;
    fails("Anything else is `Refused`", long, Refused)?;
    done(REWRITES, rewrite(pages(1, 3), Term(4), fourth, lease.clone()).await)?;
    let missing = blob(&name.container, "missing");
    let missing = storage.rewrite_page(&missing, pages(1, 1), TERM, &second, &lease).await;
    fails("What a request names must exist", missing, NotFound)?;
    done(RELEASES, storage.release_lease(&target, &lease).await)
}

async fn ends(bench: Bench) -> Outcome {
    const GONE: &str = "What a request names must exist";
    let storage = &bench.storage;
    let name = bench.make_blob(512, TERM).await?;
    let target = LeaseTarget::Blob(name.clone());
    let lease = done(TAKES, storage.acquire_lease(&target, LEASE).await)?;
    bench.delete(&name.container).await?;
    fails(GONE, storage.renew_lease(&target, &lease).await, NotFound)?;
    bench.make_blob(512, TERM).await?;
    fails(RENEWS, storage.renew_lease(&target, &lease).await, PreconditionFailed)?;
    done("Writes whole pages", bench.put(&name, 0, pages(1, 1), TERM).await)
}

async fn broken(bench: Bench) -> Outcome {
    const BREAKS: &str =
        "Ends the lease on a blob at once, whoever holds it, if the blob is in state `if_match`";
    let storage = &bench.storage;
    let name = bench.make_blob(512, TERM).await?;
    let target = LeaseTarget::Blob(name.clone());
    let lease = done(TAKES, storage.acquire_lease(&target, LEASE).await)?;
    let state = done("Size, sequence number and state", storage.properties(&name).await)?.etag;
    if storage.leases_last() {
        fails("`Refused` where leases last", storage.break_lease(&name, &state).await, Refused)?;
        return done(RELEASES, storage.release_lease(&target, &lease).await);
    }
    done(BREAKS, storage.set_sequence_number(&name, Term(4), &state, Some(&lease)).await)?;
    const OTHER: &str = "`PreconditionFailed` where it is in another, or nobody holds a lease";
    fails(OTHER, storage.break_lease(&name, &state).await, PreconditionFailed)?;
    done(RENEWS, storage.renew_lease(&target, &lease).await)?;
    let state = done("Size, sequence number and state", storage.properties(&name).await)?.etag;
    done(BREAKS, storage.break_lease(&name, &state).await)?;
    fails(RENEWS, storage.renew_lease(&target, &lease).await, PreconditionFailed)?;
    let put = storage.put_pages(&name, Position(0), pages(1, 1), Term(4), Some(&lease)).await;
    fails("A request that names a lease fails where none is held", put, PreconditionFailed)?;
    fails(OTHER, storage.break_lease(&name, &state).await, PreconditionFailed)?;
    let second = done(TAKES, storage.acquire_lease(&target, LEASE).await)?;
    done(RELEASES, storage.release_lease(&target, &second).await)?;
    let missing = blob(&name.container, "missing");
    fails("What a request names must exist", storage.break_lease(&missing, &state).await, NotFound)
}

async fn durations(bench: Bench) -> Outcome {
    const REFUSED: &str = "Takes the lease on a target for `duration` (15 to 60 s)";
    let name = bench.make_blob(512, TERM).await?;
    for target in [LeaseTarget::Blob(name.clone()), LeaseTarget::Container(name.container)] {
        for seconds in [0, 14, 61] {
            let taken = bench.storage.acquire_lease(&target, Duration::from_secs(seconds)).await;
            fails(REFUSED, taken, Refused)?;
        }
        let lease = done(REFUSED, bench.storage.acquire_lease(&target, Duration::from_secs(60)).await)?;
        done(RELEASES, bench.storage.release_lease(&target, &lease).await)?;
    }
    Ok(())
}
