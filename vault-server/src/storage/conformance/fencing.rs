//! Sequence numbers: what they let through, and how they change.

use futures::FutureExt;
use vault_format::ids::{Position, Term};

use super::Failure::{LeaseHeld, NotFound, PreconditionFailed, Refused};
use super::{Bench, Check, LEASE, Outcome, blob, done, equal, fails, holds, no_lease, pages};
use crate::limits::MAX_SEQUENCE_NUMBER;
use crate::storage::LeaseTarget;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "fence-put", run: |bench| put(bench).boxed() },
    Check { name: "fence-raise", run: |bench| raise(bench).boxed() },
    Check { name: "fence-set", run: |bench| set(bench).boxed() },
    Check { name: "fence-set-without-a-lease", run: |bench| set_without_a_lease(bench).boxed() },
];

async fn put(bench: Bench) -> Outcome {
    const PUT: &str = "Writes whole pages [...] if the blob's sequence number is `fence`";
    const CLEAR: &str = "Makes whole pages read as zeros [...] if the blob's sequence number is `fence`";
    let storage = &bench.storage;
    let name = bench.make_blob(4096, Term(5)).await?;
    for fence in [0, 4, 6, 50] {
        fails(PUT, bench.put(&name, 0, pages(1, 1), Term(fence)).await, PreconditionFailed)?;
    }
    equal(PUT, done(PUT, storage.read(&name, 0..512).await)?.bytes, pages(1, 0))?;
    done(PUT, bench.put(&name, 0, pages(1, 1), Term(5)).await)?;
    for fence in [0, 4, 6, 50] {
        fails(CLEAR, storage.clear_pages(&name, 0..512, Term(fence)).await, PreconditionFailed)?;
    }
    equal(CLEAR, done(CLEAR, storage.read(&name, 0..512).await)?.bytes, pages(1, 1))?;
    equal(PUT, done(PUT, storage.properties(&name).await)?.sequence_number, Term(5))
}

async fn raise(bench: Bench) -> Outcome {
    const RAISES: &str =
        "Sets the sequence number to the greater of itself and `at_least`; answers the number then in force";
    const FENCED: &str = "no write that names a lower number takes effect any more";
    let storage = &bench.storage;
    let name = bench.make_blob(4096, Term(5)).await?;
    let before = bench.etag(&name).await?;
    // Seconds of the Unix epoch are the size of a term.
    for (at_least, wanted) in [(7, 7), (6, 7), (7, 7), (0, 7), (1_800_000_000, 1_800_000_000)] {
        equal(
            RAISES,
            done(RAISES, storage.raise_sequence_number(&name, Term(at_least)).await)?,
            Term(wanted),
        )?;
        equal(RAISES, done(RAISES, storage.properties(&name).await)?.sequence_number, Term(wanted))?;
        let read = done(RAISES, storage.read(&name, 0..512).await)?;
        equal(
            "with the sequence number [...] in force when it was read",
            read.sequence_number,
            Term(wanted),
        )?;
    }
    let after = bench.etag(&name).await?;
    holds("It changes when the blob is [...] given a sequence number", after != before, &after)?;
    for fence in [5, 7] {
        fails(FENCED, bench.put(&name, 0, pages(1, 1), Term(fence)).await, PreconditionFailed)?;
        fails(FENCED, storage.clear_pages(&name, 0..512, Term(fence)).await, PreconditionFailed)?;
    }
    done(RAISES, bench.put(&name, 0, pages(1, 1), Term(1_800_000_000)).await)?;
    const REFUSED: &str = "a [...] sequence number (at most 2^63 - 1) [...] that breaks its rule";
    let too_high = storage.raise_sequence_number(&name, Term(MAX_SEQUENCE_NUMBER + 1)).await;
    fails(REFUSED, too_high, Refused)?;
    let missing = storage.raise_sequence_number(&blob(&name.container, "missing"), Term(1)).await;
    fails("What a request names must exist", missing, NotFound)
}

