//! Requests at the same time.

use futures::FutureExt;
use futures::future::{join, join_all};
use vault_format::ids::Term;

use super::Failure::{AlreadyExists, LeaseHeld, PreconditionFailed};
use super::{Bench, Check, LEASE, Outcome, blob, done, equal, failure, holds, metadata, pages};
use crate::storage::{LeaseTarget, StorageError};

const AT_ONCE: usize = 8;
const ROUNDS: u64 = 10;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "concurrent-puts", run: |bench| puts(bench).boxed() },
    Check { name: "concurrent-container-create", run: |bench| create_container(bench).boxed() },
    Check { name: "concurrent-blob-create", run: |bench| create_blob(bench).boxed() },
    Check { name: "concurrent-acquire", run: |bench| acquire(bench).boxed() },
    Check { name: "concurrent-raise-and-put", run: |bench| raise_and_put(bench).boxed() },
    Check { name: "concurrent-raises", run: |bench| raises(bench).boxed() },
];

/// Exactly one request won, and all others failed in the given way.
fn one_winner<T: std::fmt::Debug>(
    sentence: &'static str,
    results: &[Result<T, StorageError>],
    others: super::Failure,
) -> Outcome {
    let winners = results.iter().filter(|result| result.is_ok()).count();
    let as_told = |result: &Result<T, StorageError>| {
        result.as_ref().err().is_none_or(|error| failure(error) == Some(others))
    };
    holds(sentence, winners == 1 && results.iter().all(as_told), results)
}

async fn puts(bench: Bench) -> Outcome {
    const ALL: &str = "a request that succeeded survives";
    let name = bench.make_blob(4 << 20, Term(1)).await?;
    let places: Vec<(u64, u8)> = (1..=32).map(|byte| (u64::from(byte - 1) * 8192, byte)).collect();
    let puts = places.iter().map(|(at, byte)| bench.put(&name, *at, pages(8, *byte), Term(1)));
    for put in join_all(puts).await {
        done("Writes whole pages", put)?;
    }
    for (at, byte) in places {
        let read = done(ALL, bench.storage.read(&name, at..at + 8192).await)?.bytes;
        equal(ALL, read, [pages(8, byte), pages(8, 0)].concat().into())?;
    }
    Ok(())
}

async fn create_container(bench: Bench) -> Outcome {
    const ATOMIC: &str = "Creates a container with its metadata, atomically. Fails with `AlreadyExists`";
    let name = bench.container("c");
    let owners: Vec<_> = (0..AT_ONCE).map(|owner| metadata(&[("owner", &owner.to_string())])).collect();
    let results = join_all(owners.iter().map(|owner| bench.storage.create_container(&name, owner))).await;
    one_winner(ATOMIC, &results, AlreadyExists)?;
    let winner = results.iter().position(Result::is_ok).unwrap_or_default();
    equal(ATOMIC, &done(ATOMIC, bench.storage.container_metadata(&name).await)?, &owners[winner])
}

async fn create_blob(bench: Bench) -> Outcome {
    const ONE: &str = "`AlreadyExists` where a blob of that name exists";
    let name = blob(&bench.make("c").await?, "folder/x");
    let sizes = (1..=AT_ONCE as u64).map(|pages| pages * 512);
    let creates = sizes.map(|size| bench.storage.create_page_blob(&name, size, Term(size)));
    let results = join_all(creates).await;
    one_winner(ONE, &results, AlreadyExists)?;
    let winner = results.iter().position(Result::is_ok).unwrap_or_default() as u64;
    let found = done(ONE, bench.storage.properties(&name).await)?;
    equal(ONE, (found.bytes, found.sequence_number), ((winner + 1) * 512, Term((winner + 1) * 512)))?;
    equal(ONE, results.into_iter().find_map(Result::ok), Some(found.etag))
}

async fn acquire(bench: Bench) -> Outcome {
    const ONE: &str = "`LeaseHeld` where another holder has it";
    let name = bench.make_blob(512, Term(1)).await?;
    for target in [LeaseTarget::Container(name.container.clone()), LeaseTarget::Blob(name)] {
        let results = join_all((0..AT_ONCE).map(|_| bench.storage.acquire_lease(&target, LEASE))).await;
        one_winner(ONE, &results, LeaseHeld)?;
        for lease in results.into_iter().flatten() {
            done("Gives a lease back", bench.storage.release_lease(&target, &lease).await)?;
        }
    }
    Ok(())
}

/// Puts of an old term race a raise. What the new term reads once the raise has answered is final: nothing of the old
/// term lands after it, and nothing that was refused is there.
async fn raise_and_put(bench: Bench) -> Outcome {
    const FENCED: &str = "Once [`Storage::raise_sequence_number`] has answered, no write that names a lower number takes effect any more";
    let size = 1 << 20;
    let name = bench.make_blob(size, Term(1)).await?;
    let storage = &bench.storage;
    for round in 1..=ROUNDS {
        let byte = u8::try_from(round).unwrap_or(u8::MAX);
        let puts =
            (0..AT_ONCE as u64).map(|place| bench.put(&name, place * 65_536, pages(64, byte), Term(round)));
        let raise = async {
            let raised = storage.raise_sequence_number(&name, Term(round + 1)).await;
            (raised, storage.read(&name, 0..size).await)
        };
        let (results, (raised, seen)) = join(join_all(puts), raise).await;
        equal(FENCED, done(FENCED, raised)?, Term(round + 1))?;
        let seen = done(FENCED, seen)?.bytes;
        let late = bench.put(&name, 0, pages(1, 0xff), Term(round)).await;
        super::fails(FENCED, late, PreconditionFailed)?;
        let last = done(FENCED, storage.read(&name, 0..size).await)?.bytes;
        holds(FENCED, seen == last, format!("a write that landed after the raise, in round {round}"))?;
        for (place, result) in results.into_iter().enumerate() {
            let stored = last[place * 65_536..][..64 * 512].iter().all(|found| *found == byte);
            match result {
                Ok(()) => holds("a request that succeeded survives", stored, "other bytes")?,
                Err(StorageError::PreconditionFailed) => {
                    holds("a definite failure changed nothing", !stored, place)?;
                }
                Err(error) => return Err(super::broken(FENCED, format!("a put failed: {error:?}"))),
            }
        }
    }
    Ok(())
}

async fn raises(bench: Bench) -> Outcome {
    const MAX: &str =
        "Sets the sequence number to the greater of itself and `at_least`; answers the number then in force";
    let name = bench.make_blob(512, Term(1)).await?;
    let numbers = [5, 9, 3, 7, 8, 2, 6, 4].map(Term);
    let results =
        join_all(numbers.iter().map(|number| bench.storage.raise_sequence_number(&name, *number))).await;
    for (asked, result) in numbers.into_iter().zip(results) {
        let answered = done(MAX, result)?;
        holds(MAX, answered >= asked && answered <= Term(9), (asked, answered))?;
    }
    equal(MAX, done(MAX, bench.storage.properties(&name).await)?.sequence_number, Term(9))
}
