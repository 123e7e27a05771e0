//! Servers that make a mistake on purpose lose what was acknowledged, and the check that chaos rests on says so: what
//! its clients saw is put down and held against the promises in the same way. Without the mistake the same keeps them.

use std::time::Instant;

use vault_format::names::LEADER_BLOB;
use vault_server::storage::{BlobName, Storage};
use vault_tests::azurite::{self, Azurite};
use vault_tests::client::Client;
use vault_tests::history::{Append, Event, Outcome, Placed, Stored, Verdict, check};
use vault_tests::message::Message;
use vault_tests::mistakes;
use vault_tests::proxy::{Fault, Proxy};
use vault_tests::replicas::{free_port, on_account, on_azurite, status};
use vault_tests::server::{Server, Setup};
use vault_tests::wait::{LONG, until};

use super::{connect, container, run};

const STREAM: &str = "load";
/// Where the leader is written down, in the vault with the prefix `fence-`.
const SYSTEM: &str = "fence-sys";
/// How often a scene is set up anew where the machine was too busy for it.
const TRIES: usize = 5;

/// What clients see, in the order in which they see it.
struct History {
    began: Instant,
    events: Vec<Event>,
}

impl History {
    fn new() -> Self {
        Self { began: Instant::now(), events: Vec::new() }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    /// Appends a message that is its own id, while `meanwhile` happens, and puts down what comes of it.
    fn append_while<T>(
        &mut self,
        client: &Client,
        id: &str,
        meanwhile: impl FnOnce(&mut Self) -> T,
    ) -> (Outcome, T) {
        let begun_ms = self.now_ms();
        let (answer, done) = std::thread::scope(|scope| {
            let answer = scope.spawn(|| client.try_append(STREAM, &[Message::value(id)]));
            let done = meanwhile(self);
            (answer.join().unwrap().unwrap(), done)
        });
        let outcome = match answer.status {
            200 => Outcome::Acknowledged { first_offset: answer.appended().first_offset },
            _ if answer.problem()["side_effects"] == "none" => Outcome::Refused,
            _ => Outcome::Unknown,
        };
        self.events.push(Event::Append(Append {
            stream: STREAM.to_owned(),
            session: None,
            begun_ms,
            ended_ms: self.now_ms(),
            messages: vec![id.to_owned()],
            outcome,
        }));
        (outcome, done)
    }

    fn append(&mut self, client: &Client, id: &str) -> Outcome {
        self.append_while(client, id, |_| ()).0
    }

    /// Reads up to `limit` messages, the whole log, and holds what was seen against the promises.
    fn verdict(mut self, client: &Client, limit: usize) -> Verdict {
        let path = format!("/streams/{STREAM}/messages?from=0&limit={limit}");
        let read = until("the stream can be read", LONG, || {
            let answer = client.get(&path);
            (answer.status == 200).then(|| answer.messages())
        });
        let placed = |stored: &vault_tests::message::Stored| Placed {
            offset: stored.offset,
            timestamp: stored.timestamp,
            id: stored.message.text().to_owned(),
        };
        let messages = read.iter().map(placed).collect();
        self.events.push(Event::Stored(Stored { stream: STREAM.to_owned(), messages }));
        check(&self.events)
    }
}

/// A server that leads, and its way to storage, which can be made to fail. Of what it has not stored by then it says
/// after `append_timeout` that nobody knows.
async fn behind_proxy(
    azurite: &Azurite,
    prefix: &str,
    append_timeout: &str,
    mistake: Option<&str>,
) -> (Proxy, Server) {
    let (proxy, connection) = azurite.behind_proxy(1).await.unwrap();
    let setup = on_account(&connection, prefix, free_port()).with(["--append-timeout", append_timeout]);
    let server = leading(&mistake.into_iter().fold(setup, mistakes::made));
    assert_eq!(
        mistakes::is_admitted(&server.log()),
        mistake.is_some(),
        "it is built for that, as ./tests/run does"
    );
    (proxy, server)
}

/// A server that leads by now.
fn leading(setup: &Setup) -> Server {
    let server = setup.start();
    until("the server leads", LONG, || leads(&server).then_some(()));
    server
}

fn leads(server: &Server) -> bool {
    status(server.address()).is_some_and(|status| status["role"] == "leader")
}

/// Proxies work while this does something else.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A server dies while storage stands still for it.
fn dies_before_it_is_stored(prefix: &str, mistake: Option<&str>) -> (Outcome, Verdict) {
    let (azurite, runtime) = (Azurite::shared(), runtime());
    let (proxy, mut server) = runtime.block_on(behind_proxy(&azurite, prefix, "3s", mistake));
    let mut history = History::new();
    server.client().create(STREAM, 4 << 20);
    assert_eq!(history.append(&server.client(), "stored"), Outcome::Acknowledged { first_offset: 0 });
    // It may have been answered before it was.
    let reader = on_azurite(&azurite, prefix, free_port()).start();
    until("the first message is stored", LONG, || {
        (reader.client().read_all(STREAM).len() == 1).then_some(())
    });
    drop(reader);
    proxy.set(Fault::Silent);
    let outcome = history.append(&server.client(), "on its way");
    server.kill();
    // What is on its way never arrives.
    proxy.set(Fault::Broken);
    let next = leading(&on_azurite(&azurite, prefix, free_port()));
    assert_eq!(history.append(&next.client(), "next"), Outcome::Acknowledged { first_offset: 1 });
    (outcome, history.verdict(&next.client(), 10))
}

#[test]
fn an_acknowledgement_before_anything_is_stored_is_noticed() {
    let (outcome, verdict) = dies_before_it_is_stored("hasty-", Some("acknowledge-early"));
    assert_eq!(outcome, Outcome::Acknowledged { first_offset: 1 });
    assert_eq!((verdict.acknowledged, verdict.lost), (3, 1), "{verdict:?}");
    assert!(verdict.broken.iter().any(|broken| broken.contains("acknowledged, but")), "{verdict:?}");
    let (outcome, verdict) = dies_before_it_is_stored("patient-", None);
    assert_eq!(outcome, Outcome::Unknown);
    assert_eq!((verdict.acknowledged, verdict.lost, verdict.broken), (2, 0, Vec::new()));
}

/// A leader whose way to storage falls silent is deposed, and what it had still to write goes on before it learns that.
/// `None` where it gave up the lead by itself meanwhile.
fn writes_after_it_was_deposed(mistake: Option<&str>) -> Option<(Outcome, Verdict)> {
    // One of its own: the lease is broken in it.
    let (azurite, runtime) = (azurite::Setup::in_memory().start(), runtime());
    let (proxy, mut old) = runtime.block_on(behind_proxy(&azurite, "fence-", "60s", mistake));
    let mut history = History::new();
    old.client().create(STREAM, 4 << 20);
    assert_eq!(history.append(&old.client(), "stored"), Outcome::Acknowledged { first_offset: 0 });
    proxy.set(Fault::Silent);
    let (outcome, (mut new, in_time)) = history.append_while(&old.client(), "late", |history| {
        break_lease(&azurite);
        let new = leading(&on_azurite(&azurite, "fence-", free_port()));
        assert_eq!(history.append(&new.client(), "new"), Outcome::Acknowledged { first_offset: 1 });
        // It still does not hear who leads.
        proxy.set(Fault::SilentAbout(SYSTEM));
        (new, leads(&old))
    });
    old.kill();
    new.kill();
    let reader = on_azurite(&azurite, "fence-", free_port()).start();
    // What comes behind may be damaged.
    in_time.then(|| (outcome, history.verdict(&reader.client(), 2)))
}

/// Takes the lead from whoever has it, as a person would who breaks the lease in Azure's portal.
fn break_lease(azurite: &Azurite) {
    let storage = connect(azurite);
    let leader = BlobName { container: container(SYSTEM), name: LEADER_BLOB.to_owned() };
    run(async {
        // Its holder may have changed the blob meanwhile.
        while storage.break_lease(&leader, &storage.properties(&leader).await.unwrap().etag).await.is_err() {}
    });
}

#[test]
fn a_write_of_a_deposed_leader_that_storage_takes_is_noticed() {
    let of = |mistake| {
        (0..TRIES).find_map(|_| writes_after_it_was_deposed(mistake)).expect("there is time for it")
    };
    let (outcome, verdict) = of(Some("no-fencing"));
    assert_eq!(outcome, Outcome::Acknowledged { first_offset: 1 }, "{verdict:?}");
    assert_eq!((verdict.acknowledged, verdict.lost), (3, 1), "{verdict:?}");
    let (outcome, verdict) = of(None);
    assert_eq!(outcome, Outcome::Unknown);
    assert_eq!((verdict.acknowledged, verdict.lost, verdict.broken), (2, 0, Vec::new()));
}
