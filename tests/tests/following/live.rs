//! What comes when, and how it ends.

use std::time::{Duration, Instant};

use vault_tests::message::Message;

use crate::{Coming, EVENTS, LINES, server};

/// How long a server may take to let go of who follows.
const PROMPT: Duration = Duration::from_secs(2);

#[test]
fn an_event_stream_catches_up_once_and_pings_with_the_place_reached() {
    let (server, _directory) = server();
    let client = server.client();
    for n in 0..3 {
        client.append("s", &[Message::new("a", n.to_string())]);
    }
    let started = Instant::now();
    let mut events = Coming::open(server.address(), "", EVENTS, &[]);
    let mut filtered = Coming::open(server.address(), "key=b&from=1", EVENTS, &[]);
    assert_eq!([events.offset(), events.offset(), events.offset()], [0, 1, 2]);
    events.caught_up(3);
    filtered.caught_up(3);
    client.append_text("s", "3");
    assert_eq!(events.offset(), 3);
    for stream in [&mut events, &mut filtered] {
        for _ in 0..2 {
            let ping = stream.event().expect("it goes on");
            assert_eq!((ping.name.as_str(), ping.id), ("ping", Some(4)), "{ping:?}");
            assert_eq!(ping.data["end_offset"], 4);
        }
    }
    let took = started.elapsed();
    assert!((29..40).contains(&took.as_secs()), "two pings, one every 15 s: {took:?}");
    // Whoever goes on behind the ping has nothing looked through again, and is not told of what it had.
    let mut resumed = Coming::open(server.address(), "key=b&from=1", EVENTS, &[("last-event-id", "4")]);
    resumed.caught_up(4);
    client.append("s", &[Message::new("b", "4")]);
    assert_eq!([filtered.offset(), resumed.offset(), events.offset()], [4; 3]);
}

#[test]
fn who_follows_is_let_go_at_once_when_the_server_ends() {
    let (mut server, _directory) = server();
    server.client().append_text("s", "0");
    let mut events: Vec<_> = (0..20).map(|_| Coming::open(server.address(), "", EVENTS, &[])).collect();
    let mut lines = Coming::open(server.address(), "follow=true", LINES, &[]);
    let mut filtered = Coming::open(server.address(), "follow=true&key=x", LINES, &[]);
    for stream in &mut events {
        assert_eq!(stream.offset(), 0);
        stream.caught_up(1);
    }
    assert_eq!(lines.message().expect("it is there")["value"], "0");
    let started = Instant::now();
    server.stop_in_order();
    let took = started.elapsed();
    assert!(took < PROMPT, "{took:?}");
    assert!(events.iter_mut().all(|stream| stream.event().is_none()), "an orderly end");
    assert!(lines.message().is_none() && filtered.message().is_none());
}

#[test]
fn who_follows_a_stream_that_is_deleted_is_told() {
    let (server, _directory) = server();
    let client = server.client();
    client.append_text("s", "0");
    let mut events = Coming::open(server.address(), "from=latest", EVENTS, &[]);
    let mut lines = Coming::open(server.address(), "from=latest&follow=true", LINES, &[]);
    events.caught_up(1);
    client.delete("/streams/s").expect(204);
    let last = events.event().expect("a last word");
    assert_eq!((last.name.as_str(), last.id), ("error", None));
    assert_eq!((&last.data["code"], &last.data["status"]), (&"stream_not_found".into(), &404.into()));
    assert!(events.event().is_none() && lines.message().is_none());
}

#[test]
fn filters_hold_for_every_kind_of_read() {
    let (server, _directory) = server();
    let client = server.client();
    for n in 0..30 {
        client.append("s", &[Message::new((n % 3).to_string(), n.to_string())]);
    }
    let page = client.get("/streams/s/messages?key=1&limit=4").expect(200);
    let offsets: Vec<_> = page.messages().iter().map(|message| message.offset).collect();
    assert_eq!((offsets, page.number("message-vault-next-offset")), (vec![1, 4, 7, 10], 11));
    let mut events = Coming::open(server.address(), "key=2&from=20", EVENTS, &[]);
    let mut lines = Coming::open(server.address(), "key=2&from=20&follow=true", LINES, &[]);
    let waiting = std::thread::spawn({
        let client = server.client();
        move || client.get("/streams/s/messages?key=2&from=30&wait=30").expect(200)
    });
    assert_eq!([20, 23, 26, 29], [(); 4].map(|()| events.offset()));
    assert_eq!([20, 23, 26, 29], [(); 4].map(|()| lines.message().expect("it is there")["offset"].clone()));
    events.caught_up(30);
    for n in 30..33 {
        client.append("s", &[Message::new((n % 3).to_string(), n.to_string())]);
    }
    assert_eq!((events.offset(), &lines.message().expect("it comes")["offset"]), (32, &32.into()));
    let waited = waiting.join().expect("it does not panic");
    assert_eq!((waited.messages()[0].offset, waited.number("message-vault-next-offset")), (32, 33));
}
