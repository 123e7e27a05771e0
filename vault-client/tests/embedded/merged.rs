//! Several streams read as one.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use vault_client::embedded::{Embedded, Place};
use vault_client::{Client, Merged, MergedMessage, Offset, ReadError};

use crate::{append, text};

const STREAMS: [&str; 3] = ["orders", "payments", "parcels"];

/// Long enough that the clock has moved on.
const TICK: Duration = Duration::from_millis(3);

/// Appends messages that say when they came, to one stream after the other.
async fn in_turns(client: &Client, from: usize, count: usize) {
    for turn in from..from + count {
        append(client, STREAMS[turn % STREAMS.len()], &[&turn.to_string()]).await;
        tokio::time::sleep(TICK).await;
    }
}

fn turns(messages: &[MergedMessage]) -> Vec<usize> {
    messages
        .iter()
        .map(|merged| text(merged.message.value()).parse().expect("numbers were appended"))
        .collect()
}

#[tokio::test]
async fn streams_come_out_in_the_order_of_time() {
    let vault = Embedded::open(Place::Memory, "mv-").await.unwrap();
    let client = vault.client();
    in_turns(&client, 0, 30).await;
    let merged = Merged::new(STREAMS.map(|name| (name, client.reader(name).start())));
    let read: Vec<_> = merged.try_collect().await.unwrap();
    assert_eq!(turns(&read), (0..30).collect::<Vec<_>>());
    for (turn, merged) in read.iter().enumerate() {
        assert_eq!(&*merged.stream, STREAMS[turn % STREAMS.len()]);
    }
    assert!(read.windows(2).all(|pair| pair[0].message.id() < pair[1].message.id()));
    vault.close().await.unwrap();
}

#[tokio::test]
async fn streams_that_are_followed_do_not_wait_for_silent_ones_for_ever() {
    let vault = Embedded::open(Place::Memory, "mv-").await.unwrap();
    let client = vault.client();
    in_turns(&client, 0, 6).await;
    let patience = Duration::from_secs(2);
    let readers = STREAMS.map(|name| (name, client.reader(name).follow().start()));
    let mut merged = Merged::new(readers).patience(patience);
    let first: Vec<_> = (&mut merged).take(6).try_collect().await.unwrap();
    assert_eq!(turns(&first), (0..6).collect::<Vec<_>>());
    // One stream alone goes on.
    append(&client, "orders", &["6"]).await;
    let next = tokio::time::timeout(Duration::from_secs(10), merged.next()).await.unwrap();
    assert_eq!(turns(&[next.unwrap().unwrap()]), [6]);
    let offsets: Vec<_> = merged.next_offsets().map(|(_, offset)| offset.unwrap().0).collect();
    assert_eq!(offsets, [3, 2, 2]);
    vault.close().await.unwrap();
}

#[tokio::test]
async fn where_to_go_on_is_behind_what_came_out_and_not_behind_what_was_looked_at() {
    let vault = Embedded::open(Place::Memory, "mv-").await.unwrap();
    let client = vault.client();
    in_turns(&client, 0, 9).await;
    let mut offsets = [Offset(0); 3];
    let mut read = Vec::new();
    loop {
        let readers = STREAMS
            .iter()
            .zip(offsets)
            .map(|(name, offset)| (*name, client.reader(name).from(offset).start()));
        let mut merged = Merged::new(readers);
        let some: Vec<_> = (&mut merged).take(2).try_collect().await.unwrap();
        if some.is_empty() {
            break;
        }
        read.extend(some);
        for (offset, (_, next)) in offsets.iter_mut().zip(merged.next_offsets()) {
            *offset = next.unwrap();
        }
    }
    assert_eq!(turns(&read), (0..9).collect::<Vec<_>>());
    vault.close().await.unwrap();
}

#[tokio::test]
async fn an_error_names_its_stream_and_ends_it_all() {
    let vault = Embedded::open(Place::Memory, "mv-").await.unwrap();
    let client = vault.client();
    append(&client, "orders", &["0"]).await;
    let readers = ["orders", "nowhere"].map(|name| (name, client.reader(name).start()));
    let mut merged = Merged::new(readers);
    let error = merged.next().await.unwrap().unwrap_err();
    assert_eq!(&*error.stream, "nowhere");
    assert!(matches!(&error.error, ReadError::Request(error) if error.code() == Some("stream_not_found")));
    assert!(merged.next().await.is_none());
    vault.close().await.unwrap();
}
