//! Opening, closing and sharing vaults in this process.

use futures::TryStreamExt;
use vault_client::embedded::{Embedded, EmbeddedError, Place};
use vault_client::{Message, Settings};

use crate::{append, texts};

#[tokio::test]
async fn what_is_stored_in_a_directory_is_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::Directory(directory.path().to_owned());
    for round in 0..3 {
        let vault = Embedded::open(place.clone(), "mv-").await.unwrap();
        let client = vault.client();
        append(&client, "orders", &["a", "b"]).await;
        let stored = texts(&client, "orders").await;
        assert_eq!(stored.len(), (round + 1) * 2, "{stored:?}");
        vault.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_vault_that_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::Directory(directory.path().to_owned());
    let vault = Embedded::open(place.clone(), "mv-").await.unwrap();
    let producer = vault.client().producer("orders").start().unwrap();
    let receipt = producer.send("kept").await.unwrap();
    assert_eq!(receipt.await.unwrap().offset.0, 0);
    drop(producer);
    drop(vault);
    // The dropped one's task may hold the directory for a moment.
    let vault = Embedded::open(place, "mv-").await.unwrap();
    assert_eq!(texts(&vault.client(), "orders").await, ["kept"]);
    vault.close().await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::Directory(directory.path().to_owned());
    let vault = Embedded::open(place.clone(), "mv-").await.unwrap();
    let second = Embedded::open(place, "mv-").await;
    assert!(
        matches!(&second, Err(EmbeddedError::NotLeading(why)) if why.contains("another process")),
        "{second:?}"
    );
    vault.close().await.unwrap();
}

#[tokio::test]
async fn prefixes_of_streams_keep_clients_apart() {
    let vault = Embedded::open(Place::Memory, "mv-").await.unwrap();
    let (ours, theirs) = (vault.client_with_prefix("team-a-"), vault.client_with_prefix("team-b-"));
    append(&ours, "orders", &["ours"]).await;
    append(&theirs, "orders", &["theirs"]).await;
    assert_eq!(texts(&ours, "orders").await, ["ours"]);
    let names =
        |streams: Vec<vault_client::Summary>| streams.into_iter().map(|it| it.name).collect::<Vec<_>>();
    assert_eq!(names(ours.list_streams("").await.unwrap()), ["team-a-orders"]);
    assert_eq!(names(vault.client().list_streams("").await.unwrap()), ["team-a-orders", "team-b-orders"]);
    ours.delete_stream("orders").await.unwrap();
    assert_eq!(names(vault.client().list_streams("").await.unwrap()), ["team-b-orders"]);
    vault.close().await.unwrap();
}

#[tokio::test]
async fn values_longer_than_a_message_come_back_whole() {
    let vault = Embedded::open(Place::Memory, "mv-").await.unwrap();
    let client = vault.client();
    client
        .create_stream("orders", &Settings { codec: Some("zstd".to_owned()), ..Settings::default() })
        .await
        .unwrap();
    let producer = client.producer("orders").start().unwrap();
    let value: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let long = Message::new(value.clone()).key("long").header("kind", "picture");
    let receipts = [
        producer.send("before").await.unwrap(),
        producer.send(long).await.unwrap(),
        producer.send("behind").await.unwrap(),
    ];
    let offsets: Vec<_> = futures::future::try_join_all(receipts.iter().map(vault_client::Receipt::wait))
        .await
        .unwrap()
        .iter()
        .map(|it| it.offset)
        .collect();
    assert!(producer.close().await.failure.is_none());
    let read: Vec<_> = client.reader("orders").start().try_collect().await.unwrap();
    assert_eq!(read.iter().map(|message| message.offset()).collect::<Vec<_>>(), offsets);
    assert_eq!(read[1].value(), value);
    assert_eq!((read[1].key(), read[1].attributes()), (&b"long"[..], 0));
    assert_eq!(read[1].headers().collect::<Vec<_>>(), [("kind", "picture")]);
    // Also where reading begins in the middle of it.
    let reader = client.reader("orders").from(offsets[1]).start();
    let read: Vec<_> = reader.try_collect().await.unwrap();
    assert!(read.len() == 2 && read[0].value() == value);
    vault.close().await.unwrap();
}

#[tokio::test]
async fn parts_of_long_values_may_stay_parts() {
    let vault = Embedded::open(Place::Memory, "mv-").await.unwrap();
    let producer = vault.client().producer("orders").start().unwrap();
    let value = vec![7; (5 << 20) + 1];
    producer.send(Message::new(value.clone())).await.unwrap().await.unwrap();
    assert!(producer.close().await.failure.is_none());
    let parts: Vec<_> = vault.client().reader("orders").parts().start().try_collect().await.unwrap();
    let offsets: Vec<_> = parts.iter().map(|part| part.offset().0).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 5]);
    assert_eq!(parts.iter().map(|part| part.value()).collect::<Vec<_>>().concat(), value);
    assert_eq!(parts[0].header("mv-part"), Some("0/6/5242881"));
    assert!(parts[5].header("mv-part").unwrap().starts_with("5/6/5242881@0"));
    vault.close().await.unwrap();
}
