//! What becomes of streams whose resources go.

use serde_json::json;
use vault_tests::operator::{Field, SETTLES, STREAM, VAULT};
use vault_tests::wait::until;

use crate::common::{Containers, KINDS, append, objects_of, texts};

#[test]
fn streams_stay_or_go_as_their_resources_say() {
    let field = Field::new().start();
    let mut spec = field.vault(&field.prefix());
    spec["streams"] = json!([
        {"name": "own-stays"},
        {"name": "own-goes", "deletionPolicy": "Delete"},
        {"name": "own-was", "deletionPolicy": "Delete"},
    ]);
    field.apply(VAULT, "events", &spec);
    for (name, policy) in [("stays", "Retain"), ("goes", "Delete"), ("last", "Delete")] {
        field.apply(STREAM, name, &json!({"vaultRef": {"name": "events"}, "deletionPolicy": policy}));
    }
    field.until_ready(VAULT, "events");
    let all = ["stays", "goes", "last", "own-stays", "own-goes", "own-was"];
    for stream in all {
        append(&field, "events", stream, stream);
    }
    let containers = Containers::of(&field, &field.prefix());
    let there = || all.into_iter().filter(|stream| containers.has(stream)).collect::<Vec<_>>();
    for name in ["stays", "goes"] {
        field.until_ready(STREAM, name);
        field.delete(STREAM, name);
        field.until_gone(STREAM, name);
    }
    assert_eq!(there(), ["stays", "last", "own-stays", "own-goes", "own-was"]);
    assert_eq!(texts(&field, "events", "stays"), ["stays"]);

    // What is taken out of the list is nobody's any more, and stays whatever it said before.
    spec["streams"].as_array_mut().unwrap().pop();
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");
    assert_eq!(texts(&field, "events", "own-was"), ["own-was"]);

    // Both go at once, as with a namespace.
    field.delete(VAULT, "events");
    field.delete(STREAM, "last");
    field.until_gone(VAULT, "events");
    field.until_gone(STREAM, "last");
    assert_eq!(there(), ["stays", "own-stays", "own-was"]);
    assert!(containers.has("sys"), "the vault itself stays");

    // The next owner has the messages again.
    spec["streams"] = json!([{"name": "own-was"}]);
    field.apply(VAULT, "events", &spec);
    field.apply(STREAM, "stays", &json!({"vaultRef": {"name": "events"}}));
    field.until_ready(VAULT, "events");
    field.until_ready(STREAM, "stays");
    for stream in ["own-was", "stays"] {
        assert_eq!(texts(&field, "events", stream), [stream]);
    }
}

#[test]
fn what_was_never_made_can_be_deleted() {
    let field = Field::new().start();
    let spec = json!({"vaultRef": {"name": "nowhere"}, "deletionPolicy": "Delete"});
    field.apply(STREAM, "till", &spec);
    field.until_condition(STREAM, "till", "Reconciling", "True");
    field.delete(STREAM, "till");
    field.until_gone(STREAM, "till");
}

#[test]
fn a_stream_whose_vault_is_gone_says_so_and_can_be_kept() {
    let field = Field::new().start();
    let mut spec = field.vault(&field.prefix());
    spec["replicas"] = json!(1);
    field.apply(VAULT, "events", &spec);
    field.apply(STREAM, "till", &json!({"vaultRef": {"name": "events"}, "deletionPolicy": "Delete"}));
    field.until_ready(STREAM, "till");
    // The vault waits a while for the stream, which is not deleted, and then goes alone.
    field.delete(VAULT, "events");
    let waiting = field.until_condition(VAULT, "events", "Reconciling", "True");
    assert_eq!(waiting["reason"], "WaitingForStreams", "{waiting}");
    field.until_gone(VAULT, "events");
    field.delete(STREAM, "till");
    let (reason, message) = field.until_stalled(STREAM, "till");
    assert_eq!(reason, "VaultMissing");
    assert!(message.contains("deletionPolicy: Retain"), "{message}");
    let containers = Containers::of(&field, &field.prefix());
    assert!(containers.has("till"));
    field.patch(STREAM, "till", &json!({"spec": {"deletionPolicy": "Retain"}}));
    until("it goes", SETTLES, || field.get(STREAM, "till").is_none().then_some(()));
    assert!(containers.has("till"), "its messages stay");
}

#[test]
fn a_deletion_that_was_given_up_deletes_nothing() {
    let field = Field::new().start();
    let mut spec = field.vault(&field.prefix());
    spec["replicas"] = json!(1);
    field.apply(VAULT, "events", &spec);
    field.apply(STREAM, "till", &json!({"vaultRef": {"name": "events"}}));
    field.until_ready(STREAM, "till");
    append(&field, "events", "till", "kept");
    let containers = Containers::of(&field, &field.prefix());
    containers.change("till", |meta| meta.deleting = true);
    field.patch(STREAM, "till", &json!({"spec": {"settings": {"codec": "zstd"}}}));
    field.until_ready(STREAM, "till");
    assert!(!containers.meta("till").unwrap().deleting, "the owner is there and wants it");
    assert_eq!(texts(&field, "events", "till"), ["kept"]);
}

#[test]
fn a_vault_that_is_deleted_in_the_foreground_goes_after_all_that_it_is_made_of() {
    let field = Field::new().start();
    let all = [("plain", "Retain"), ("going", "Delete")];
    let prefix = |name: &str| format!("{}{name}-", field.prefix());
    for (name, policy) in all {
        let mut spec = field.vault(&prefix(name));
        (spec["replicas"], spec["streams"]) =
            (json!(1), json!([{"name": "orders", "deletionPolicy": policy}]));
        field.apply(VAULT, name, &spec);
    }
    for (name, policy) in all {
        let finalizers = field.until_ready(VAULT, name)["metadata"]["finalizers"].clone();
        assert_eq!(finalizers.is_null(), policy == "Retain", "{finalizers}");
        append(&field, name, "orders", "hello");
        let namespace = format!("--namespace={}", field.namespace);
        let delete = ["delete", "messagevault", name, "--cascade=foreground", "--wait=false", &namespace];
        let _ = field.cluster.kubectl(delete).expect(0);
    }
    for (name, policy) in all {
        field.until_gone(VAULT, name);
        for kind in KINDS.iter().chain(&["ReplicaSet", "Pod"]) {
            let left = objects_of(&field, kind, name);
            assert!(left.is_empty(), "{kind} of {name}: {left:?}");
        }
        assert_eq!(Containers::of(&field, &prefix(name)).has("orders"), policy == "Retain");
    }
}
