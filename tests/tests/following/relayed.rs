//! Followed through a server that follows, whose leader stands still: the connection ends soon, and whoever comes again
//! is served.

use std::time::{Duration, Instant};

use vault_tests::azurite::Azurite;
use vault_tests::client::Client;
use vault_tests::message::Message;
use vault_tests::replicas::Replicas;
use vault_tests::wait::{LONG, until};

use crate::{Coming, EVENTS, LINES};

/// A leader that is silent is replaced after 4 s, unless the machine is busy.
const REPLACED: Duration = Duration::from_secs(20);

fn append(client: &Client, text: &str) {
    until("an append is taken", LONG, || {
        client.try_append("s", &[Message::value(text)]).ok().filter(|answer| answer.status == 200)
    });
}

#[test]
fn what_is_relayed_ends_when_the_leader_stands_still() {
    let azurite = Azurite::shared();
    let replicas = Replicas::on_azurite(&azurite, "relayed-");
    let (leader, follower) = replicas.settled();
    let (client, address) = (replicas.client(follower), replicas.addresses()[follower]);
    append(&client, "0");
    let mut events = Coming::open(address, "", EVENTS, &[]);
    let mut lines = Coming::open(address, "follow=true", LINES, &[]);
    assert_eq!((events.offset(), &lines.message().expect("it is there")["offset"]), (0, &0.into()));
    events.caught_up(1);
    // Relayed and not looked for in storage every quarter of a second.
    for n in 1..6_u64 {
        append(&client, "live");
        let appended = Instant::now();
        assert_eq!((events.offset(), &lines.message().expect("it comes")["offset"]), (n, &n.into()));
        assert!(appended.elapsed() < Duration::from_millis(200), "{:?}", appended.elapsed());
    }
    replicas.pause(leader);
    let paused = Instant::now();
    assert!(events.event().is_none() && lines.message().is_none(), "an orderly end, between two messages");
    assert!(paused.elapsed() < REPLACED, "{:?}", paused.elapsed());

    replicas.until_leads(follower, LONG);
    append(&client, "after");
    let mut events = Coming::open(address, "", EVENTS, &[("last-event-id", "6")]);
    assert_eq!(events.offset(), 6);
    events.caught_up(7);
    let mut lines = Coming::open(address, "follow=true&from=6", LINES, &[]);
    assert_eq!(lines.message().expect("it is there")["value"], "after");
    replicas.resume(leader);
}

#[test]
fn who_follows_a_leader_that_is_killed_is_served_from_storage_until_there_is_another() {
    let azurite = Azurite::shared();
    let mut replicas = Replicas::on_azurite(&azurite, "orphans-");
    let (leader, follower) = replicas.settled();
    let (client, address) = (replicas.client(follower), replicas.addresses()[follower]);
    append(&client, "0");
    replicas.server_mut(leader).kill();
    // It has no leader to ask and does not lead yet.
    let mut events = Coming::open(address, "", EVENTS, &[]);
    assert_eq!(events.offset(), 0);
    events.caught_up(1);
    replicas.until_leads(follower, LONG);
    append(&client, "1");
    let mut next = 1;
    while next < 2 {
        match events.event() {
            Some(event) if event.name.is_empty() => {
                assert_eq!(event.data["offset"], next);
                next += 1;
            }
            Some(event) if event.name == "error" => assert_eq!(event.data["code"], "no_leader", "{event:?}"),
            Some(event) => assert!(["caught-up", "ping"].contains(&event.name.as_str()), "{event:?}"),
            None => {
                events = Coming::open(address, "", EVENTS, &[("last-event-id", &next.to_string())]);
            }
        }
    }
}
