//! Connections that fall silent for good, as where a firewall forgets them or a machine goes away without a word: new ones
//! are as good as ever. And answers that get lost.

use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use vault_format::ids::{Position, Term};
use vault_server::limits::{
    AZURE_LARGE_SECOND_AFTER, AZURE_SMALL_REQUEST_TIME, AZURE_SMALL_SECOND_AFTER, LEASE,
};
use vault_server::storage::azure::AzureStorage;
use vault_server::storage::{LeaseTarget, Metadata, Storage, StorageError};
use vault_tests::azurite::Azurite;
use vault_tests::proxy::{Fault, Proxy};
use vault_tests::replicas::{free_port, on_account};

use super::{blob, connect, container};

/// What a busy machine needs on top of what is waited for.
const SLACK: Duration = Duration::from_secs(2);

/// A way to Azurite that can be made to fail, and the connection string that leads over it.
pub(super) async fn way(azurite: &Azurite) -> (Proxy, String) {
    azurite.behind_proxy(1).await.unwrap()
}

/// The same, with a blob of 8 MiB in a container of that name.
async fn with_blob(azurite: &Azurite, name: &str) -> (Proxy, AzureStorage) {
    let (proxy, connection) = way(azurite).await;
    let storage = connect(&connection);
    storage.create_container(&container(name), &Metadata::new()).await.unwrap();
    storage.create_page_blob(&blob(name), 8 << 20, Term(1)).await.unwrap();
    (proxy, storage)
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    (work.await, started.elapsed())
}

#[tokio::test]
async fn a_connection_that_falls_silent_in_the_middle_of_a_put_costs_three_seconds() {
    let azurite = Azurite::shared();
    let (proxy, storage) = with_blob(&azurite, "silent-put").await;
    let (name, bytes) = (blob("silent-put"), Bytes::from(vec![7; 4 << 20]));
    proxy.set(Fault::FallsSilent(1 << 20));
    let put = storage.put_pages(&name, Position(0), bytes.clone(), Term(1), None);
    let over = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.set(Fault::None);
    };
    let ((stored, took), ()) = tokio::join!(timed(put), over);
    stored.unwrap();
    let limit = AZURE_LARGE_SECOND_AFTER..AZURE_LARGE_SECOND_AFTER + SLACK;
    assert!(limit.contains(&took), "{took:?}");
    assert_eq!(storage.read(&name, 0..4 << 20).await.unwrap().bytes, bytes);
}

#[tokio::test]
async fn all_connections_are_left_behind_when_one_has_fallen_silent() {
    let azurite = Azurite::shared();
    let (proxy, storage) = with_blob(&azurite, "silent-idle").await;
    let name = blob("silent-idle");
    let silence = || async {
        // They lie idle afterwards, and the newest is used first.
        let answers = join_all((0..8).map(|_| storage.properties(&name))).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        proxy.set(Fault::FallsSilent(0));
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.set(Fault::None);
    };
    silence().await;
    let (found, took) = timed(storage.properties(&name)).await;
    found.unwrap();
    let limit = AZURE_SMALL_SECOND_AFTER..AZURE_SMALL_SECOND_AFTER + SLACK;
    assert!(limit.contains(&took), "{took:?}");
    // What must not be sent twice is given up, and the next one is as fast as ever.
    silence().await;
    let (cleared, took) = timed(storage.clear_pages(&name, 0..512, Term(1))).await;
    assert!(matches!(cleared, Err(StorageError::Unavailable(_))), "{cleared:?}");
    assert!(took >= AZURE_SMALL_REQUEST_TIME, "{took:?}");
    let (cleared, took) = timed(storage.clear_pages(&name, 0..512, Term(1))).await;
    cleared.unwrap();
    assert!(took < SLACK, "{took:?}");
}

#[tokio::test]
async fn a_put_comes_through_where_storage_is_slow() {
    let azurite = Azurite::shared();
    let (proxy, storage) = with_blob(&azurite, "slow-put").await;
    // In each direction of each connection: a put takes more than 8 s.
    proxy.set(Fault::Trickle(500_000));
    let (name, bytes) = (blob("slow-put"), Bytes::from(vec![7; 4 << 20]));
    let put = storage.put_pages(&name, Position(0), bytes, Term(1), None);
    let (stored, took) = timed(put).await;
    stored.unwrap();
    assert!(took > Duration::from_secs(8), "{took:?}");
}

#[tokio::test]
async fn a_lease_that_was_taken_without_an_answer_is_taken_all_the_same() {
    let azurite = Azurite::shared();
    let (proxy, storage) = with_blob(&azurite, "unsure").await;
    let other = connect(&azurite.connection_string());
    for target in [LeaseTarget::Blob(blob("unsure")), LeaseTarget::Container(container("unsure"))] {
        proxy.set(Fault::RepliesLost(1_000));
        for _ in 0..2 {
            let taken = storage.acquire_lease(&target, LEASE).await;
            assert!(matches!(taken, Err(StorageError::Unavailable(_))), "{taken:?}");
        }
        proxy.set(Fault::None);
        // It is held, under an id that was told to nobody.
        assert_eq!(other.acquire_lease(&target, LEASE).await, Err(StorageError::LeaseHeld));
        let lease = storage.acquire_lease(&target, LEASE).await.unwrap();
        assert_eq!(storage.acquire_lease(&target, LEASE).await, Err(StorageError::LeaseHeld));
        storage.release_lease(&target, &lease).await.unwrap();
        assert_ne!(storage.acquire_lease(&target, LEASE).await.unwrap(), lease);
    }
}

/// More than one message, and more than the connection passes.
fn long_messages() -> String {
    let value = "x".repeat(700_000);
    format!("\"{value}\"\n\"{value}\"\n\"{value}\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_go_on_when_all_connections_of_a_server_have_fallen_silent() {
    let azurite = Azurite::shared();
    let (proxy, connection) = way(&azurite).await;
    let server = on_account(&connection, "silent-", free_port()).start();
    let client = server.client();
    let append =
        move || client.post("/streams/long/messages", "application/x-ndjson", long_messages().as_bytes());
    let append = std::sync::Arc::new(append);
    let appending = || {
        tokio::task::spawn_blocking({
            let append = std::sync::Arc::clone(&append);
            move || append()
        })
    };
    assert_eq!(appending().await.unwrap().status, 200);
    // In the middle of a put, and of every other that is tried meanwhile.
    proxy.set(Fault::FallsSilent(1 << 20));
    let struck = appending();
    tokio::time::sleep(Duration::from_secs(1)).await;
    proxy.set(Fault::None);
    let (answer, took) = timed(struck).await;
    assert_eq!(answer.unwrap().status, 200);
    assert!(took < Duration::from_secs(6), "{took:?}");
    // All that are open, at rest or not.
    proxy.set(Fault::FallsSilent(0));
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.set(Fault::None);
    let (answer, took) = timed(appending()).await;
    assert_eq!(answer.unwrap().status, 200);
    assert!(took < Duration::from_secs(6), "{took:?}");
}
