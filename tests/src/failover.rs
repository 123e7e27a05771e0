//! How long appends pause when a leader ends, and whether any of them gets lost or is stored twice.
//!
//! ```text
//!  acknowledged  | | | | | |                      | | | | | | |
//!                          ^ the leader ends      ^ the follower has taken its place
//!                          |<------- gap -------->|
//! ```

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Answer, Client};
use crate::message::{self, Message};
use crate::replicas::Replicas;
use crate::server::Server;
use crate::wait::{LONG, StopAtEnd, until};

/// How many producers append at once, each to a stream of its own.
pub const PRODUCERS: usize = 4;

/// How long they append before the end of the leader and at least after it.
const LOAD: Duration = Duration::from_secs(1);

/// How soon a producer tries again. It is a part of the gap.
const AGAIN: Duration = Duration::from_millis(10);

/// How a leader ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `kill -9`: nobody is told.
    Killed,
    /// SIGTERM: it hands over.
    InOrder,
}

/// What one end of a leader came to.
#[derive(Clone, Copy, Debug)]
pub struct Drill {
    /// The longest time without an acknowledged append, of all producers together.
    pub gap: Duration,
    /// The same for the producer that waited longest.
    pub worst: Duration,
    /// How many messages were acknowledged.
    pub acknowledged: usize,
    /// How many of these are not in the log.
    pub lost: usize,
    /// How many messages are in the log more often than once, or without having been sent.
    pub twice: usize,
}

/// What one producer was told.
#[derive(Debug, Default)]
struct Told {
    /// When each message was acknowledged.
    acknowledged: Vec<Instant>,
}

/// Appends through the follower, ends the leader in the middle, and reads everything back through the survivor. The
/// servers are those of a vault of their own.
#[must_use]
pub fn drill(replicas: &mut Replicas, end: End, before: Duration) -> Drill {
    let (leader, survivor) = replicas.settled();
    let client = replicas.client(survivor);
    for producer in 0..PRODUCERS {
        client.create(&stream(producer), 1 << 30);
    }
    let stop = AtomicBool::new(false);
    let told: [Mutex<Told>; PRODUCERS] = Default::default();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for (producer, told) in told.iter().enumerate() {
            let (client, stop) = (replicas.client(survivor), &stop);
            scope.spawn(move || produce(&client, producer, told, stop));
        }
        std::thread::sleep(LOAD + before);
        finish(replicas.server_mut(leader), end);
        let ended = Instant::now();
        // It begins with the last answer before the end, and ends with the first one after it.
        until("every producer is answered again", LONG, || {
            let again = |told: &Mutex<Told>| lock(told).acknowledged.last().is_some_and(|at| *at > ended);
            told.iter().all(again).then_some(())
        });
        std::thread::sleep(LOAD);
    });
    let each = told.map(|told| told.into_inner().expect("no producer panicked").acknowledged);
    let worst = each.iter().map(|times| longest(begun, times)).max().unwrap_or_default();
    let mut all = each.concat();
    all.sort_unstable();
    let mut drill = Drill { gap: longest(begun, &all), worst, acknowledged: all.len(), lost: 0, twice: 0 };
    for (producer, acknowledged) in each.iter().enumerate() {
        count(&client, producer, acknowledged.len(), &mut drill);
    }
    drill
}

fn finish(server: &mut Server, end: End) {
    match end {
        End::Killed => server.kill(),
        End::InOrder => server.stop_in_order(),
    }
}

fn lock(told: &Mutex<Told>) -> std::sync::MutexGuard<'_, Told> {
    told.lock().expect("no producer panicked")
}

fn stream(producer: usize) -> String {
    format!("drill-{producer}")
}

fn text(producer: usize, number: usize) -> String {
    format!("{producer}/{number}")
}

fn longest(begun: Instant, times: &[Instant]) -> Duration {
    let before = std::iter::once(&begun).chain(times);
    times.iter().zip(before).map(|(at, before)| *at - *before).max().unwrap_or_default()
}

/// Sends each message until it is acknowledged. It names the offset at which the message belongs, so that a copy of one
/// whose answer was lost is not stored again.
fn produce(client: &Client, producer: usize, told: &Mutex<Told>, stop: &AtomicBool) {
    for number in 0.. {
        let body = message::to_json(&[Message::value(text(producer, number))]);
        let path = format!("/streams/{}/messages?expected_offset={number}", stream(producer));
        while !stored(&client.post(&path, "application/json", &body), number) {
            // What is not acknowledged when it is told to stop stays so.
            if stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(AGAIN);
        }
        lock(told).acknowledged.push(Instant::now());
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Whether the message of that number is in the log by now.
fn stored(answer: &Answer, number: usize) -> bool {
    match answer.status {
        200 => true,
        412 => {
            let next = answer.expect_problem(412, "offset_mismatch")["next_offset"].as_u64();
            next == Some(number as u64 + 1)
        }
        _ => {
            let problem = answer.problem();
            assert_eq!(problem["retryable"], true, "{problem}");
            false
        }
    }
}

fn count(client: &Client, producer: usize, acknowledged: usize, drill: &mut Drill) {
    let texts: Vec<_> = client.read_all(&stream(producer)).into_iter().map(|it| it.message).collect();
    let mut found = vec![0_usize; acknowledged];
    for message in &texts {
        let number = message.text().split_once('/').and_then(|(_, number)| number.parse::<usize>().ok());
        match number.and_then(|number| found.get_mut(number)) {
            Some(times) => *times += 1,
            None => drill.twice += 1,
        }
    }
    drill.lost += found.iter().filter(|times| **times == 0).count();
    drill.twice += found.iter().map(|times| times.saturating_sub(1)).sum::<usize>();
}
