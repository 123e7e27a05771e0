//! Retention of the real program, on files and on Azurite: two servers, one that appends, some that read, and a leader
//! that is killed meanwhile. Run `tests/install-azurite` once before.
#![expect(clippy::unwrap_used, reason = "a test that finds what it needs missing has failed")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use serde_json::json;
use vault_tests::azurite::Azurite;
use vault_tests::client::Client;
use vault_tests::message::Message;
use vault_tests::replicas::Replicas;
use vault_tests::server::temporary_directory;
use vault_tests::wait::{StopAtEnd, until};

const STREAM: &str = "s";
/// The least there is.
const KEPT: Duration = Duration::from_secs(10);
/// How much longer messages may be kept on a machine that is busy: a tenth, and what looks and deletions take.
const MORE: Duration = Duration::from_secs(15);

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// What a stream's description says of its beginning and end.
fn extent(client: &Client) -> Option<(u64, u64)> {
    let answer = client.send("GET", &format!("/streams/{STREAM}"), &[], None).ok()?;
    let described = (answer.status == 200).then(|| answer.json())?;
    Some((described["first_offset"].as_u64()?, described["next_offset"].as_u64()?))
}

/// Appends a message every 50 ms, the offset expected as its value, until it is told to stop. `told` is what was
/// acknowledged.
fn append(clients: &[Client; 2], told: &AtomicU64, stop: &AtomicBool) {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let next = told.load(Ordering::Relaxed);
        let path = format!("/streams/{STREAM}/messages?expected_offset={next}");
        let body = next.to_string();
        let answer =
            clients[turn].send("POST", &path, &[("Content-Type", "text/plain")], Some(body.as_bytes()));
        match answer {
            Ok(answer) if answer.status == 200 => {
                told.store(answer.appended().next_offset, Ordering::Relaxed);
            }
            // The answer before was lost, and the message was not.
            Ok(answer) if answer.status == 412 => {
                assert_eq!(answer.json()["next_offset"], next + 1, "{}", answer.json());
                told.store(next + 1, Ordering::Relaxed);
            }
            _ => turn = 1 - turn,
        }
        sleep(Duration::from_millis(50));
    }
}

/// Reads on and on from one server, as slowly as `pause` says: every message in its place, or 410. How often it was
/// overtaken.
fn replay(client: &Client, pause: Duration, stop: &AtomicBool) -> u64 {
    let (mut next, mut overtaken) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let path = format!("/streams/{STREAM}/messages?from={next}&limit=20");
        let headers = [("Accept", "application/json")];
        match client.send("GET", &path, &headers, None) {
            Ok(answer) if answer.status == 200 => {
                for stored in answer.messages() {
                    assert_eq!((stored.offset, stored.message.text()), (next, next.to_string().as_str()));
                    next += 1;
                }
            }
            Ok(answer) if answer.status == 410 => {
                let first = answer.expect_problem(410, "below_first")["first_offset"].as_u64().unwrap();
                assert!(first > next, "{first} {next}");
                (next, overtaken) = (first, overtaken + 1);
            }
            // Nobody led for a moment, or the server was killed.
            Ok(answer) => assert!([416, 503].contains(&answer.status), "{}", answer.json()),
            Err(_) => {}
        }
        sleep(pause);
    }
    overtaken
}

/// Nothing that was acknowledged within the retention age is gone, and what is older goes.
fn check_kept(client: &Client) {
    let begun = now_ms();
    let answer = client.get(&format!("/streams/{STREAM}/messages?from=earliest&limit=10000"));
    if answer.status != 200 {
        return;
    }
    let first = &answer.messages()[0];
    let age = Duration::from_millis(begun.saturating_sub(first.timestamp));
    assert!(first.offset == 0 || age >= KEPT - Duration::from_secs(1), "the oldest is {age:?} old");
    assert!(age <= KEPT + MORE, "the oldest is {age:?} old");
}

