//! Reading sealed segments from storage, with the leave that servers give.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use vault_client::{Client, Offset, ReadError, Received, Settings};
use vault_tests::azurite::Azurite;
use vault_tests::replicas::{free_port, on_azurite};
use vault_tests::server::{Server, temporary_directory};

use crate::relay::Relay;
use crate::{STREAM, at_fixed_port, client, small_segments, url};

/// Messages for four segments and a bit.
const MESSAGES: u64 = 150;
/// Longer than the next message takes on a machine that is busy.
const SOON: Duration = Duration::from_secs(20);

/// A server, and its storage for as long as it is held.
fn server(prefix: &str) -> (Arc<Azurite>, Server) {
    let azurite = Azurite::shared();
    let server = on_azurite(&azurite, prefix, free_port()).start();
    (azurite, server)
}

async fn fill(client: &Client, from: u64, count: u64) {
    let producer = client.producer(STREAM).start().unwrap();
    for number in from..from + count {
        producer.send(format!("{number} {}", "x".repeat(120_000))).await.unwrap();
    }
    assert_eq!(producer.close().await.acknowledged, count);
}

async fn filled(server: &Server, settings: Settings) -> Client {
    let client = client(server);
    client.create_stream(STREAM, &settings).await.unwrap();
    fill(&client, 0, MESSAGES).await;
    assert!(client.describe_stream(STREAM).await.unwrap().segments >= Some(5));
    client
}

fn parts(messages: Vec<Received>) -> Vec<(Offset, u64, Vec<u8>)> {
    messages.into_iter().map(|it| (it.offset(), it.timestamp().0, it.value().to_vec())).collect()
}

/// The offsets that a direct reader of the relay comes upon, each message checked, and the error at the end.
async fn read(relay: &Relay, from: u64) -> (Vec<u64>, Option<ReadError>) {
    let mut reader = Client::connect(&relay.url).unwrap().reader(STREAM).from(Offset(from)).direct().start();
    let mut offsets = Vec::new();
    while let Some(message) = tokio::time::timeout(SOON, reader.next()).await.expect("it comes soon") {
        match message {
            Ok(message) => {
                assert!(message.value().starts_with(format!("{} x", message.offset()).as_bytes()));
                offsets.push(message.offset().0);
            }
            Err(error) => return (offsets, Some(error)),
        }
    }
    (offsets, None)
}

