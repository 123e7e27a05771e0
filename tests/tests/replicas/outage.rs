//! Storage, or the leader, is away for a while.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vault_tests::azurite::{self, Azurite};
use vault_tests::client::Client;
use vault_tests::ledger::{self, Producer};
use vault_tests::replicas::Replicas;
use vault_tests::server::temporary_directory;
use vault_tests::wait::{StopAtEnd, until};

const STREAM: &str = "load";
const OUTAGE: Duration = Duration::from_secs(60);
/// From the end of an outage to an acknowledged append, as it is promised.
const RECOVERY: Duration = Duration::from_secs(6);

/// Sends until told to stop, and never asks for more than that the outcome is clear.
fn produce(producer: &mut Producer, client: &Client, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let answer = producer.send(client, STREAM).expect("the servers answer, whatever storage does");
        if answer.status != 200 {
            assert_eq!(answer.problem()["retryable"], true, "{}", answer.problem());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A server does not grow in an outage.
const RESIDENT_BYTES: u64 = 256 << 20;

/// Both servers live, and say in a sentence why they are not ready; `None` as long as one says that it is.
fn not_ready(replicas: &Replicas) -> Option<[String; 2]> {
    let mut said = Vec::new();
    for index in [0, 1] {
        let client = replicas.client(index);
        client.get("/livez").expect(200);
        let answer = client.get("/readyz");
        if answer.status == 200 {
            return None;
        }
        let detail = answer.expect_problem(503, "not_ready")["detail"].clone();
        said.push(detail.as_str().expect("a sentence").to_owned());
    }
    said.try_into().ok()
}

/// Lets storage be away while producers go on at both servers, and checks what they were told.
fn outage(replicas: &Replicas, away: impl FnOnce(&Replicas) -> Instant) {
    let (leader, follower) = replicas.settled();
    replicas.client(leader).create(STREAM, 1 << 30);
    let mut producers: Vec<_> = ["a", "b", "c", "d"].map(|name| Producer::new(name, 5, 1_000)).into();
    let stop = AtomicBool::new(false);
    let took = std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for (index, producer) in producers.iter_mut().enumerate() {
            let client = replicas.client(if index % 2 == 0 { leader } else { follower });
            let stop = &stop;
            scope.spawn(move || produce(producer, &client, stop));
        }
        std::thread::sleep(Duration::from_secs(1));
        let back = away(replicas);
        let clients = [0, 1].map(|index| replicas.client(index));
        let took = clients.map(|client| {
            until("an append is acknowledged again", Duration::from_secs(60), || {
                let answer = client.post("/streams/probe/messages", "text/plain", b"probe");
                (answer.status == 200).then(|| back.elapsed())
            })
        });
        std::thread::sleep(Duration::from_secs(1));
        took
    });
    assert!(took.iter().all(|took| *took < RECOVERY), "{took:?}");
    assert!(
        producers.iter().any(|producer| producer.refused() > 0),
        "something is refused, and must not be stored"
    );
    replicas.settled();
    for index in [0, 1] {
        let (_, most) = replicas.server(index).resident_bytes();
        assert!(most < RESIDENT_BYTES, "{most}");
        until("the server is ready again", RECOVERY, || {
            (replicas.client(index).get("/readyz").status == 200).then_some(())
        });
        ledger::check(&replicas.client(index).read_all(STREAM), &producers);
    }
}

#[test]
fn storage_that_stands_still_is_waited_for() {
    let azurite = azurite::Setup::in_memory().start();
    let replicas = Replicas::on_azurite(&azurite, "still-");
    outage(&replicas, |replicas| {
        azurite.pause();
        let end = Instant::now() + OUTAGE;
        let said = until("both say that they are not ready", OUTAGE, || not_ready(replicas));
        assert!(said.iter().all(|said| said.contains("storage")), "{said:?}");
        while Instant::now() < end {
            assert!(not_ready(replicas).is_some(), "as long as storage is away");
            std::thread::sleep(Duration::from_millis(500));
        }
        azurite.resume();
        Instant::now()
    });
}

#[test]
fn storage_that_is_started_again_has_kept_everything() {
    let directory = temporary_directory();
    let mut azurite = azurite::Setup::in_directory(directory.path()).start();
    let replicas = Replicas::on_azurite(&azurite, "again-");
    outage(&replicas, |replicas| {
        azurite.stop();
        let said = until("both say that they are not ready", OUTAGE, || not_ready(replicas));
        assert!(said.iter().all(|said| said.contains("storage")), "{said:?}");
        azurite.restart();
        Instant::now()
    });
}

#[test]
fn a_follower_serves_every_read_while_the_leader_is_dead() {
    let azurite = Azurite::shared();
    let mut replicas = Replicas::on_azurite(&azurite, "reads-");
    let (leader, follower) = replicas.settled();
    let texts: Vec<_> = (0..10).map(|number| format!("message {number}")).collect();
    for text in &texts {
        replicas.client(leader).append_text(STREAM, text);
    }
    let client = replicas.client(follower);
    replicas.server_mut(leader).kill();
    let killed = Instant::now();
    let mut reads_without_a_leader = 0;
    while !replicas.leads(follower) {
        assert!(killed.elapsed() < Duration::from_secs(20), "nobody takes over");
        client.get("/readyz").expect(200);
        client.get("/streams").expect(200);
        client.get(&format!("/streams/{STREAM}")).expect(200);
        client.get(&format!("/streams/{STREAM}/messages?from=3&wait=1")).expect(200);
        let read = client.read_all(STREAM);
        assert!(read.iter().map(|it| it.message.text()).eq(texts.iter().map(String::as_str)), "{read:?}");
        reads_without_a_leader += usize::from(!replicas.leads(follower));
    }
    assert!(reads_without_a_leader > 0, "somebody led before all was read once");
    assert_eq!(client.append_text(STREAM, "after").first_offset, 10);
}
