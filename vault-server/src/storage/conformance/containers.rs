//! Containers and their metadata.

use futures::FutureExt;

use super::Failure::{AlreadyExists, NotFound, PreconditionFailed};
use super::{Bench, Check, LEASE, Outcome, blob, done, equal, fails, holds, metadata, no_lease};
use crate::limits::DIRECT_READ_TIME;
use crate::storage::{LeaseTarget, Metadata, ReadAccess, ReadGrant};

pub(super) const CHECKS: &[Check] = &[
    Check { name: "container-create", run: |bench| create(bench).boxed() },
    Check { name: "container-metadata", run: |bench| set_metadata(bench).boxed() },
    Check { name: "container-delete", run: |bench| delete(bench).boxed() },
    Check { name: "container-list", run: |bench| list(bench).boxed() },
    Check { name: "container-grant", run: |bench| grant(bench).boxed() },
];

async fn create(bench: Bench) -> Outcome {
    let (storage, name) = (&bench.storage, bench.container("c"));
    // Every character that may stand in a value; blanks at the ends do not survive HTTP.
    let printable = format!("x{}x", (b' '..=b'~').map(char::from).collect::<String>());
    let first = metadata(&[("plain", "1"), ("with_underscore2", &printable)]);
    const READ: &str = "The metadata of a container.";
    fails("What a request names must exist", storage.container_metadata(&name).await, NotFound)?;
    done("Creates a container with its metadata", storage.create_container(&name, &first).await)?;
    equal(READ, done(READ, storage.container_metadata(&name).await)?, first.clone())?;
    let again = storage.create_container(&name, &metadata(&[("plain", "2")])).await;
    fails("Creates a container [...] Fails with `AlreadyExists`", again, AlreadyExists)?;
    equal("a definite failure changed nothing", done(READ, storage.container_metadata(&name).await)?, first)
}

async fn set_metadata(bench: Bench) -> Outcome {
    const REPLACES: &str = "Replaces all metadata of a container";
    const LEASED: &str = "The caller holds its lease";
    let storage = &bench.storage;
    let name = bench.make("c").await?;
    let target = LeaseTarget::Container(name.clone());
    let (first, second) = (metadata(&[("a", "1"), ("b", "2")]), metadata(&[("b", "3")]));
    fails(LEASED, storage.set_container_metadata(&name, &first, &no_lease()).await, PreconditionFailed)?;
    let lease = done("Takes the lease on a target", storage.acquire_lease(&target, LEASE).await)?;
    fails(LEASED, storage.set_container_metadata(&name, &first, &no_lease()).await, PreconditionFailed)?;
    equal(LEASED, done(LEASED, storage.container_metadata(&name).await)?, Metadata::new())?;
    done(REPLACES, storage.set_container_metadata(&name, &first, &lease).await)?;
    equal(REPLACES, done(REPLACES, storage.container_metadata(&name).await)?, first)?;
    done(REPLACES, storage.set_container_metadata(&name, &second, &lease).await)?;
    equal(REPLACES, done(REPLACES, storage.container_metadata(&name).await)?, second)?;
    done("Gives a lease back", storage.release_lease(&target, &lease).await)?;
    fails(LEASED, storage.set_container_metadata(&name, &Metadata::new(), &lease).await, PreconditionFailed)?;
    let missing = bench.container("missing");
    let set = storage.set_container_metadata(&missing, &Metadata::new(), &lease).await;
    fails("What a request names must exist", set, NotFound)
}

