//! Two servers on one directory. The lease ends with its holder's process there, so that nobody has to be taken for dead.

use std::time::{Duration, Instant};

use vault_tests::ledger::{self, Producer};
use vault_tests::replicas::Replicas;
use vault_tests::server::temporary_directory;
use vault_tests::wait::{LONG, until};

const STREAM: &str = "s";
/// From the end of the leader to an acknowledged append through the other server: as it is promised after a death. On
/// files nobody waits for a lease, and it is less than 2 s unless other tests load the machine.
const TAKEOVER: Duration = Duration::from_secs(6);

/// Appends through this server until one is acknowledged, and how long that took from `since`.
fn until_stored(replicas: &Replicas, index: usize, producer: &mut Producer, since: Instant) -> Duration {
    let client = replicas.client(index);
    until("an append is acknowledged", Duration::from_secs(20), || {
        let answer = producer.send(&client, STREAM).expect("this server runs");
        (answer.status == 200).then(|| since.elapsed())
    })
}

#[test]
fn the_second_follows_takes_over_and_is_handed_over_to() {
    let directory = temporary_directory();
    let mut replicas = Replicas::in_directory(directory.path());
    let (first, second) = replicas.settled();
    let mut producer = Producer::new("p", 1, 500);

    // It forwards, and it reads by itself what the leader appends.
    for index in [first, second, first, second] {
        assert_eq!(producer.send(&replicas.client(index), STREAM).unwrap().status, 200);
    }
    until("the follower reads what was appended", TAKEOVER, || {
        let same = replicas.client(first).read_all(STREAM) == replicas.client(second).read_all(STREAM);
        same.then_some(())
    });

    replicas.server_mut(first).kill();
    let took = until_stored(&replicas, second, &mut producer, Instant::now());
    assert!(took < TAKEOVER, "{took:?} after kill -9");
    replicas.until_leads(second, LONG);

    replicas.server_mut(first).restart();
    assert_eq!(replicas.settled(), (second, first), "the one that was dead follows now");
    assert_eq!(producer.send(&replicas.client(first), STREAM).unwrap().status, 200);

    replicas.server_mut(second).stop_in_order();
    let took = until_stored(&replicas, first, &mut producer, Instant::now());
    assert!(took < TAKEOVER, "{took:?} after SIGTERM");
    replicas.server_mut(second).restart();
    replicas.settled();
    for index in [first, second] {
        ledger::check(&replicas.client(index).read_all(STREAM), std::slice::from_ref(&producer));
    }
}

#[test]
fn a_follower_serves_reads_while_the_leader_stands_still_and_does_not_take_its_place() {
    let directory = temporary_directory();
    let replicas = Replicas::in_directory(directory.path());
    let (leader, follower) = replicas.settled();
    replicas.client(leader).append_text(STREAM, "before");
    replicas.pause(leader);
    // Longer than a leader on Azure may be silent.
    let end = Instant::now() + Duration::from_secs(7);
    while Instant::now() < end {
        assert_eq!(replicas.client(follower).read_all(STREAM).len(), 1);
        assert!(
            !replicas.leads(follower),
            "a lock cannot be taken away from a process that merely stands still"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    replicas.resume(leader);
    replicas.client(follower).append_text(STREAM, "after");
    assert_eq!(replicas.client(leader).read_all(STREAM).len(), 2);
}
