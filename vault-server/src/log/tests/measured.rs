//! What the log and the election count of what goes wrong and of what goes on.

use super::*;
use crate::metrics::Metrics;
use crate::storage::StorageError;
use crate::storage::faulty::{Fault, Hold};
use crate::storage::operation::Operation;

fn metrics(vault: &Vault) -> &Metrics {
    &vault.context.metrics
}

fn away() -> Fault {
    Fault::Fail(StorageError::Unavailable("it is away".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_commit_counts_with_its_failed_attempts_which_count_as_retries() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let quick = metrics(&server.vault).log.commit_seconds.get_sample_sum();
    assert!(quick < 0.001 && server.env.retries.get() == 0, "{quick} s");
    for _ in 0..3 {
        server.faulty.on(Operation::PutPages).then(away());
    }
    let begun = server.env.clock.monotonic();
    append(&stream, "b", 10).await.unwrap();
    let took = (server.env.clock.monotonic() - begun).as_secs_f64();
    let log = &metrics(&server.vault).log;
    let slow = log.commit_seconds.get_sample_sum() - quick;
    assert!(slow > 0.01 && (slow - took).abs() < 0.005, "{slow} of {took} s");
    assert_eq!((log.commit_seconds.get_sample_count(), log.batch_requests.get_sample_count()), (2, 2));
    assert_eq!(server.env.retries.get(), 3);
    // The commit batch holds no requests.
    server.env.clock.sleep(Duration::from_secs(2)).await;
    assert_eq!((log.commit_seconds.get_sample_count(), log.batch_requests.get_sample_count()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_together_are_one_batch() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    server.faulty.on(Operation::PutPages).always().then(Fault::Delay(Duration::from_millis(10)));
    let appending = (0..20).map(|n| {
        let stream = Arc::clone(&stream);
        async move { append(&stream, &format!("m{n}"), 10).await.unwrap() }
    });
    futures::future::join_all(appending).await;
    let log = &metrics(&server.vault).log;
    assert_eq!(log.batch_requests.get_sample_sum(), 21.0);
    assert_eq!(log.batch_messages.get_sample_sum(), 21.0);
    assert!(log.batch_requests.get_sample_count() <= 6, "{}", log.batch_requests.get_sample_count());
    assert_eq!(stream.measured().appended_messages, 21);
    assert_eq!(stream.measured().appended_bytes as f64, log.batch_bytes.get_sample_sum());
}

#[tokio::test(start_paused = true)]
async fn what_is_set_aside_and_cleared_counts() {
    let server = Server::first(1).await;
    let stream = server.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let lost = Hold::new();
    server.faulty.on(Operation::PutPages).then(Fault::Hold(lost.clone()));
    for label in ["lost", "orphan"] {
        let stream = Arc::clone(&stream);
        tokio::spawn(async move { append(&stream, label, 10).await });
        server.env.clock.sleep(Duration::from_millis(10)).await;
    }
    server.stop(Command::Halt).await;
    lost.discard();
    let next = server.successor().await;
    next.stream("orders").until_opened().await;
    let log = &metrics(&next.vault).log;
    // The page that is missing and the one behind it.
    assert_eq!((log.tail_clears.get(), log.set_aside_bytes.get()), (1, 1024));
    assert_eq!(metrics(&server.vault).log.tail_clears.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_follower_knows_grows_old_until_it_looks_again() {
    let leader = Server::first(1).await;
    let follower = leader.beside(2);
    let stream = leader.create("orders", 2).await;
    append(&stream, "a", 10).await.unwrap();
    let theirs = follower.vault.readable(&follower.name("orders")).await.unwrap();
    assert!(theirs.measured().tail_age.is_none(), "nobody has looked");
    theirs.reader(Freshness::Recent).await.unwrap();
    assert!(theirs.measured().tail_age.unwrap() < Duration::from_millis(10));
    append(&stream, "b", 10).await.unwrap();
    leader.env.clock.sleep(Duration::from_secs(10)).await;
    assert!(theirs.measured().tail_age.unwrap() >= Duration::from_secs(10));
    assert_eq!(theirs.measured().extent.unwrap().next_offset, Offset(1));
    // A look that fails shows nothing.
    follower.faulty.on(Operation::Read).always().then(away());
    assert!(theirs.reader(Freshness::Strong).await.is_err());
    assert!(theirs.measured().tail_age.unwrap() >= Duration::from_secs(10));
    follower.faulty.heal();
    theirs.reader(Freshness::Strong).await.unwrap();
    assert!(theirs.measured().tail_age.unwrap() < Duration::from_millis(10));
    assert_eq!(theirs.measured().extent.unwrap().next_offset, Offset(2));
    assert!(stream.measured().tail_age.is_none(), "the leader follows nobody");
}

#[tokio::test(start_paused = true)]
async fn renewals_count_and_the_lease_has_an_age_while_it_is_held() {
    let env = Env::controlled(1);
    let elected =
        Elected::leading(Server::on(Arc::new(MemoryStorage::new(env.clone())), env.clone(), 1)).await;
    let vault = elected.vault.clone();
    let election = &metrics(&vault).election;
    env.clock.sleep(Duration::from_secs(21)).await;
    let age = election.lease_age(env.clock.monotonic()).unwrap();
    assert!(age < Duration::from_secs(6), "{age:?}");
    assert_eq!((election.renewed.get(), election.failed.get(), election.lost.get()), (4, 0, 0));
    elected.faulty.on(Operation::RenewLease).then(away());
    env.clock.sleep(Duration::from_secs(10)).await;
    assert_eq!((election.failed.get(), election.lost.get(), election.terms.get()), (1, 0, 1));
    elected.faulty.on(Operation::RenewLease).then(Fault::Fail(StorageError::LeaseHeld));
    env.clock.sleep(Duration::from_secs(6)).await;
    assert_eq!(election.lost.get(), 1);
    elected.end().await;
    assert!(election.lease_age(env.clock.monotonic()).is_none());
    assert!(election.terms.get() >= 1);
}
