//! The CloudEvents SDK for Python.

use vault_tests::replicas::Replicas;
use vault_tests::server::{Setup, temporary_directory};

use super::python;

#[test]
fn events_of_the_sdk_come_back_as_they_were_sent() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    let said = python("cloud_events.py", [format!("http://{}", server.address()), "events".to_owned()]);
    assert_eq!(said["compared"], 15);
    let stored = server.client().get("/streams/events/messages?limit=1").expect(200).json();
    let message = &stored["messages"][0];
    let total: serde_json::Value = serde_json::from_str(message["value"].as_str().unwrap()).unwrap();
    assert_eq!((&total["total"], &message["key"]), (&1.5.into(), &"customer ä 7".into()));
    for (header, value) in [
        ("ce_specversion", "1.0"),
        ("ce_type", "org.example.order"),
        ("ce_source", "https://example.org/shop"),
        ("ce_subject", "Euro € 😀 \"100%\""),
        ("ce_time", "2026-01-31T12:00:00.250000Z"),
        ("ce_partitionkey", "customer ä 7"),
        ("ce_attempt", "3"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(message["headers"][header], value, "{header}");
    }
}

#[test]
fn a_follower_hands_on_events_and_digests_as_they_are() {
    let directory = temporary_directory();
    let replicas = Replicas::in_directory(directory.path());
    let (_, follower) = replicas.settled();
    let base = format!("http://{}", replicas.addresses()[follower]);
    assert_eq!(python("cloud_events.py", [base, "events".to_owned()])["compared"], 15);
    let lie = [("Content-Type", "text/plain"), ("Content-MD5", "XUFAKrxLKna5cZ2REBfFkg==")];
    let send = |body: &[u8]| {
        replicas.client(follower).send("POST", "/streams/events/messages", &lie, Some(body)).unwrap()
    };
    send(b"hellO").expect_problem(400, "digest_mismatch");
    assert_eq!(send(b"hello").expect(200).appended().first_offset, 15);
}
