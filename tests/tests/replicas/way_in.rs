//! A key or an account that is wrong when a server starts: it stays up, says what is wrong, and shows no secret.

use std::net::SocketAddr;
use std::time::Duration;

use vault_tests::azurite::{ACCOUNT, Azurite};
use vault_tests::client::Client;
use vault_tests::replicas::{free_port, on_account, status};
use vault_tests::server::Server;
use vault_tests::wait::until;

/// Base64, as a key has to be.
const WRONG_KEY: &str = "dGhpcyBpcyBhIHdyb25nIGtleQ==";

fn start(connection_string: &str, prefix: &str) -> Server {
    let port = free_port();
    let setup = on_account(connection_string, prefix, port).with(["--log", "debug"]);
    setup.start_unready(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// Waits until the server says that it is not ready because of `why`; nothing that it says holds one of `secrets`.
fn assert_not_ready(server: &mut Server, why: &[&str], secrets: &[&str]) {
    let client: Client = server.client();
    let mut said = String::new();
    until(&format!("{why:?} is said"), Duration::from_secs(20), || {
        assert_eq!(client.get("/livez").status, 200);
        let ready = client.get("/readyz");
        said = ready.expect_problem(503, "not_ready")["detail"].to_string();
        why.iter().all(|word| said.contains(word)).then_some(())
    });
    let status = status(server.address()).expect("the status does not depend on storage");
    assert_eq!(status["role"], "follower");
    assert!(why.iter().all(|word| status["trouble"].to_string().contains(word)), "{status}");
    // Reads and appends are refused in words as well.
    for answer in [
        client.get("/streams/s/messages?from=0"),
        client.get("/streams"),
        client.post("/streams/s/messages", "text/plain", b"one"),
    ] {
        assert_eq!((answer.status, answer.problem()["side_effects"].as_str()), (503, Some("none")));
        said += &String::from_utf8_lossy(&answer.body);
    }
    server.stop_in_order();
    for text in [said, status.to_string(), server.log()] {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is shown: {text}");
        }
    }
}

#[test]
fn a_wrong_key_is_said_and_not_shown() {
    let azurite = Azurite::shared();
    let text =
        format!("AccountName={};AccountKey={WRONG_KEY};BlobEndpoint={}", ACCOUNT.0, azurite.endpoint());
    assert_not_ready(
        &mut start(&text, "wrong-key-"),
        &["the key or SAS is wrong"],
        &[WRONG_KEY, "SharedKey "],
    );
}

#[test]
fn a_wrong_account_is_said_and_its_key_is_not_shown() {
    let azurite = Azurite::shared();
    let text = azurite.connection_string().replace(ACCOUNT.0, "nobodysaccount");
    assert_not_ready(&mut start(&text, "wrong-account-"), &["storage"], &[ACCOUNT.1, "SharedKey "]);
}

#[test]
fn an_account_that_cannot_be_reached_is_said_and_its_key_is_not_shown() {
    let text = format!(
        "AccountName={};AccountKey={};BlobEndpoint=http://127.0.0.1:{}/{}",
        ACCOUNT.0,
        ACCOUNT.1,
        free_port(),
        ACCOUNT.0
    );
    assert_not_ready(&mut start(&text, "nowhere-"), &["storage"], &[ACCOUNT.1, "SharedKey "]);
}
