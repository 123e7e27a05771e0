//! Direct reads with azure-storage-blob for Python: by a SAS of the account's key, and by one of an identity.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use vault_tests::azurite::{self, Azurite};
use vault_tests::certificates::Certificates;
use vault_tests::client::Client;
use vault_tests::message::{Message, Stored};
use vault_tests::replicas::{Replicas, free_port, on_account};
use vault_tests::server::{Setup, temporary_directory};
use vault_tests::shared_access::account_sas;
use vault_tests::token_endpoint::{TokenEndpoint, Verdict};

use super::python;

const SEGMENT: u64 = 4 << 20;

/// Messages for three segments and a bit.
fn fill(client: &Client) -> Vec<Stored> {
    for stream in ["read", "other"] {
        client.create(stream, SEGMENT);
    }
    client.append_text("other", "another stream's");
    for request in 0..7 {
        let messages: Vec<_> = (0..8)
            .map(|n| Message::new(format!("key {request}"), format!("{request} {n} ").repeat(40_000)))
            .collect();
        client.append("read", &messages);
    }
    client.read_all("read")
}

/// What a decoder that somebody wrote from the documentation alone makes of the segments.
fn decoded(container: &Path) -> Vec<Stored> {
    let decoder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("decoder/decode.py");
    let mut command = Command::new("python3");
    let mut child = command.arg(decoder).arg(container).stdout(Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let stored = lines.map(|line| {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let bytes = |name: &str| BASE64_STANDARD.decode(line[name].as_str().unwrap_or_default()).unwrap();
        Stored {
            offset: line["offset"].as_u64().unwrap(),
            timestamp: line["timestamp"].as_u64().unwrap(),
            message: Message::new(bytes("key"), bytes("value")),
        }
    });
    let stored = stored.collect();
    assert!(child.wait().unwrap().success(), "the decoder finds no damage");
    stored
}

/// Reads the stream `read` by the plan of the server at `client` and compares it with what the server answers: the
/// signature.
fn check(base: &str, stored: &[Stored], ca: Option<&Path>) -> String {
    let directory = temporary_directory();
    let mut arguments =
        vec![base.into(), "read".into(), "other".into(), directory.path().as_os_str().to_owned()];
    arguments.extend(ca.map(|ca| ca.as_os_str().to_owned()));
    let said = python("direct_reads.py", arguments);
    assert!(decoded(directory.path()) == stored, "the segments hold what the server answers");

    let segments = said["segments"].as_array().unwrap();
    let (open, sealed) = segments.split_last().unwrap();
    assert!(sealed.len() >= 2, "{segments:?}");
    let mut next = json!(0);
    for segment in segments {
        assert_eq!(segment["first_offset"], next);
        next = segment["next_offset"].clone();
    }
    assert_eq!((&next, &said["end_offset"], &said["next_offset"]), (&stored.len().into(), &next, &next));
    // A full segment ends with its seal, wherever the next request did not fit any more.
    let ends = |segment: &Value| {
        segment["end"]
            .as_u64()
            .is_some_and(|end| end.is_multiple_of(512) && (SEGMENT / 2..=SEGMENT).contains(&end))
    };
    assert!(sealed.iter().all(|segment| segment["sealed"] == true && ends(segment)), "{sealed:?}");
    assert!(open["sealed"] == false && open["end"].as_u64() < Some(SEGMENT), "{open}");
    assert_eq!(said["sealed_alone"], json!(vec![true; sealed.len()]));
    assert_eq!(said["sealed_until"], open["first_offset"]);
    for (what, refused) in said["refused"].as_object().unwrap() {
        assert_eq!(refused, true, "{what}");
    }
    let expires: jiff::Timestamp = said["expires"].as_str().unwrap().parse().unwrap();
    let left = expires.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((60 * 14..=60 * 15).contains(&left), "{left} s");
    said["sas"].as_str().unwrap().to_owned()
}

/// What makes a signature work; nothing of it belongs into a log.
fn signature(sas: &str) -> &str {
    sas.split('&').find_map(|pair| pair.strip_prefix("sig=")).unwrap()
}

#[test]
fn a_whole_stream_is_read_with_a_sas_of_the_accounts_key_which_the_leader_or_a_follower_gives() {
    let azurite = Azurite::shared();
    let setups = [(); 2]
        .map(|()| on_account(&azurite.connection_string(), "direct-", free_port()).with(["--log", "debug"]));
    let replicas = Replicas::start(setups);
    let (leader, follower) = replicas.settled();
    let stored = fill(&replicas.client(leader));
    for index in [leader, follower] {
        let sas = check(&format!("http://{}", replicas.addresses()[index]), &stored, None);
        assert!(
            sas.contains("sv=2022-11-02&sr=c&sp=r&")
                && sas.contains("spr=https%2Chttp")
                && !sas.contains("skoid")
        );
        let log = replicas.server(index).log();
        assert!(
            log.contains("direct reads are granted") && !log.contains(signature(&sas)),
            "no signature is logged"
        );
        assert!(!log.contains("sig="), "nor any other");
    }
    let client = replicas.client(follower);
    let end = stored.len();
    client.get(&format!("/streams/read/access?from={}", end + 1)).expect_problem(416, "beyond_tail");
    let tail = client.get(&format!("/streams/read/access?live=true&from={end}")).expect(200).json();
    assert_eq!((&tail["segments"], &tail["next_offset"]), (&json!([]), &end.into()));
    client.get("/streams/missing/access").expect_problem(404, "stream_not_found");
}

#[test]
fn an_identity_signs_with_a_key_that_azure_gives_it_and_that_lasts() {
    let certificates = Certificates::new();
    let (leaf, key, ca) = (certificates.path("leaf"), certificates.path("key"), certificates.path("ca"));
    let azurite = azurite::Setup::in_memory().https(&leaf, &key).start();
    let entra = TokenEndpoint::start(certificates.server(), |_| Verdict::Token(3_600));
    let token = certificates.path("token");
    std::fs::write(&token, "of the pod").unwrap();
    let server = Setup::bare()
        .with(["--storage", "azure:", "--prefix", "identity-", "--log-format", "human", "--log", "debug"])
        .with(["--listen", "127.0.0.1:0"])
        .environment("SSL_CERT_FILE", ca.to_str().unwrap())
        .environment("AZURE_STORAGE_BLOB_ENDPOINT", &azurite.endpoint())
        .environment("AZURE_AUTHORITY_HOST", &entra.url())
        .environment("AZURE_TENANT_ID", "long")
        .environment("AZURE_CLIENT_ID", "client-of-the-test")
        .environment("AZURE_FEDERATED_TOKEN_FILE", token.to_str().unwrap())
        .start();
    let stored = fill(&server.client());
    let sas = check(&format!("http://{}", server.address()), &stored, Some(&ca));
    assert!(sas.contains("&spr=https&skoid=") && sas.contains("&sks=b&"), "{sas}");
    let clients: Vec<_> =
        entra.of("long").iter().map(|exchange| exchange.get("client_id").to_owned()).collect();
    assert_eq!(clients, ["client-of-the-test"], "one token does for everything");
    let log = server.log();
    assert!(!log.contains("sig=") && !log.contains(signature(&sas)), "no signature is logged");
    let keys = log.matches("a new key to sign direct reads with").count();
    assert_eq!(keys, 1, "the key is used again");
}

#[test]
fn who_has_only_a_sas_or_files_gives_no_other() {
    let azurite = Azurite::shared();
    let sas = account_sas(azurite::ACCOUNT, "2100-01-01T00:00:00Z", "rwdlacup");
    let text = format!("BlobEndpoint={};SharedAccessSignature={sas}", azurite.endpoint());
    let on_sas = on_account(&text, "only-sas-", free_port()).start();
    let directory = temporary_directory();
    let on_files = Setup::in_directory(directory.path()).start();
    for (server, why) in [(on_sas, "shared access signature"), (on_files, "files")] {
        let client = server.client();
        client.append_text("stream", "x");
        let problem = client.get("/streams/stream/access").expect_problem(409, "no_direct_access");
        assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
    }
}
