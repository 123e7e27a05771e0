//! A leader that stands still for longer than its lease and then goes on as if nothing had happened.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vault_format::batch::Batch;
use vault_format::ids::Term;
use vault_tests::azurite::Azurite;
use vault_tests::client::Client;
use vault_tests::ledger::{self, Producer};
use vault_tests::message::from_batches;
use vault_tests::replicas::Replicas;
use vault_tests::wait::{LONG, StopAtEnd, until};

const STREAM: &str = "load";
/// How many requests wait at the leader when it goes on.
const LATE: u64 = 16;

#[test]
fn nothing_lands_of_a_leader_that_stood_still_for_longer_than_its_lease() {
    stand_still(Duration::from_secs(20), "frozen-20-");
}

/// When it goes on it takes itself for the leader still, and writes.
#[test]
fn nothing_lands_of_a_leader_that_was_replaced_while_its_lease_would_have_lasted() {
    stand_still(Duration::from_secs(8), "frozen-8-");
}

fn stand_still(duration: Duration, prefix: &str) {
    let azurite = Azurite::shared();
    let replicas = Replicas::on_azurite(&azurite, prefix);
    let (old, new) = replicas.settled();
    replicas.client(old).create(STREAM, 1 << 30);

    let mut through: Vec<_> = ["a", "b", "c", "d"].map(|name| Producer::new(name, 7, 2_000)).into();
    let stop = AtomicBool::new(false);
    let late = std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for (index, producer) in through.iter_mut().enumerate() {
            // Two speak to the leader itself: their requests are on their way when it freezes.
            let client = replicas.client(if index < 2 { old } else { new });
            let stop = &stop;
            scope.spawn(move || produce(producer, &client, stop));
        }
        std::thread::sleep(Duration::from_millis(800));
        replicas.pause(old);
        let frozen = Instant::now();
        // Sent to one that does not even read them. The answers come when it goes on.
        let late: Vec<_> = (0..LATE)
            .map(|number| {
                let client = replicas.client(old);
                let mut producer = Producer::new(&format!("late-{number}"), number, 2_000);
                scope.spawn(move || {
                    let answer = producer.send(&client, STREAM);
                    (producer, answer)
                })
            })
            .collect();
        replicas.until_leads(new, Duration::from_secs(10));
        let client = replicas.client(new);
        std::thread::sleep(duration.saturating_sub(frozen.elapsed()));
        let before = tail(&client);
        replicas.resume(old);
        let thawed = Instant::now();
        until("the old leader follows", Duration::from_secs(5), || {
            let status = replicas.status(old)?;
            (status["role"] == "follower" && status["leader"] == replicas.status(new)?["leader"])
                .then_some(())
        });
        let status = until("the new leader says how it is", LONG, || replicas.status(new));
        assert!(before > 0 && status["role"] == "leader", "the new leader is not disturbed: {status}");
        let late = late.into_iter().map(|late| late.join().expect("it is answered"));
        let late: Vec<_> = late.collect();
        assert!(thawed.elapsed() < Duration::from_secs(10), "they are answered soon");
        std::thread::sleep(Duration::from_secs(1));
        late
    });
    for (producer, answer) in late {
        let answer = answer.expect("a request to a server that stood still gets an answer");
        if answer.status != 200 {
            assert_eq!(answer.problem()["retryable"], true);
        }
        through.push(producer);
    }
    assert!(through[..4].iter().all(|producer| producer.acknowledged() > 0));

    let stored = replicas.client(new).read_all(STREAM);
    ledger::check(&stored, &through);
    assert!(replicas.client(old).read_all(STREAM) == stored, "both say the same");
    let fences = fences(&replicas.client(new));
    assert!(fences.is_sorted(), "{fences:?}");
    let (first, last) = (fences.first().expect("there are batches"), fences.last().expect("so there are"));
    assert!(first < last, "batches of both terms are there");
}

/// Sends until told to stop. While nobody leads, everything is refused or of unknown outcome.
fn produce(producer: &mut Producer, client: &Client, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let answer = producer.send(client, STREAM).expect("both servers answer every request in the end");
        if answer.status != 200 {
            assert_eq!(answer.problem()["retryable"], true, "{}", answer.problem());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn tail(client: &Client) -> u64 {
    client.get(&format!("/streams/{STREAM}")).expect(200).json()["next_offset"].as_u64().expect("a tail")
}

/// The terms of all batches in their order, checksums and chain checked.
fn fences(client: &Client) -> Vec<Term> {
    let path = format!("/streams/{STREAM}/messages?from=0&limit=1000000000&max_bytes=1000000000");
    let body = client.get_as(&path, "application/vnd.messagevault.batches").expect(200).body;
    assert!(!from_batches(&body).is_empty());
    let mut rest = &body[..];
    let mut fences = Vec::new();
    while !rest.is_empty() {
        let header = Batch::decode(rest).expect("they were read before").header;
        fences.push(header.fence);
        rest = &rest[usize::try_from(header.written_bytes()).expect("a batch fits in memory")..];
    }
    fences
}