fn all_from(from: u64) -> (Vec<u64>, Option<ReadError>) {
    ((from..MESSAGES).collect(), None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_hold_what_servers_answer() {
    for codec in ["none", "zstd"] {
        let (_azurite, server) = server(&format!("client-d-{codec}-"));
        let settings = Settings { codec: Some(codec.to_owned()), ..small_segments() };
        let plain = client(&server);
        if codec == "none" {
            filled(&server, settings).await;
        } else {
            plain.create_stream(STREAM, &settings).await.unwrap();
            fill(&plain, 0, 20).await;
        }
        let relay = Relay::start(url(server.address()), |_, plan| plan).await;
        let direct = Client::connect(&relay.url).unwrap();
        let wanted = parts(plain.reader(STREAM).start().try_collect().await.unwrap());
        let found = parts(direct.reader(STREAM).direct().start().try_collect().await.unwrap());
        assert!(found == wanted);
        let segments =
            usize::try_from(plain.describe_stream(STREAM).await.unwrap().segments.unwrap()).unwrap();
        // One to know where to begin, one for what is not sealed, and one to know that this is the end.
        assert_eq!((relay.count("/access?"), relay.count("/messages?")), (segments, 3));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_begins_anywhere_and_goes_on_at_the_end() {
    let (_azurite, server) = server("client-d-any-");
    let plain = filled(&server, small_segments()).await;
    let relay = Relay::start(url(server.address()), |_, plan| plan).await;
    for from in [0, 1, 33, 34, 35, 36, 70, 71, 99, 148, 149, 150] {
        assert_eq!(read(&relay, from).await, all_from(from), "from {from}");
    }
    let direct = Client::connect(&relay.url).unwrap().reader(STREAM).from(Offset(40)).direct();
    let read: Vec<_> =
        direct.clone().to(Offset(80)).start().map_ok(|it| it.offset().0).try_collect().await.unwrap();
    assert_eq!(read, (40..80).collect::<Vec<_>>());
    let mut following = direct.follow().start();
    for offset in 40..MESSAGES {
        assert_eq!(following.next().await.unwrap().unwrap().offset(), Offset(offset));
    }
    fill(&plain, MESSAGES, 1).await;
    let next = tokio::time::timeout(Duration::from_secs(20), following.next()).await;
    assert_eq!(next.unwrap().unwrap().unwrap().offset(), Offset(MESSAGES));
}

/// Changes a field of the plan, or of its segments.
fn with(mut plan: Value, field: &str, change: impl Fn(&str) -> String) -> Value {
    let segments = plan["segments"].as_array_mut().unwrap();
    if field == "url" {
        segments
            .iter_mut()
            .for_each(|segment| segment[field] = change(segment[field].as_str().unwrap()).into());
    } else {
        plan[field] = change(plan[field].as_str().unwrap()).into();
    }
    plan
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_storage_refuses_is_asked_for_with_a_new_leave() {
    let (_azurite, server) = server("client-d-leave-");
    filled(&server, small_segments()).await;
    // A leave that is over, and a segment that is gone. Each is followed by one that is good.
    let over = |number: usize, plan| match number {
        1 => with(plan, "sas", |sas| sas.replace("sp=r", "sp=rw")),
        3 => with(plan, "url", |url| url.replace(".log", ".gone")),
        _ => plan,
    };
    let relay = Relay::start(url(server.address()), over).await;
    assert_eq!(read(&relay, 10).await, all_from(10));
    // What is not sealed, and whether that is the end.
    assert!(relay.count("/messages?") == 2 && relay.count("/access?") >= 7);
    // A clock that is wrong makes no difference.
    for wrong in ["1999-12-31T23:59:59Z", "2999-12-31T23:59:59Z"] {
        let relay =
            Relay::start(url(server.address()), |_, plan| with(plan, "expires", |_| wrong.to_owned())).await;
        assert_eq!(read(&relay, 10).await, all_from(10));
        assert!(relay.count("/access?") <= 6, "it does not ask without end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_storage_cannot_be_reached_everything_comes_through_the_servers() {
    let (_azurite, server) = server("client-d-away-");
    filled(&server, small_segments()).await;
    let away = |_, plan| with(plan, "url", |_| "http://127.0.0.1:1/nobody/here".to_owned());
    let relay = Relay::start(url(server.address()), away).await;
    assert_eq!(read(&relay, 10).await, all_from(10));
    assert_eq!((relay.count("/access?"), relay.count("/messages?")), (3, 2));
    // A segment that ends before it should is damage, and no reason to ask for ever.
    let short = |_, mut plan: Value| {
        for segment in plan["segments"].as_array_mut().unwrap() {
            segment["end"] = (1 << 20).into();
        }
        plan
    };
    let relay = Relay::start(url(server.address()), short).await;
    let (offsets, error) = read(&relay, 0).await;
    assert!(matches!(error, Some(ReadError::Damaged { .. })), "{error:?}");
    assert_eq!((offsets, relay.count("/access?")), ((0..8).collect(), 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_deletes_is_told_here_too() {
    let (_azurite, server) = server("client-d-gone-");
    let settings = Settings { retention_seconds: Some(Some(10)), ..small_segments() };
    let client = filled(&server, settings).await;
    let mut readers = [client.reader(STREAM), client.reader(STREAM).skip_deleted()]
        .map(|builder| builder.from(Offset(0)).direct().start());
    for reader in &mut readers {
        assert_eq!(reader.next().await.unwrap().unwrap().offset(), Offset(0));
    }
    while client.describe_stream(STREAM).await.unwrap().first_offset < Some(100) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let [told, skipping] = readers;
    let told: Vec<_> = told.collect().await;
    assert!(matches!(told.last(), Some(Err(ReadError::BelowFirst { .. }))), "{:?}", told.last());
    let rest: Vec<_> = skipping.map_ok(|message| message.offset().0).try_collect().await.unwrap();
    assert!(rest.len() < 100 && rest.is_sorted_by(|a, b| a < b), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_files_everything_comes_through_the_servers() {
    let directory = temporary_directory();
    let server = at_fixed_port(directory.path()).start();
    filled(&server, small_segments()).await;
    let relay = Relay::start(url(server.address()), |_, plan| plan).await;
    assert_eq!(read(&relay, 7).await, all_from(7));
    assert_eq!((relay.count("/access?"), relay.count("/messages?")), (1, 2));
}