async fn set(bench: Bench) -> Outcome {
    const SETS: &str = "Sets the sequence number to `number`, higher or lower, if the blob is in state `if_match` and, where a lease is on the blob, `lease` is its holder's";
    let storage = &bench.storage;
    let name = bench.make_blob(512, Term(5)).await?;
    let target = LeaseTarget::Blob(name.clone());
    let first = bench.etag(&name).await?;
    fails(
        SETS,
        storage.set_sequence_number(&name, Term(6), &first, Some(&no_lease())).await,
        PreconditionFailed,
    )?;
    let lease = done("Takes the lease on a target", storage.acquire_lease(&target, LEASE).await)?;
    fails(
        SETS,
        storage.set_sequence_number(&name, Term(6), &first, Some(&no_lease())).await,
        PreconditionFailed,
    )?;
    equal(SETS, done(SETS, storage.properties(&name).await)?.sequence_number, Term(5))?;
    let first = bench.etag(&name).await?;
    done(SETS, storage.set_sequence_number(&name, Term(9), &first, Some(&lease)).await)?;
    equal(SETS, done(SETS, storage.properties(&name).await)?.sequence_number, Term(9))?;
    fails(
        SETS,
        storage.set_sequence_number(&name, Term(10), &first, Some(&lease)).await,
        PreconditionFailed,
    )?;
    let second = bench.etag(&name).await?;
    holds("It changes when the blob is [...] given a sequence number", first != second, &second)?;
    done(SETS, storage.set_sequence_number(&name, Term(3), &second, Some(&lease)).await)?;
    equal(SETS, done(SETS, storage.properties(&name).await)?.sequence_number, Term(3))?;
    let put = storage.put_pages(&name, Position(0), pages(1, 1), Term(9), Some(&lease)).await;
    fails("if the blob's sequence number is `fence`", put, PreconditionFailed)?;
    done(SETS, storage.put_pages(&name, Position(0), pages(1, 1), Term(3), Some(&lease)).await)?;
    done("Gives a lease back", storage.release_lease(&target, &lease).await)?;
    let third = bench.etag(&name).await?;
    fails(SETS, storage.set_sequence_number(&name, Term(4), &third, Some(&lease)).await, PreconditionFailed)
}

/// As a segment is claimed that nobody has used: its number is above every term until then.
async fn set_without_a_lease(bench: Bench) -> Outcome {
    const SETS: &str =
        "Sets the sequence number to `number`, higher or lower, if the blob is in state `if_match`";
    const RAISES: &str =
        "Sets the sequence number to the greater of itself and `at_least`; answers the number then in force";
    let storage = &bench.storage;
    let name = bench.make_blob(512, Term::UNUSED).await?;
    equal(RAISES, done(RAISES, storage.raise_sequence_number(&name, Term(7)).await)?, Term::UNUSED)?;
    fails(
        "if the blob's sequence number is `fence`",
        bench.put(&name, 0, pages(1, 1), Term(7)).await,
        PreconditionFailed,
    )?;
    let unused = done(SETS, storage.properties(&name).await)?;
    equal(SETS, unused.sequence_number, Term::UNUSED)?;
    let set = |number: u64, etag| {
        let name = &name;
        async move { storage.set_sequence_number(name, Term(number), etag, None).await }
    };
    let target = LeaseTarget::Blob(name.clone());
    let lease = done("Takes the lease on a target", storage.acquire_lease(&target, LEASE).await)?;
    let leased = bench.etag(&name).await?;
    fails("where a lease is on the blob, `lease` is its holder's", set(7, &leased).await, LeaseHeld)?;
    done("Gives a lease back", storage.release_lease(&target, &lease).await)?;
    let unused = bench.etag(&name).await?;
    done(SETS, set(7, &unused).await)?;
    fails(SETS, set(7, &unused).await, PreconditionFailed)?;
    fails(SETS, set(8, &unused).await, PreconditionFailed)?;
    equal(SETS, done(SETS, storage.properties(&name).await)?.sequence_number, Term(7))?;
    done(SETS, bench.put(&name, 0, pages(1, 1), Term(7)).await)?;
    // Neither does it come upon another blob of that name, made since.
    done("Deletes a blob", storage.delete_blob(&name, None).await)?;
    fails("What a request names must exist", set(7, &unused).await, NotFound)?;
    done("Creates a page blob", storage.create_page_blob(&name, 512, Term::UNUSED).await)?;
    fails(SETS, set(7, &unused).await, PreconditionFailed)?;
    equal(SETS, done(SETS, storage.properties(&name).await)?.sequence_number, Term::UNUSED)
}
