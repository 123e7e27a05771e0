//! Creating, replacing, listing and deleting blobs.

use futures::FutureExt;
use vault_format::ids::Term;

use super::Failure::{AlreadyExists, NotFound, PreconditionFailed, Refused};
use super::{Bench, Check, Outcome, blob, done, equal, fails, holds, pages};
use crate::limits::MAX_SEQUENCE_NUMBER;
use crate::storage::BlobProperties;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "blob-create", run: |bench| create(bench).boxed() },
    Check { name: "blob-create-refused", run: |bench| create_refused(bench).boxed() },
    Check { name: "blob-names-refused", run: |bench| names_refused(bench).boxed() },
    Check { name: "blob-delete", run: |bench| delete(bench).boxed() },
    Check { name: "blob-delete-in-state", run: |bench| delete_in_state(bench).boxed() },
    Check { name: "blob-delete-and-recreate", run: |bench| recreate(bench).boxed() },
    Check { name: "block-blobs", run: |bench| block_blobs(bench).boxed() },
    Check { name: "block-blobs-have-no-pages", run: |bench| no_pages(bench).boxed() },
    Check { name: "blob-list", run: |bench| list(bench).boxed() },
];

async fn create(bench: Bench) -> Outcome {
    const CREATES: &str = "Creates a page blob of `bytes` [...] all zeros, with its sequence number";
    let storage = &bench.storage;
    let container = bench.make("c").await?;
    let name = blob(&container, "deep/er/blob.log");
    fails("What a request names must exist", storage.properties(&name).await, NotFound)?;
    let etag = done(CREATES, storage.create_page_blob(&name, 8 << 20, Term(7)).await)?;
    let wanted = BlobProperties { bytes: 8 << 20, sequence_number: Term(7), etag: etag.clone() };
    equal(CREATES, done(CREATES, storage.properties(&name).await)?, wanted.clone())?;
    let read = done(CREATES, storage.read(&name, 0..65_536).await)?;
    holds(CREATES, read.bytes.iter().all(|byte| *byte == 0) && read.bytes.len() == 65_536, read.bytes.len())?;
    equal("with the sequence number and state in force", (read.sequence_number, read.etag), (Term(7), etag))?;
    const EXISTS: &str = "`AlreadyExists` where a blob of that name exists";
    done("Writes whole pages", bench.put(&name, 0, pages(1, 1), Term(7)).await)?;
    fails(EXISTS, storage.create_page_blob(&name, 4096, Term(9)).await, AlreadyExists)?;
    let after = done(EXISTS, storage.properties(&name).await)?;
    equal("a definite failure changed nothing", (after.bytes, after.sequence_number), (8 << 20, Term(7)))?;
    equal("a definite failure changed nothing", done(EXISTS, storage.read(&name, 0..1).await)?.bytes[0], 1)?;
    let nowhere = blob(&bench.container("missing"), "x");
    fails(
        "`NotFound` where the container does not",
        storage.create_page_blob(&nowhere, 512, Term(1)).await,
        NotFound,
    )?;
    done(CREATES, storage.create_page_blob(&blob(&container, "smallest"), 512, Term::ZERO).await).map(|_| ())
}

async fn create_refused(bench: Bench) -> Outcome {
    const REFUSED: &str =
        "Anything else is `Refused`, and so is a [...] size, sequence number [...] that breaks its rule";
    let name = blob(&bench.make("c").await?, "x");
    for (bytes, number) in [(513, 1), (100, 1), (512, MAX_SEQUENCE_NUMBER + 1), (512, u64::MAX)] {
        fails(REFUSED, bench.storage.create_page_blob(&name, bytes, Term(number)).await, Refused)?;
        fails("a definite failure changed nothing", bench.storage.properties(&name).await, NotFound)?;
    }
    Ok(())
}

