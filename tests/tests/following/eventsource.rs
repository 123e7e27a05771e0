//! The package `eventsource` of npm follows a stream of two servers while its connections are cut off and the leader is
//! killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vault_tests::azurite::Azurite;
use vault_tests::client::Client;
use vault_tests::clients::{installed, scripts};
use vault_tests::message::{self, Message};
use vault_tests::replicas::Replicas;
use vault_tests::wait::{LONG, StopAtEnd, until};

/// How many connections are cut off before the leader is killed.
const CUTS: usize = 4;

/// The client as a process. It ends with the value.
struct Consumer {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Consumer {
    fn start(target: &str, last: &str, addresses: &[String]) -> Self {
        let mut command = Command::new("node");
        command.arg(scripts().join("eventsource.mjs")).arg(installed()).args([target, last]);
        command.arg(CUTS.to_string()).args(addresses).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node can be run");
        let output = child.stdout.take().expect("the output is a pipe");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                kept.lock().expect("nobody panics with it").push(line);
            }
        });
        Self { child, lines }
    }

    /// All that it said so far of one kind, without the first word.
    fn said(&self, kind: &str) -> Vec<String> {
        let lines = self.lines.lock().expect("nobody panics with it");
        lines
            .iter()
            .filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Appends one number after the other, each of them once, until it is told to stop; then `end`.
fn produce(client: &Client, next: &AtomicU64, stop: &AtomicBool) {
    loop {
        let number = next.load(Ordering::SeqCst);
        let ends = stop.load(Ordering::SeqCst);
        let text = if ends { "end".to_owned() } else { number.to_string() };
        let path = format!("/streams/followed/messages?expected_offset={number}");
        let body = message::to_json(&[Message::value(text)]);
        let stored = match client.send("POST", &path, &[("Content-Type", "application/json")], Some(&body)) {
            Ok(answer) if answer.status == 412 => answer.problem()["next_offset"] == number + 1,
            Ok(answer) => answer.status == 200,
            Err(_) => false,
        };
        if stored {
            next.fetch_add(1, Ordering::SeqCst);
            if ends {
                return;
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_client_nobody_here_wrote_misses_nothing_while_connections_and_the_leader_end() {
    let azurite = Azurite::shared();
    let mut replicas = Replicas::on_azurite(&azurite, "eventsource-");
    let (leader, survivor) = replicas.settled();
    replicas.client(survivor).create("followed", 1 << 30);
    let addresses = [survivor, leader].map(|index| replicas.addresses()[index].to_string());
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let client = replicas.client(survivor);
    let consumer = Consumer::start("/streams/followed/messages", "end", &addresses);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        scope.spawn(|| produce(&client, &next, &stop));
        until("connections were cut off", LONG, || (consumer.said("connection").len() > CUTS).then_some(()));
        let seen = || consumer.said("message").len() as u64;
        let goes_on = |what: &str| {
            let now = next.load(Ordering::SeqCst);
            until(what, LONG, || (seen() > now + 20).then_some(()));
        };
        goes_on("messages come before the leader is killed");
        replicas.server_mut(leader).kill();
        goes_on("messages come after the leader was killed");
    });
    let wanted = next.load(Ordering::SeqCst);
    until("the last message has come", LONG, || {
        (consumer.said("message").len() as u64 >= wanted).then_some(())
    });
    let text = |number: u64| if number + 1 == wanted { "end".to_owned() } else { number.to_string() };
    let wanted: Vec<_> = (0..wanted).map(|n| format!("{} {n} {}", n + 1, text(n))).collect();
    assert_eq!(consumer.said("message"), wanted, "neither gap nor repeat, in order");
    assert!(wanted.len() > 100, "{}", wanted.len());
    assert!(consumer.said("connection").len() > CUTS + 1, "the end of the leader ended a connection too");
}
