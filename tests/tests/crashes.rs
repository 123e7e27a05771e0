//! The server ends in the middle of its work, in order or not; what it acknowledged is there afterwards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vault_tests::client::Client;
use vault_tests::idempotent::{self, Idempotent};
use vault_tests::ledger::{self, Producer};
use vault_tests::segments::segments;
use vault_tests::server::{Server, Setup, temporary_directory};
use vault_tests::wait::{LONG, StopAtEnd, until};

const STREAM: &str = "load";
const PRODUCERS: u64 = 4;
/// So many messages may be stored before anybody is answered: each producer waits for one request of five at most.
const UNANSWERED: u64 = 5 * PRODUCERS;
const KILLS: u64 = 10;
/// Small enough that crashes also meet roll-overs.
const SEGMENT_BYTES: u64 = 4 << 20;

fn producers(seed: u64, most_padding: usize) -> Vec<Producer> {
    (0..PRODUCERS).map(|n| Producer::new(&format!("p{n}"), seed ^ (n << 32), most_padding)).collect()
}

/// Lets the producers run, each on a connection of its own, while `meanwhile` happens to the server.
fn under_load(server: &mut Server, producers: &mut [Producer], meanwhile: impl FnOnce(&mut Server)) {
    let stop = AtomicBool::new(false);
    let address = server.address();
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for producer in producers.iter_mut() {
            scope.spawn(|| producer.run(&Client::new(address), STREAM, &stop));
        }
        meanwhile(server);
    });
}

/// The offset behind the last message.
fn tail(server: &Server) -> u64 {
    let path = format!("/streams/{STREAM}");
    until("the server says where the stream ends", LONG, || {
        server.client().get(&path).json()["next_offset"].as_u64()
    })
}

#[test]
fn ten_crashes_under_load_lose_nothing_that_was_acknowledged() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    let seed = u64::try_from(seed & u128::from(u64::MAX)).expect("64 bits are left");
    let directory = temporary_directory();
    let mut server = Setup::in_directory(directory.path()).start();
    server.client().create(STREAM, SEGMENT_BYTES);
    let mut producers = producers(seed, 20_000);
    for round in 0..KILLS {
        let before: usize = producers.iter().map(Producer::acknowledged).sum();
        let pause = Duration::from_millis(50 + (seed >> round) % 400);
        let begin = tail(&server);
        under_load(&mut server, &mut producers, |server| {
            until("a request is acknowledged", LONG, || (tail(server) > begin + UNANSWERED).then_some(()));
            std::thread::sleep(pause);
            server.kill();
        });
        let after: usize = producers.iter().map(Producer::acknowledged).sum();
        assert!(after > before, "nothing was acknowledged in round {round}");
        server.restart();
    }
    ledger::check(&server.client().read_all(STREAM), &producers);
    assert!(segments(directory.path(), STREAM).len() > 2, "crashes met roll-overs");
}

#[test]
fn what_idempotent_producers_send_again_is_stored_once_through_ten_crashes() {
    let directory = temporary_directory();
    let mut server = Setup::in_directory(directory.path()).start();
    server.client().create(STREAM, SEGMENT_BYTES);
    // They lose patience now and then, and send again what is being stored.
    let mut producers: Vec<_> = (0..PRODUCERS)
        .map(|n| Idempotent::new(&format!("p{n}"), Duration::from_millis(15 + 40 * n)))
        .collect();
    for round in 0..KILLS {
        let stop = AtomicBool::new(false);
        let address = server.address();
        std::thread::scope(|scope| {
            for producer in &mut producers {
                scope.spawn(|| producer.run(&[address], STREAM, &stop));
            }
            std::thread::sleep(Duration::from_millis(60 + 37 * round));
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        server.restart();
    }
    idempotent::check(&server.client().read_all(STREAM), &producers);
    assert!(producers.iter().all(|producer| producer.acknowledged() > 10), "{producers:?}");
    assert!(producers.iter().any(|producer| producer.attempts_lost() > 0), "nothing was sent again");
}

#[test]
fn an_orderly_end_under_load_loses_nothing_and_exits_with_0() {
    let directory = temporary_directory();
    let mut server = Setup::in_directory(directory.path()).start();
    server.client().create(STREAM, SEGMENT_BYTES);
    let mut producers = producers(11, 2_000);
    under_load(&mut server, &mut producers, |server| {
        std::thread::sleep(Duration::from_millis(700));
        server.stop_in_order();
    });
    assert!(producers.iter().all(|producer| producer.acknowledged() > 0));
    let last = segments(directory.path(), STREAM).pop().expect("there are segments");
    let end = last.headers().pop().expect("it holds batches");
    assert_eq!(end.kind, vault_format::header::Kind::Commit, "what was stored is on record as committed");
    server.restart();
    ledger::check(&server.client().read_all(STREAM), &producers);
}

#[test]
fn an_orderly_end_answers_readers_that_wait() {
    let directory = temporary_directory();
    let mut server = Setup::in_directory(directory.path()).start();
    server.client().append_text(STREAM, "one");
    let reader = server.client();
    let waiting = std::thread::spawn(move || {
        reader.get(&format!("/streams/{STREAM}/messages?from=latest&wait=60")).expect(200).messages().len()
    });
    until("the reader waits", LONG, || {
        let metrics = server.client().get_as("/metrics", "text/plain").expect(200).body;
        String::from_utf8_lossy(&metrics).contains("\nmessagevault_readers 1\n").then_some(())
    });
    assert_eq!(server.stop(Duration::from_secs(10)).code(), Some(0));
    assert_eq!(waiting.join().expect("the reader is answered"), 0);
}

#[test]
fn a_server_that_was_stopped_for_a_while_goes_on() {
    use rustix::process::Signal;

    let directory = temporary_directory();
    let mut server = Setup::in_directory(directory.path()).start();
    server.client().create(STREAM, SEGMENT_BYTES);
    let mut producers = producers(12, 2_000);
    under_load(&mut server, &mut producers, |server| {
        std::thread::sleep(Duration::from_millis(200));
        server.signal(Signal::STOP);
        std::thread::sleep(Duration::from_secs(2));
        server.signal(Signal::CONT);
        std::thread::sleep(Duration::from_millis(300));
    });
    ledger::check(&server.client().read_all(STREAM), &producers);
    assert_eq!(server.stop(LONG).code(), Some(0));
}
