//! Streams are copied, restored and verified; damage is found, named and survived.

use std::path::Path;

use serde_json::json;
use vault_tests::mvctl::Mvctl;
use vault_tests::segments::segments;
use vault_tests::server::{Setup, temporary_directory};

use super::vault;

fn storage(directory: &Path) -> String {
    format!("file:{}", directory.display())
}

#[test]
fn a_copy_is_a_vault_that_a_server_goes_on_with() {
    let (directory, mut server, mvctl) = vault();
    let place = temporary_directory();
    let copy = place.path().join("copy");
    let (from, to) = (storage(directory.path()), copy.to_str().unwrap().to_owned());
    let _ = mvctl.run_with(b"a\nb\n", ["append", "orders"]).expect(0);
    let _ = mvctl.run_with(b"c\n", ["append", "events"]).expect(0);
    let flags = ["copy", "--from-storage", &from, "--to", &to, "--json"];
    let copied = mvctl.run(flags).expect(0).json_lines();
    assert_eq!((&copied[1]["stream"], &copied[1]["messages"]), (&json!("orders"), &json!(2)));
    let _ = mvctl.run_with(b"d\n", ["append", "orders"]).expect(0);
    let again = mvctl.run(flags.into_iter().chain(["orders"])).expect(0).json();
    assert_eq!((&again["messages"], &again["next_offset"]), (&json!(1), &json!(3)));
    // Through the server it is the same copy, and with a prefix only what has it.
    let through = place.path().join("through");
    let through = ["copy", "--to", through.to_str().unwrap(), "--json"];
    let mine = mvctl.clone().environment("MESSAGEVAULT_STREAM_PREFIX", "ord");
    let copied = mine.run(through).expect(0).json();
    assert_eq!((&copied["stream"], &copied["messages"]), (&json!("orders"), &json!(3)));
    assert_eq!(mvctl.run(through).expect(0).json_lines()[1]["messages"], 0);
    let original = mvctl.run(["read", "orders", "--json"]).expect(0).out;
    server.stop_in_order();
    let restored = place.path().join("restored");
    let target = storage(&restored);
    let restored_streams =
        mvctl.run(["restore", "--from", &to, "--to-storage", &target, "--json"]).expect(0).json_lines();
    assert_eq!(restored_streams[1]["messages"], 3);
    mvctl.run(["restore", "--from", &to, "--to-storage", &target, "orders"]).refuses(1, "exists already");
    let said = mvctl.run(["restore", "--from", &to, "--to-storage", &target]).expect(1);
    assert!(said.err.ends_with("mvctl: not restored: events, orders\n"), "{}", said.err);
    let server = Setup::in_directory(&restored).start();
    let mvctl = Mvctl::of(server.address());
    assert!(mvctl.run(["read", "orders", "--json"]).expect(0).out == original);
    let _ = mvctl.run_with(b"e\n", ["append", "orders"]).expect(0);
    assert_eq!(mvctl.run(["read", "orders", "--raw"]).expect(0).text(), "abde");
}

#[test]
fn what_cannot_be_copied_is_refused() {
    let (directory, _server, mvctl) = vault();
    let from = storage(directory.path());
    let to = directory.path().join("copy");
    let to = to.to_str().unwrap();
    mvctl.run(["copy", "missing", "--from-storage", &from, "--to", to]).refuses(3, "missing");
    mvctl.run(["copy", "--from-storage", "file:/nonexistent", "--to", to]).refuses(2, "/nonexistent");
    mvctl.run(["copy", "--from-storage", "memory:", "--to", to]).refuses(2, "file:<directory>");
    mvctl.run(["copy", "--from-storage", "s3:x", "--to", to]).refuses(2, "s3:x");
    mvctl.run(["restore", "--from", "/nonexistent", "--to-storage", &from]).refuses(2, "/nonexistent");
    mvctl.run(["copy", "missing", "--to", to]).refuses(3, "missing");
    mvctl.run(["verify", "missing"]).refuses(3, "missing");
    mvctl.run(["verify", "missing", "--storage", &from]).refuses(3, "missing");
}

#[test]
fn damage_is_named_and_what_is_intact_is_saved() {
    let (directory, mut server, mvctl) = vault();
    for line in ["one\n", "two\n", "three\n"] {
        let _ = mvctl.run_with(line.as_bytes(), ["append", "orders"]).expect(0);
    }
    let _ = mvctl.run_with(b"x\n", ["append", "events"]).expect(0);
    let whole = mvctl.run(["verify", "--json"]).expect(0).json_lines();
    assert!(whole.iter().all(|stream| stream["whole"] == true), "{whole:?}");
    server.stop_in_order();
    damage(directory.path());
    let from = storage(directory.path());
    let said = mvctl.run(["verify", "--storage", &from, "--json"]).expect(4);
    let found = said.json_lines();
    assert_eq!((&found[0]["whole"], &found[1]["whole"]), (&json!(true), &json!(false)), "{found:?}");
    assert_eq!((&found[1]["damage"][0]["lost"], &found[1]["messages"]), (&json!(1), &json!(2)));
    said.refuses(4, "damaged: orders");
    let text = mvctl.run(["verify", "--storage", &from, "orders"]).expect(4).text();
    assert!(text.contains("where offset 1 should stand") && text.contains("1 message is lost"), "{text}");
    let place = temporary_directory();
    let target = storage(&place.path().join("restored"));
    let from = directory.path().to_str().unwrap();
    let restore = ["restore", "--from", from, "--to-storage", &target, "orders"];
    mvctl.run(restore).refuses(4, "--repair");
    let saved = mvctl.run(restore.into_iter().chain(["--repair", "--json"])).expect(0).json();
    assert_eq!(saved["lost"].as_array().unwrap().len(), 1);
    assert_eq!((&saved["lost"][0]["from"], &saved["lost"][0]["to"]), (&json!(1), &json!(2)));
    let _ = mvctl.run(["verify", "--storage", &target]).expect(0);
    // A server finds it as well.
    let server = Setup::in_directory(directory.path()).start();
    let said = Mvctl::of(server.address()).run(["verify", "orders", "--json"]).expect(4);
    assert_eq!(said.json()["whole"], false);
    let read = Mvctl::of(server.address()).run(["read", "orders", "--raw"]);
    assert_eq!(read.text(), "one");
    read.refuses(4, "corrupt");
    Mvctl::of(server.address()).run(["merge", "orders", "events"]).refuses(4, "orders: ");
    // It does not keep others from being copied.
    let mvctl = Mvctl::of(server.address());
    let _ = mvctl.run_with(b"y\n", ["append", "payments"]).expect(0);
    let copy = place.path().join("copy");
    let copied = mvctl.run(["copy", "--json", "--to", copy.to_str().unwrap()]).expect(4);
    let names: Vec<_> = copied.json_lines().iter().map(|line| line["stream"].clone()).collect();
    assert_eq!(names, ["events", "payments"]);
    assert!(copied.err.ends_with("not copied: orders\n"), "{}", copied.err);
}

/// Turns a bit of the second message over.
fn damage(directory: &Path) {
    let newest = segments(directory, "orders").pop().expect("the stream has a segment");
    newest.flip_payload(&newest.message_batches()[1]);
}