async fn names_refused(bench: Bench) -> Outcome {
    const NAMES: &str = "No part between two `/` is empty or begins with a dot";
    let container = bench.make("c").await?;
    for name in
        ["", "/a", "a/", "a//b", ".", "..", "../x", "a/../b", "a/.hidden", "a\\b", "a\0b", "a\nb", "é"]
    {
        let name = blob(&container, name);
        fails(NAMES, bench.storage.create_page_blob(&name, 512, Term(1)).await, Refused)?;
        fails(NAMES, bench.storage.put_block_blob(&name, "x".into()).await, Refused)?;
    }
    equal(
        "a definite failure changed nothing",
        done(NAMES, bench.storage.list_blobs(&container, "").await)?,
        vec![],
    )
}

async fn delete(bench: Bench) -> Outcome {
    const DELETES: &str = "Deletes a blob";
    let storage = &bench.storage;
    let name = bench.make_blob(4096, Term(1)).await?;
    fails(
        "What a request names must exist",
        storage.delete_blob(&blob(&name.container, "y"), None).await,
        NotFound,
    )?;
    done(DELETES, storage.delete_blob(&name, None).await)?;
    fails(DELETES, storage.properties(&name).await, NotFound)?;
    fails(DELETES, storage.read(&name, 0..512).await, NotFound)?;
    fails(DELETES, storage.page_ranges(&name, 0..512).await, NotFound)?;
    fails(DELETES, bench.put(&name, 0, pages(1, 1), Term(1)).await, NotFound)?;
    fails(DELETES, storage.clear_pages(&name, 0..512, Term(1)).await, NotFound)?;
    fails(DELETES, storage.raise_sequence_number(&name, Term(2)).await, NotFound)?;
    fails(DELETES, storage.delete_blob(&name, None).await, NotFound)?;
    equal(DELETES, done(DELETES, storage.list_blobs(&name.container, "").await)?, vec![])
}

async fn delete_in_state(bench: Bench) -> Outcome {
    const ONLY: &str = "Deletes a blob, where `if_match` is given only in that state";
    let storage = &bench.storage;
    let name = bench.make_blob(4096, Term(1)).await?;
    let old = bench.etag(&name).await?;
    done("Sets the sequence number", storage.raise_sequence_number(&name, Term(2)).await)?;
    fails(ONLY, storage.delete_blob(&name, Some(&old)).await, PreconditionFailed)?;
    done(ONLY, storage.properties(&name).await)?;
    let new = bench.etag(&name).await?;
    done(ONLY, storage.delete_blob(&name, Some(&new)).await)?;
    fails(ONLY, storage.properties(&name).await, NotFound)
}

async fn recreate(bench: Bench) -> Outcome {
    const CHANGES: &str = "It changes when the blob is created, also in the place of a deleted one";
    const ZEROS: &str = "Creates a page blob [...] all zeros, with its sequence number";
    let storage = &bench.storage;
    let name = bench.make_blob(4096, Term(9)).await?;
    let old = bench.etag(&name).await?;
    done("Writes whole pages", bench.put(&name, 0, pages(8, 1), Term(9)).await)?;
    done("Deletes a blob", storage.delete_blob(&name, None).await)?;
    let new = done(ZEROS, storage.create_page_blob(&name, 8192, Term(2)).await)?;
    holds(CHANGES, new != old, &new)?;
    let properties = done(ZEROS, storage.properties(&name).await)?;
    equal(ZEROS, properties, BlobProperties { bytes: 8192, sequence_number: Term(2), etag: new })?;
    let read = done(ZEROS, storage.read(&name, 0..8192).await)?.bytes;
    holds(ZEROS, read.iter().all(|byte| *byte == 0), "something else")?;
    fails(CHANGES, storage.delete_blob(&name, Some(&old)).await, PreconditionFailed)?;
    fails(
        "if the blob's sequence number is `fence`",
        bench.put(&name, 0, pages(1, 1), Term(9)).await,
        PreconditionFailed,
    )
}

