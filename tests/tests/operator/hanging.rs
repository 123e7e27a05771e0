//! Storage that takes requests and does not answer, and a name that storage has not let go of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vault_tests::azurite::{ACCOUNT, Azurite, Setup};
use vault_tests::kubernetes::Cluster;
use vault_tests::operator::{Field, SETTLES, STREAM, VAULT, condition};
use vault_tests::wait::until;
use vault_tests::way::refusing;

use crate::common::{Containers, append, pods, status, texts};

/// So many vaults wait for storage at once.
const WAITING: usize = 6;
/// Much sooner than where one waits for the other: storage that hangs takes half a minute of each.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn storage_that_hangs_is_told_of_and_holds_nobody_up() {
    let (azurite, other) = (Arc::new(Setup::in_memory().start()), Azurite::shared());
    let mut field = Field::with(Cluster::shared(), azurite.clone()).start();
    let vault = |azurite: &Azurite, prefix: &str| {
        json!({
            "replicas": 1, "streams": [{"name": "orders"}], "access": {"anonymous": true},
            "storage": {
                "endpoint": azurite.endpoint(), "emulator": {}, "prefix": format!("{}{prefix}", field.prefix()),
            },
        })
    };
    let (waiting, free) = (vault(&azurite, "waits-"), vault(&other, "free-"));
    field.apply(VAULT, "events", &vault(&azurite, ""));
    field.until_ready(VAULT, "events");
    append(&field, "events", "orders", "before");
    let before = pods(&field, "events");

    azurite.pause();
    let paused = Instant::now();
    field.annotate(VAULT, "events", "look", Some("now"));
    for index in 0..WAITING {
        field.apply(VAULT, &format!("waits-{index}"), &waiting);
    }
    field.apply(VAULT, "free", &free);
    let away = field.until_condition(VAULT, "events", "StorageReachable", "False");
    assert!(away["message"].as_str().unwrap().contains("no answer within"), "{away}");
    assert!(paused.elapsed() < SOON, "{:?}", paused.elapsed());
    let ready = condition(&field.get(VAULT, "events").unwrap(), "Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("StorageUnreachable")));
    field.until_ready(VAULT, "free");
    assert!(paused.elapsed() < SOON, "it waited for the others: {:?}", paused.elapsed());
    append(&field, "free", "orders", "hello");

    field.annotate(VAULT, "events", "look", Some("again"));
    let ending = Instant::now();
    assert_eq!(field.stop_operator(), Some(0), "{}", field.log());
    assert!(ending.elapsed() < Duration::from_secs(25), "{:?}", ending.elapsed());
    field.start_operator();
    azurite.resume();
    field.until_condition(VAULT, "events", "StorageReachable", "True");
    field.until_ready(VAULT, "events");
    append(&field, "events", "orders", "after");
    assert_eq!(texts(&field, "events", "orders"), ["before", "after"]);
    assert_eq!(pods(&field, "events"), before, "no server was replaced for that");
}

#[test]
fn a_name_that_azure_has_not_let_go_of_is_waited_for() {
    let field = Field::new().start();
    let busy = Arc::new(AtomicBool::new(true));
    // The vault's own container, its stream, and a VaultStream that is made anew.
    let refused =
        ["sys", "orders", "till"].map(|name| format!("/{}{name}?restype=container", field.prefix()));
    let port = refusing(field.azurite.port(), {
        let busy = busy.clone();
        move |line| {
            let created = line.starts_with("PUT ")
                && refused.iter().any(|it| line.contains(it) && !line.contains("comp="));
            (created && busy.load(Ordering::Relaxed)).then(|| {
                let code = "ContainerBeingDeleted";
                let body = format!(
                    "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Later.</Message></Error>"
                );
                let headers = format!("x-ms-error-code: {code}\r\ncontent-type: application/xml\r\n");
                ["409 The specified container is being deleted".to_owned(), headers, body]
            })
        }
    });
    let mut spec = field.vault(&field.prefix());
    spec["storage"]["endpoint"] = json!(format!("http://127.0.0.1:{port}/{}", ACCOUNT.0));
    spec["replicas"] = json!(1);
    let until_waiting = |kind: &str, name: &str| {
        let found = until(&format!("{name} says what it waits for"), SETTLES, || {
            let found = condition(&field.get(kind, name)?, "Reconciling");
            (found["status"] == "True" && found["reason"] == "StillDeleting").then_some(found)
        });
        assert!(found["message"].as_str().unwrap().contains("half a minute"), "{found}");
    };
    let let_go = |kind: &str, name: &str| -> Value {
        busy.store(false, Ordering::Relaxed);
        let ready = field.until_ready(kind, name);
        busy.store(true, Ordering::Relaxed);
        ready
    };
    field.apply(VAULT, "events", &spec);
    until_waiting(VAULT, "events");
    let vault = field.get(VAULT, "events").unwrap();
    assert_eq!(condition(&vault, "StorageReachable")["status"], "True", "{vault:#}");
    let_go(VAULT, "events");

    spec["streams"] = json!([{"name": "stays"}, {"name": "orders"}]);
    field.apply(VAULT, "events", &spec);
    until_waiting(VAULT, "events");
    assert_eq!(append(&field, "events", "stays", "kept"), 0, "what is there goes on");
    let_go(VAULT, "events");
    append(&field, "events", "orders", "first");

    let stream = json!({"vaultRef": {"name": "events"}, "deletionPolicy": "Delete"});
    busy.store(false, Ordering::Relaxed);
    field.apply(STREAM, "till", &stream);
    let before = field.until_ready(STREAM, "till");
    append(&field, "events", "till", "gone");
    field.delete(STREAM, "till");
    field.until_gone(STREAM, "till");
    busy.store(true, Ordering::Relaxed);
    field.apply(STREAM, "till", &stream);
    until_waiting(STREAM, "till");
    assert!(!Containers::of(&field, &field.prefix()).has("till"));
    let after = let_go(STREAM, "till");
    assert_ne!(status(&before, "streamId"), status(&after, "streamId"));
    assert_eq!(append(&field, "events", "till", "anew"), 0);
    for (stream, text) in [("stays", "kept"), ("orders", "first"), ("till", "anew")] {
        assert_eq!(texts(&field, "events", stream), [text]);
    }
}