async fn delete(bench: Bench) -> Outcome {
    const DELETES: &str = "Deletes a container and all in it";
    const LEASED: &str = "The caller holds its lease";
    let storage = &bench.storage;
    let old = bench.make_blob(4096, vault_format::ids::Term(1)).await?;
    let name = old.container.clone();
    let target = LeaseTarget::Container(name.clone());
    done("Creates or replaces a block blob", storage.put_block_blob(&blob(&name, "b"), "x".into()).await)?;
    fails(LEASED, storage.delete_container(&name, &no_lease()).await, PreconditionFailed)?;
    let lease = done("Takes the lease on a target", storage.acquire_lease(&target, LEASE).await)?;
    fails(LEASED, storage.delete_container(&name, &no_lease()).await, PreconditionFailed)?;
    done(DELETES, storage.properties(&old).await)?;
    done(DELETES, storage.delete_container(&name, &lease).await)?;
    fails(DELETES, storage.container_metadata(&name).await, NotFound)?;
    fails(DELETES, storage.properties(&old).await, NotFound)?;
    fails(DELETES, storage.list_blobs(&name, "").await, NotFound)?;
    fails(DELETES, storage.delete_container(&name, &lease).await, NotFound)?;
    fails("What a request names must exist", storage.acquire_lease(&target, LEASE).await, NotFound)?;

    bench.make("c").await?;
    equal(DELETES, done(DELETES, storage.container_metadata(&name).await)?, Metadata::new())?;
    fails(DELETES, storage.properties(&old).await, NotFound)?;
    equal(DELETES, done(DELETES, storage.list_blobs(&name, "").await)?.len(), 0)?;
    const LATE: &str = "a request which arrives late cannot change a container of the same name made since";
    let set = storage.set_container_metadata(&name, &metadata(&[("a", "1")]), &lease).await;
    fails(LATE, set, PreconditionFailed)?;
    fails(LATE, storage.delete_container(&name, &lease).await, PreconditionFailed)
}

async fn list(bench: Bench) -> Outcome {
    const LISTS: &str = "All containers whose names begin with `prefix`, in the order of their names";
    let storage = &bench.storage;
    for (name, value) in [("b-1", "x"), ("a", "y"), ("b", "z"), ("b0", "w")] {
        let made = storage.create_container(&bench.container(name), &metadata(&[("of", value)])).await;
        done("Creates a container", made)?;
    }
    for (prefix, wanted) in
        [("", vec!["a", "b", "b-1", "b0"]), ("b", vec!["b", "b-1", "b0"]), ("b-", vec!["b-1"]), ("c", vec![])]
    {
        let found = done(LISTS, storage.list_containers(&format!("{}{prefix}", bench.prefix)).await)?;
        let names: Vec<_> = found.iter().map(|entry| entry.name.clone()).collect();
        equal(LISTS, names, wanted.into_iter().map(|name| bench.container(name)).collect())?;
        for entry in found {
            equal(LISTS, done(LISTS, storage.container_metadata(&entry.name).await)?, entry.metadata)?;
        }
    }
    bench.delete(&bench.container("b")).await?;
    let left = done(LISTS, storage.list_containers(&format!("{}b", bench.prefix)).await)?;
    equal(LISTS, left.len(), 2)
}

async fn grant(bench: Bench) -> Outcome {
    const GRANTS: &str = "Lets somebody read a container's blobs [...] or says why that cannot be";
    let name = bench.make("c").await?;
    match done(GRANTS, bench.storage.grant_reads(&name).await)? {
        ReadAccess::None(why) => holds(GRANTS, !why.is_empty(), why),
        ReadAccess::Granted(grant) => {
            let shown = format!("{grant:?}");
            let ReadGrant { container_url, sas, expires } = grant;
            let url_is_its = container_url.ends_with(&format!("/{name}")) && !container_url.contains('?');
            holds("The container's URL, without a query", url_is_its, &container_url)?;
            holds("Its debug form does not show the signature", !shown.contains(&sas), &container_url)?;
            const READS: &str = "nobody can write with it, read another container or list blobs";
            let has = |pair: &str| sas.split('&').any(|found| found == pair);
            holds(READS, has("sp=r") && has("sr=c"), "other leave")?;
            let lasts_ms = expires.0.saturating_sub(bench.env.clock.now().0);
            let longest_ms = u64::try_from(DIRECT_READ_TIME.as_millis()).unwrap_or(u64::MAX);
            holds("it ends after `DIRECT_READ_TIME` at most", (1..=longest_ms).contains(&lasts_ms), lasts_ms)
        }
    }
}
