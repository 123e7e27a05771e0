//! Somebody deletes what the vault needs. What can be made again is made again; data never is.

use std::time::Duration;

use serde_json::{Value, json};
use vault_tests::azurite::Azurite;
use vault_tests::replicas::Replicas;
use vault_tests::wait::until;

use super::{delete_container, delete_leased_blob};

const STREAM: &str = "s";
const SOON: Duration = Duration::from_secs(20);

fn uid(replicas: &Replicas, index: usize) -> Value {
    replicas.status(index).expect("it runs")["vault_uid"].clone()
}

fn term(replicas: &Replicas) -> u64 {
    let (leader, _) = replicas.settled();
    replicas.status(leader).and_then(|status| status["term"].as_u64()).expect("a leader has a term")
}

/// The server that led says what has happened to it, in `/status` and in `/readyz`, until it follows.
fn assert_says(replicas: &Replicas, index: usize, sentences: &[&str]) {
    let is_one = |said: &Value| sentences.iter().any(|sentence| said.as_str() == Some(*sentence));
    let client = replicas.client(index);
    until("it is said why the leader stepped down", SOON, || {
        let ready = client.get("/readyz");
        let status = replicas.status(index)?;
        let not_ready = ready.status == 503 && is_one(&ready.expect_problem(503, "not_ready")["detail"]);
        (not_ready && is_one(&status["trouble"])).then_some(())
    });
}

fn until_led_after(replicas: &Replicas, term: u64) {
    until("somebody leads under a later term", SOON, || {
        let terms = (0..2).filter_map(|index| replicas.status(index)?["term"].as_u64());
        terms.max().filter(|later| *later > term)
    });
}

fn assert_well(replicas: &Replicas) {
    for index in [0, 1] {
        replicas.client(index).get("/readyz").expect(200);
        let status = replicas.status(index).expect("it runs");
        assert!(status["trouble"].is_null() && status["troubled"] == json!([]), "{status}");
    }
}

/// What was stored is there, through both, and more can be appended through both.
fn assert_goes_on(replicas: &Replicas, before: &[&str]) {
    replicas.settled();
    let mut texts: Vec<_> = before.to_vec();
    for (index, text) in [(0, "through a"), (1, "through b")] {
        until("an append is acknowledged", SOON, || {
            let appended = replicas.client(index).post(
                &format!("/streams/{STREAM}/messages?expected_offset={}", texts.len()),
                "text/plain",
                text.as_bytes(),
            );
            (appended.status == 200).then_some(())
        });
        texts.push(text);
    }
    for index in [0, 1] {
        until("everything is read", SOON, || {
            let stored = replicas.client(index).read_all(STREAM);
            (stored.iter().map(|it| it.message.text()).collect::<Vec<_>>() == texts).then_some(())
        });
    }
}

#[test]
fn the_leader_blob_is_made_again_with_a_higher_term() {
    let azurite = Azurite::shared();
    let replicas = Replicas::on_azurite(&azurite, "noblob-");
    let (leader, _) = replicas.settled();
    replicas.client(leader).append_text(STREAM, "before");
    let (uid_before, term_before) = (uid(&replicas, leader), term(&replicas));
    delete_leased_blob(&azurite, "noblob-sys", "leader");
    until("somebody leads under a later term", SOON, || {
        let led = (0..2).filter_map(|index| replicas.status(index)?["term"].as_u64());
        led.max().filter(|term| *term > term_before)
    });
    assert!(term(&replicas) > term_before);
    assert_eq!(uid(&replicas, 0), uid_before);
    assert_goes_on(&replicas, &["before"]);
    let said = replicas.server(leader).log();
    assert!(
        said.contains("the blob `leader` is gone") || said.contains("another server has taken the lease")
    );
}

#[test]
fn the_system_container_is_made_again_for_the_same_vault() {
    let azurite = Azurite::shared();
    let replicas = Replicas::on_azurite(&azurite, "nosys-");
    let (leader, _) = replicas.settled();
    replicas.client(leader).append_text(STREAM, "before");
    let (uid_before, term_before) = (uid(&replicas, leader), term(&replicas));
    delete_container(&azurite, "nosys-sys");
    assert_says(&replicas, leader, &["the blob `leader` is gone", "another server has taken the lease"]);
    until_led_after(&replicas, term_before);
    assert_eq!([uid(&replicas, 0), uid(&replicas, 1)], [uid_before.clone(), uid_before]);
    assert_goes_on(&replicas, &["before"]);
    assert_well(&replicas);
}

#[test]
fn a_streams_container_is_not_made_again() {
    let azurite = Azurite::shared();
    let mut replicas = Replicas::on_azurite(&azurite, "nodata-");
    let (leader, follower) = replicas.settled();
    replicas.client(leader).append_text(STREAM, "before");
    replicas.client(leader).append_text("other", "before");
    assert_eq!(replicas.client(follower).read_all(STREAM).len(), 1);
    // What it has not listed yet it cannot miss.
    until("the follower knows the streams", SOON, || {
        (replicas.status(follower)?["streams"] == 2).then_some(())
    });
    delete_container(&azurite, &format!("nodata-{STREAM}"));

    let path = format!("/streams/{STREAM}");
    for index in [leader, follower] {
        let client = replicas.client(index);
        // Streams are made by the first append, but not this one again.
        let mut first = true;
        until("an append is refused for good", SOON, || {
            let answer = client.post(&format!("{path}/messages"), "text/plain", b"after");
            assert_ne!(answer.status, 200, "it would begin again at offset 0");
            // The write that found out may not say more than that its outcome is unknown.
            let begins = std::mem::take(&mut first);
            let code = answer.problem()["code"].clone();
            assert!(begins || code == "data_missing" || answer.problem()["retryable"] == true, "{code}");
            (code == "data_missing").then_some(())
        });
        client.put(&path, &json!({})).expect_problem(500, "data_missing");
    }
    let status = replicas.status(leader).expect("it runs");
    let troubled = status["troubled"].as_array().expect("a list");
    assert_eq!(troubled.len(), 1, "{status}");
    assert_eq!((&troubled[0]["name"], &troubled[0]["condition"]), (&json!(STREAM), &json!("data_missing")));
    // The other streams and the servers are well.
    replicas.client(follower).append_text("other", "after");
    for index in [0, 1] {
        replicas.client(index).get("/readyz").expect(200);
    }

    // The next leader has seen the stream as well and does not make it again either.
    replicas.server_mut(leader).kill();
    replicas.until_leads(follower, SOON);
    let client = replicas.client(follower);
    client.post(&format!("{path}/messages"), "text/plain", b"after").expect_problem(500, "data_missing");

    client.delete(&path).expect(204);
    client.create(STREAM, 1 << 30);
    assert_eq!(client.append_text(STREAM, "anew").first_offset, 0);
    replicas.server_mut(leader).restart();
    replicas.settled();
    for index in [0, 1] {
        until("the new stream is read", SOON, || {
            let stored = replicas.client(index).read_all(STREAM);
            (stored.len() == 1 && stored[0].message.text() == "anew").then_some(())
        });
        assert_eq!(replicas.client(index).read_all("other").len(), 2);
    }
}
