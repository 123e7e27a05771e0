//! The contract of storage, on Azurite, and what it says of long reads and listings.

use std::sync::Arc;

use futures::future::join;
use futures::{StreamExt, stream};
use vault_format::ids::{Position, Term};
use vault_server::env::Env;
use vault_server::storage::{BlobName, Metadata, Storage, conformance};
use vault_tests::azurite::Azurite;

use super::{blob, connect, container};

/// Azurite looks at the beginning of a range alone: it writes and clears past a page blob's end.
const AZURITE_BREAKS: &[&str] = &["pages-across-the-end"];

#[tokio::test]
async fn the_azure_backend_keeps_the_contract() {
    let azurite = Azurite::shared();
    let storage = Arc::new(connect(&azurite.connection_string()));
    conformance::run_knowing(&Env::real(), "conformance-", AZURITE_BREAKS, || storage.clone()).await;
}

/// Azurite changes the ETag with each write, as Azure does: a read in several requests would find another state.
#[tokio::test]
async fn a_long_read_is_one_request_so_that_writes_do_not_break_it() {
    let azurite = Azurite::shared();
    let storage = connect(&azurite.connection_string());
    storage.create_container(&container("long-reads"), &Metadata::new()).await.unwrap();
    let name = blob("long-reads");
    storage.create_page_blob(&name, 16 << 20, Term(1)).await.unwrap();
    let writes = stream::iter(0..200).for_each(|_| async {
        storage.put_pages(&name, Position(0), vec![1; 512].into(), Term(1), None).await.unwrap();
    });
    let reads = stream::iter(0..5).for_each(|_| async {
        assert_eq!(storage.read(&name, 0..16 << 20).await.unwrap().bytes.len(), 16 << 20);
    });
    join(writes, reads).await;
}

/// Azure lists 5,000 at a time.
#[tokio::test]
async fn a_listing_in_several_pages_is_whole_and_in_order() {
    const BLOBS: u64 = 5_010;
    let azurite = Azurite::shared();
    let storage = connect(&azurite.connection_string());
    storage.create_container(&container("many"), &Metadata::new()).await.unwrap();
    let name = |number: u64| BlobName { container: container("many"), name: format!("a/{number:020}.log") };
    let made = stream::iter(0..BLOBS).map(|number| {
        let storage = &storage;
        async move { storage.create_page_blob(&name(number), 512, Term(1)).await }
    });
    made.buffer_unordered(8).for_each(|made| async { drop(made.unwrap()) }).await;
    let listed = storage.list_blobs(&container("many"), "a/").await.unwrap();
    let names: Vec<_> = listed.into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, (0..BLOBS).map(|number| name(number).name).collect::<Vec<_>>());
}
