//! Streams copied through their servers, and served again from the copies.

use std::sync::Arc;

use futures::TryStreamExt;
use vault_client::archive::{
    ArchiveError, Place as Storage, ServerSource, copy, restore, verify, verify_server,
};
use vault_client::embedded::{Embedded, Place};
use vault_client::{Client, Message, Offset, Settings};
use vault_format::names::Prefix;
use vault_server::env::Env;
use vault_server::storage::file::FileStorage;

const BLOCK: u64 = 4 << 20;

fn storage(directory: &std::path::Path) -> Storage {
    let env = Env::real();
    let storage = Arc::new(FileStorage::open(directory, env.clone()).expect("a directory"));
    Storage { storage, env, prefix: Prefix::new("mv-").expect("a prefix"), account: None }
}

/// Appends numbered messages of a kilobyte that no codec makes shorter.
async fn fill(client: &Client, stream: &str, from: u64, count: u64) {
    let producer = client.producer(stream).id("filler").start().expect("a producer");
    for number in from..from + count {
        let value: Vec<u8> = (0..128_u64)
            .flat_map(|word| (number * 128 + word).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
            .collect();
        producer.send(Message::new(value).key(number.to_string())).await.expect("there is room");
    }
    let report = producer.close().await;
    assert!(report.failure.is_none() && report.acknowledged == count, "{report:?}");
}

/// Everything that can be told of the messages of a stream.
async fn all(client: &Client, stream: &str) -> Vec<(Offset, u64, String, Vec<u8>, Vec<u8>)> {
    let reader = client.reader(stream).start();
    let told = reader.map_ok(|message| {
        let (offset, timestamp, id) = (message.offset(), message.timestamp().0, message.id().to_string());
        (offset, timestamp, id, message.key().to_vec(), message.value().to_vec())
    });
    told.try_collect().await.expect("the stream can be read")
}

async fn copied(client: &Client, stream: &str, target: &Storage) -> Result<Option<Offset>, ArchiveError> {
    let mut source = ServerSource::open(client, stream, false).await?;
    let name = target.prefix.stream(stream).expect("a name");
    let copied = copy(&mut source, target, &name, false, &mut |_| {}).await?;
    Ok(copied.next_offset)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_grows_is_served_and_restored() {
    let vault = Embedded::open(Place::Memory, "mv-").await.unwrap();
    let client = vault.client();
    let settings = Settings { segment_bytes: Some(2 * BLOCK), ..Settings::default() };
    client.create_stream("orders", &settings).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let target = storage(directory.path());
    // Nothing yet, then several segments, then a little more.
    assert_eq!(copied(&client, "orders", &target).await.unwrap().unwrap_or_default(), Offset(0));
    for (from, count) in [(0, 20_000), (20_000, 10), (20_010, 3_000)] {
        fill(&client, "orders", from, count).await;
        assert_eq!(copied(&client, "orders", &target).await.unwrap(), Some(Offset(from + count)));
    }
    let original = all(&client, "orders").await;
    let name = target.prefix.stream("orders").unwrap();
    let report = verify(&target.stream(&name).await.unwrap(), &mut |_| {}).await.unwrap();
    assert!(report.is_whole() && report.counts.messages == 23_010 && report.segments > 2, "{report:?}");
    let shown = verify_server(&client, "orders", &mut |_| {}).await.unwrap();
    assert!(shown.damage.is_none() && shown.counts.messages == 23_010, "{shown:?}");

    // Another directory is restored from it, and served.
    let other = tempfile::tempdir().unwrap();
    let restored = restore(&target, &storage(other.path()), &name, false, &mut |_| {}).await.unwrap();
    assert!(restored.gaps.is_empty());
    drop(target);
    let id = client.describe_stream("orders").await.unwrap().summary.id;
    for root in [directory.path(), other.path()] {
        let copy = Embedded::open(Place::Directory(root.to_owned()), "mv-").await.unwrap();
        assert_eq!(copy.client().describe_stream("orders").await.unwrap().summary.id, id);
        assert!(all(&copy.client(), "orders").await == original, "the copy holds something else");
        // It goes on, and knows who has written to it.
        fill(&copy.client(), "orders", 23_010, 5).await;
        assert_eq!(all(&copy.client(), "orders").await.len(), 23_015);
        copy.close().await.unwrap();
    }
    vault.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_something_else_is_refused() {
    let vault = Embedded::open(Place::Memory, "mv-").await.unwrap();
    let client = vault.client();
    fill(&client, "orders", 0, 10).await;
    let directory = tempfile::tempdir().unwrap();
    let target = storage(directory.path());
    copied(&client, "orders", &target).await.unwrap();
    client.delete_stream("orders").await.unwrap();
    fill(&client, "orders", 0, 20).await;
    let refused = copied(&client, "orders", &target).await;
    assert!(matches!(refused, Err(ArchiveError::OtherStream { .. })), "{refused:?}");
    let missing = copied(&client, "nowhere", &target).await;
    assert!(
        missing.as_ref().is_err_and(|error| error.to_string().contains("stream_not_found")),
        "{missing:?}"
    );
    vault.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_went_its_own_way_is_not_gone_on_with_through_servers() {
    let vault = Embedded::open(Place::Memory, "mv-").await.unwrap();
    let client = vault.client();
    fill(&client, "orders", 0, 10).await;
    let directory = tempfile::tempdir().unwrap();
    copied(&client, "orders", &storage(directory.path())).await.unwrap();
    assert_eq!(copied(&client, "orders", &storage(directory.path())).await.unwrap(), Some(Offset(10)));
    let copy = Embedded::open(Place::Directory(directory.path().to_owned()), "mv-").await.unwrap();
    fill(&copy.client(), "orders", 10, 1).await;
    copy.close().await.unwrap();
    let older = copied(&client, "orders", &storage(directory.path())).await;
    assert!(matches!(older, Err(ArchiveError::SourceIsOlder { .. })), "{older:?}");
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    fill(&client, "orders", 10, 1).await;
    let other = copied(&client, "orders", &storage(directory.path())).await;
    assert!(matches!(other, Err(ArchiveError::Misfit { .. })), "{other:?}");
    vault.close().await.unwrap();
}
