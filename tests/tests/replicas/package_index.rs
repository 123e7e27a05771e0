//! This machine's Debian package index goes in through a follower while one leader is killed and the next one is told to
//! end; both servers must give back the same bytes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use vault_tests::azurite::Azurite;
use vault_tests::client::Client;
use vault_tests::message::{Message, Stored, to_json};
use vault_tests::package_index;
use vault_tests::replicas::Replicas;
use vault_tests::wait::{StopAtEnd, until};

const STREAM: &str = "packages";
const MESSAGES: usize = 20_000;
const MESSAGES_PER_REQUEST: usize = 50;
const CONNECTIONS: usize = 4;
/// Small enough that several segments are filled.
const SEGMENT_BYTES: u64 = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(120);

/// The requests in their order, how far they are, and to whom they go.
struct Plan<'a> {
    chunks: Vec<&'a [Message]>,
    next: AtomicUsize,
    stored: AtomicUsize,
    addresses: [SocketAddr; 2],
    target: AtomicUsize,
    stop: AtomicBool,
}

#[test]
fn real_input_survives_a_crash_and_a_hand_over_and_reads_back_byte_for_byte() {
    let messages = package_index::messages();
    assert!(messages.len() > 10_000, "{} packages are too few to mean anything", messages.len());
    let messages = &messages[..messages.len().min(MESSAGES)];
    let azurite = Azurite::shared();
    let mut replicas = Replicas::on_azurite(&azurite, "index-");
    let (first, second) = replicas.settled();
    replicas.client(second).create(STREAM, SEGMENT_BYTES);

    let plan = Plan {
        chunks: messages.chunks(MESSAGES_PER_REQUEST).collect(),
        next: AtomicUsize::new(0),
        stored: AtomicUsize::new(0),
        addresses: replicas.addresses(),
        target: AtomicUsize::new(second),
        stop: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&plan.stop);
        for _ in 0..CONNECTIONS {
            scope.spawn(|| append(&plan));
        }
        plan.until_stored(0.25);
        replicas.server_mut(first).kill();
        plan.until_stored(0.5);
        replicas.server_mut(first).restart();
        assert_eq!(replicas.settled(), (second, first), "the one that was dead follows now");
        plan.until_stored(0.75);
        assert!(plan.stored.load(Ordering::SeqCst) < plan.chunks.len(), "it ends in the middle");
        replicas.server_mut(second).stop_in_order();
        plan.until_stored(1.0);
    });
    assert!(replicas.leads(first));
    replicas.server_mut(second).restart();

    let from_leader = check(&replicas.client(first), messages);
    let from_follower = check(&replicas.client(second), messages);
    assert!(from_leader == from_follower, "both say the same, times included");
}

impl Plan<'_> {
    fn until_stored(&self, share: f64) {
        let wanted = (self.chunks.len() as f64 * share).floor();
        until("so many requests are stored", PATIENCE, || {
            (self.stored.load(Ordering::SeqCst) as f64 >= wanted).then_some(())
        });
    }
}

/// Takes the next request and sends it until it is stored, again and again.
fn append(plan: &Plan<'_>) {
    let clients = plan.addresses.map(Client::new);
    loop {
        let chunk = plan.next.fetch_add(1, Ordering::SeqCst);
        if chunk >= plan.chunks.len() {
            return;
        }
        send(plan, &clients, chunk);
        plan.stored.fetch_add(1, Ordering::SeqCst);
    }
}

fn send(plan: &Plan<'_>, clients: &[Client; 2], chunk: usize) {
    let (place, messages) = ((chunk * MESSAGES_PER_REQUEST) as u64, plan.chunks[chunk]);
    let path = format!("/streams/{STREAM}/messages?expected_offset={place}");
    let body = to_json(messages);
    let mut unknown = false;
    while !plan.stop.load(Ordering::Relaxed) {
        let target = plan.target.load(Ordering::SeqCst);
        let sent = clients[target].send("POST", &path, &[("Content-Type", "application/json")], Some(&body));
        let Ok(answer) = sent else {
            // This server has ended. The other one goes on.
            unknown = true;
            plan.target.store(1 - target, Ordering::SeqCst);
            continue;
        };
        match answer.status {
            200 => {
                assert_eq!(answer.appended().first_offset, place);
                return;
            }
            412 => {
                let problem = answer.expect_problem(412, "offset_mismatch");
                let next = problem["next_offset"].as_u64().expect("the real offset");
                if next > place {
                    assert!(unknown, "request {chunk} is stored although it was never sent: {problem}");
                    assert!(next >= place + messages.len() as u64, "whole or not at all: {next}");
                    return;
                }
                // Those before it are on their way on other connections.
            }
            _ => {
                let problem = answer.problem();
                assert_eq!(problem["retryable"], true, "{problem}");
                unknown |= problem["side_effects"] == "possible";
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn check(client: &Client, messages: &[Message]) -> Vec<Stored> {
    let stored = client.read_all(STREAM);
    assert_eq!(stored.len(), messages.len(), "none lost, none twice");
    for (index, (read, sent)) in stored.iter().zip(messages).enumerate() {
        assert_eq!(read.offset, index as u64);
        assert!(read.message == *sent, "message {index} is another: {read:?} instead of {sent:?}");
    }
    stored
}
