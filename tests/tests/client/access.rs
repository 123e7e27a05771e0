//! Callers that the server asks who they are, over TLS too, and streams with a prefix.

use std::time::Duration;

use futures::StreamExt;
use vault_client::{Client, ClientBuilder, Settings};
use vault_tests::access::{AccessFile, token, user};
use vault_tests::certificates::Certificates;
use vault_tests::server::{Setup, temporary_directory};

use crate::{STREAM, at_fixed_port, url};

const GRANTS: [&str; 1] = ["all:admin"];
/// What argon2 goes through where its cost does not matter, in KiB.
const CHEAP: u32 = 64;
const SOON: Duration = Duration::from_secs(20);

async fn round_trip(client: &Client) -> Result<(), vault_client::Error> {
    client.create_stream(STREAM, &Settings::default()).await?;
    let producer = client.producer(STREAM).start()?;
    let stored = producer.send("hello").await.unwrap().await.unwrap();
    let mut reader = client.reader(STREAM).from(stored.offset).start();
    assert_eq!(reader.next().await.unwrap().unwrap().value(), b"hello");
    Ok(())
}

fn with(server: &str, build: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
    build(Client::builder(server).retry_time(Duration::from_secs(5))).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_and_passwords_are_shown_and_not_told() {
    let directory = temporary_directory();
    let access = temporary_directory();
    let all = format!("users:\n{}tokens:\n{}", user("ada", CHEAP, &GRANTS), token("old", &GRANTS));
    let file = AccessFile::new(access.path(), &all);
    let setup = at_fixed_port(directory.path());
    let server = setup.with(["--access".into(), file.path().into_os_string()]).start();
    let server_url = url(server.address());
    round_trip(&with(&server_url, |builder| builder.password("ada", "ada's password"))).await.unwrap();
    let bearer = with(&server_url, |builder| builder.bearer_token("old-token"));
    round_trip(&bearer).await.unwrap();
    for wrong in [
        with(&server_url, |builder| builder),
        with(&server_url, |builder| builder.password("ada", "not ada's secret")),
        with(&server_url, |builder| builder.bearer_token("some-other-secret")),
    ] {
        let error = round_trip(&wrong).await.unwrap_err();
        assert_eq!(error.code(), Some("unauthenticated"), "{error}");
        let told = format!("{error} {error:?} {wrong:?}");
        assert!(!told.contains("secret"), "{told}");
    }
    assert!(!format!("{bearer:?}").contains("old-token"));
    let builder = Client::builder(&server_url).bearer_token("a\nsecret").build();
    assert!(!format!("{:?}", builder.unwrap_err()).contains("secret"));
    for wrong in ["http://ada:secret@127.0.0.1:1", "http://:secret@127.0.0.1:1", "secret@x"] {
        let error = Client::connect(wrong).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_replaced_is_taken_from_its_file() {
    let directory = temporary_directory();
    let access = temporary_directory();
    let file = AccessFile::new(access.path(), &format!("tokens:\n{}", token("old", &GRANTS)));
    let setup = at_fixed_port(directory.path());
    let server = setup.with(["--access".into(), file.path().into_os_string()]).start();
    let shown = directory.path().join("token");
    std::fs::write(&shown, "old-token\n").unwrap();
    let client = with(&url(server.address()), |builder| builder.token_file(&shown));
    round_trip(&client).await.unwrap();
    let producer = client.producer(STREAM).start().unwrap();
    let mut reader = client.reader(STREAM).follow().start();
    reader.next().await.unwrap().unwrap();
    // First the file and then the server, sooner than it is looked at by itself.
    std::fs::write(&shown, "new-token\n").unwrap();
    file.replace(&format!("tokens:\n{}", token("new", &GRANTS)));
    let end = std::time::Instant::now() + SOON;
    loop {
        let old = with(&url(server.address()), |builder| builder.bearer_token("old-token"));
        match old.describe_stream(STREAM).await {
            Ok(_) => assert!(std::time::Instant::now() < end, "the server reads its file again"),
            Err(error) => break assert_eq!(error.code(), Some("unauthenticated")),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    producer.send("later").await.unwrap().await.unwrap();
    let next = tokio::time::timeout(SOON, reader.next()).await.unwrap();
    assert_eq!(next.unwrap().unwrap().value(), b"later");
    // A file that is away says so, and shows nothing.
    let away = with(&url(server.address()), |builder| {
        builder.token_file(directory.path().join("away")).retry_time(Duration::ZERO)
    });
    let error = away.describe_stream(STREAM).await.unwrap_err().to_string();
    assert!(error.contains("away"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_the_servers_authority_must_be_known() {
    let certificates = Certificates::new();
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path())
        .with(["--tls-cert".into(), certificates.path("leaf").into_os_string()])
        .with(["--tls-key".into(), certificates.path("key").into_os_string()])
        .start();
    let server_url = format!("https://localhost:{}", server.address().port());
    let ca = std::fs::read(certificates.path("ca")).unwrap();
    round_trip(&with(&server_url, |builder| builder.authorities(ca))).await.unwrap();
    let stranger = with(&server_url, |builder| builder.retry_time(Duration::ZERO));
    let error = round_trip(&stranger).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(error.side_effects(), vault_client::SideEffects::None);
    assert!(Client::builder(&server_url).authorities("nothing").build().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_stands_before_the_names_of_all_streams() {
    let directory = temporary_directory();
    let server = at_fixed_port(directory.path()).start();
    let all = crate::client(&server);
    let team = with(&url(server.address()), |builder| builder.stream_prefix("team-a-"));
    round_trip(&team).await.unwrap();
    all.create_stream("other", &Settings::default()).await.unwrap();
    let names = async |client: &Client| {
        let listed = client.list_streams("").await.unwrap();
        listed.into_iter().map(|stream| stream.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&team).await, ["team-a-load"]);
    assert_eq!(names(&all).await, ["other", "team-a-load"]);
    assert_eq!(all.describe_stream("team-a-load").await.unwrap().next_offset, Some(1));
    team.delete_stream(STREAM).await.unwrap();
    assert_eq!(names(&all).await, ["other"]);
    // Names are escaped: nobody gets out of their prefix.
    for name in ["../other", "x?from=0", "%2e%2e", "a/../../streams/other"] {
        let error = team.describe_stream(name).await.unwrap_err();
        assert_eq!(error.code(), Some("invalid_name"), "{name}: {error}");
    }
}