async fn block_blobs(bench: Bench) -> Outcome {
    const PUTS: &str = "Creates or replaces a block blob";
    let storage = &bench.storage;
    let name = blob(&bench.make("c").await?, "stream/aside/1");
    done(PUTS, storage.put_block_blob(&name, "first".into()).await)?;
    let first = done(PUTS, storage.properties(&name).await)?;
    equal("0 for a block blob", (first.bytes, first.sequence_number), (5, Term::ZERO))?;
    equal("of a block blob too", &done(PUTS, storage.read(&name, 0..5).await)?.bytes[..], b"first")?;
    equal(
        "Exactly the range that was asked for",
        &done(PUTS, storage.read(&name, 1..3).await)?.bytes[..],
        b"ir",
    )?;
    fails("lies inside the blob", storage.read(&name, 1..6).await, Refused)?;
    done(PUTS, storage.put_block_blob(&name, "the second".into()).await)?;
    let second = done(PUTS, storage.properties(&name).await)?;
    equal(PUTS, second.bytes, 10)?;
    holds("It changes when the blob is [...] replaced", first.etag != second.etag, &second.etag)?;
    equal(PUTS, &done(PUTS, storage.read(&name, 0..10).await)?.bytes[..], b"the second")?;
    done("Deletes a blob", storage.delete_blob(&name, None).await)?;
    fails("Deletes a blob", storage.properties(&name).await, NotFound)?;
    let nowhere = blob(&bench.container("missing"), "x");
    fails("What a request names must exist", storage.put_block_blob(&nowhere, "x".into()).await, NotFound)
}

async fn no_pages(bench: Bench) -> Outcome {
    const REFUSED: &str = "a request for pages or sequence numbers on a block blob";
    const PLACE: &str = "a block blob in the place of a page blob";
    let storage = &bench.storage;
    let page_blob = bench.make_blob(512, Term(1)).await?;
    let name = blob(&page_blob.container, "block");
    done("Creates or replaces a block blob", storage.put_block_blob(&name, pages(2, 1)).await)?;
    fails(REFUSED, bench.put(&name, 0, pages(1, 2), Term::ZERO).await, Refused)?;
    fails(REFUSED, storage.clear_pages(&name, 0..512, Term::ZERO).await, Refused)?;
    fails(REFUSED, storage.page_ranges(&name, 0..512).await, Refused)?;
    fails(REFUSED, storage.raise_sequence_number(&name, Term(1)).await, Refused)?;
    let create = storage.create_page_blob(&name, 512, Term(1)).await;
    fails("`AlreadyExists` where a blob of that name exists", create, AlreadyExists)?;
    equal(REFUSED, done(REFUSED, storage.read(&name, 0..1024).await)?.bytes, pages(2, 1))?;
    fails(PLACE, storage.put_block_blob(&page_blob, "x".into()).await, Refused)?;
    equal(PLACE, done(PLACE, storage.properties(&page_blob).await)?.sequence_number, Term(1))
}

async fn list(bench: Bench) -> Outcome {
    const LISTS: &str =
        "All blobs of a container whose names begin with `prefix`, in the order of their names";
    let storage = &bench.storage;
    let container = bench.make("c").await?;
    // By the order of whole names `a-b` and `a.c` come before `a/1`, although the folder `a` comes before both.
    for name in ["b", "a/2.log", "a/1.log", "a-b", "a/aside/3", "a.c"] {
        let name = blob(&container, name);
        if name.name.ends_with(".log") {
            done("Creates a page blob", storage.create_page_blob(&name, 1024, Term(1)).await)?;
        } else {
            done("Creates or replaces a block blob", storage.put_block_blob(&name, "xyz".into()).await)?;
        }
    }
    let all = ["a-b", "a.c", "a/1.log", "a/2.log", "a/aside/3", "b"];
    for (prefix, wanted) in
        [("", &all[..]), ("a", &all[..5]), ("a/", &all[2..5]), ("a/as", &all[4..5]), ("c", &[])]
    {
        let found = done(LISTS, storage.list_blobs(&container, prefix).await)?;
        equal(LISTS, found.iter().map(|entry| entry.name.as_str()).collect(), wanted.to_vec())?;
        for entry in found {
            let properties = done(LISTS, storage.properties(&blob(&container, &entry.name)).await)?;
            equal(LISTS, (entry.bytes, entry.etag), (properties.bytes, properties.etag))?;
        }
    }
    let missing = storage.list_blobs(&bench.container("missing"), "").await;
    fails("What a request names must exist", missing, NotFound)
}
