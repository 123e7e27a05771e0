//! Two servers of one vault: the leader is killed, or ends in order, while a producer and a reader go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vault_client::Client;
use vault_tests::azurite::Azurite;
use vault_tests::replicas::Replicas;
use vault_tests::wait::LONG;

use crate::ledger::{check, follow, produce, read_all};
use crate::{STREAM, small_segments, url};

/// Ends the leader, now this way and now that, while a producer and a reader use the servers whose URLs `known` makes of the
/// leader's and the follower's at the beginning.
async fn drill(prefix: &str, ends: &[bool], known: impl Fn(&str, &str) -> String) {
    let azurite = Azurite::shared();
    let mut replicas = Replicas::on_azurite(&azurite, prefix);
    let (leader, follower) = replicas.settled();
    let urls = known(&url(replicas.addresses()[leader]), &url(replicas.addresses()[follower]));
    let client = Client::connect(&urls).unwrap();
    client.create_stream(STREAM, &small_segments()).await.unwrap();
    // Told to producers, and then to the reader.
    let [stop, ended] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let producers: Vec<_> = (0..2)
        .map(|n| {
            let client = Client::connect(&urls).unwrap();
            tokio::spawn(produce(client, format!("p{n}"), Arc::clone(&stop)))
        })
        .collect();
    let reader = tokio::spawn(follow(Client::connect(&urls).unwrap(), Arc::clone(&ended)));
    for killed in ends {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let (leader, follower) = replicas.settled();
        if *killed {
            replicas.server_mut(leader).kill();
        } else {
            replicas.server_mut(leader).stop_in_order();
        }
        replicas.until_leads(follower, LONG);
        tokio::time::sleep(Duration::from_millis(500)).await;
        replicas.server_mut(leader).restart();
    }
    stop.store(true, Ordering::Relaxed);
    let mut told = Vec::new();
    for producer in producers {
        told.push(producer.await.unwrap());
    }
    ended.store(true, Ordering::Relaxed);
    let followed = reader.await.unwrap();
    assert!(told.iter().all(|told| told.offsets.len() > 20), "they went on meanwhile");
    check(&followed, &told);
    check(&read_all(&client).await, &told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_and_readers_of_both_go_on_through_failovers() {
    drill("client-both-", &[true, false], |leader, follower| format!("{leader},{follower}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_and_readers_of_the_follower_alone_go_on_when_the_leader_is_killed() {
    drill("client-one-", &[true], |_, follower| follower.to_owned()).await;
}