fn drill(mut replicas: Replicas) {
    let (leader, follower) = replicas.settled();
    let settings = json!({ "retention_seconds": KEPT.as_secs() });
    replicas.client(leader).put(&format!("/streams/{STREAM}"), &settings).expect(201);
    let clients = [replicas.client(leader), replicas.client(follower)];
    let (told, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let overtaken = std::thread::scope(|scope| {
        let at_end = StopAtEnd(&stop);
        let producer = scope.spawn(|| append(&clients, &told, &stop));
        let fast = clients.each_ref().map(|client| {
            let stop = &stop;
            scope.spawn(move || replay(client, Duration::from_millis(100), stop))
        });
        let slow = scope.spawn(|| replay(&clients[1], Duration::from_secs(2), &stop));
        sleep(KEPT + MORE);
        check_kept(&clients[0]);
        let (first, _) = extent(&clients[0]).unwrap();
        assert!(first > 50, "{first}");
        until("the follower knows", Duration::from_secs(20), || {
            extent(&clients[1]).is_some_and(|(theirs, _)| theirs >= first).then_some(())
        });
        replicas.server_mut(leader).kill();
        replicas.until_leads(follower, Duration::from_secs(30));
        sleep(KEPT + MORE);
        check_kept(&clients[1]);
        drop(at_end);
        producer.join().unwrap();
        for reader in fast {
            reader.join().unwrap();
        }
        slow.join().unwrap()
    });
    assert!(overtaken > 0, "who is slow is overtaken");
    // Nothing comes any more: it becomes empty, and goes on with the next offset.
    replicas.server_mut(leader).restart();
    let next = told.load(Ordering::Relaxed);
    for client in [replicas.client(leader), replicas.client(follower)] {
        until("the stream is empty", 3 * (KEPT + MORE), || (extent(&client)? == (next, next)).then_some(()));
    }
    let client = replicas.client(leader);
    assert_eq!(client.append(STREAM, &[Message::value("more")]).first_offset, next);
    let read = client.get(&format!("/streams/{STREAM}/messages?from=earliest&consistency=strong")).messages();
    assert_eq!(read.iter().map(|stored| stored.offset).collect::<Vec<_>>(), [next]);
    client.get(&format!("/streams/{STREAM}/messages?from=0")).expect_problem(410, "below_first");
    let status = replicas.status(follower).unwrap();
    assert_eq!(status["troubled"], json!([]), "{status}");
    for index in [leader, follower] {
        let log = replicas.server(index).log();
        assert!(!log.contains("held back"), "{log}");
        assert!(index == leader || log.contains("a segment was deleted"), "{log}");
    }
}

#[test]
fn messages_go_when_they_are_old_on_files() {
    let directory = temporary_directory();
    drill(Replicas::in_directory(directory.path()));
}

#[test]
fn messages_go_when_they_are_old_on_azurite() {
    let azurite = Azurite::shared();
    drill(Replicas::on_azurite(&azurite, "retention-"));
}

#[test]
fn a_full_stream_refuses_appends_through_either_server() {
    let directory = temporary_directory();
    let replicas = Replicas::in_directory(directory.path());
    let (leader, follower) = replicas.settled();
    let path = format!("/streams/{STREAM}");
    replicas.client(leader).put(&path, &json!({ "max_bytes": 1 << 20 })).expect(201);
    let large = vec![b'x'; 700_000];
    let post = |index: usize| {
        replicas.client(index).post(&format!("{path}/messages"), "application/octet-stream", &large)
    };
    post(follower).expect(200);
    for index in [leader, follower] {
        let problem = post(index).expect_problem(507, "stream_full");
        assert_eq!(problem["side_effects"], "none");
    }
    let more = json!({ "max_bytes": 2 << 20 }).to_string();
    let headers = [("Content-Type", "application/json")];
    let patched = replicas.client(follower).send("PATCH", &path, &headers, Some(more.as_bytes())).unwrap();
    patched.expect(200);
    post(follower).expect(200);
}
