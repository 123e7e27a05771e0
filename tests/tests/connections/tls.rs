//! TLS with certificates that change while the server runs.

use std::path::Path;
use std::time::Duration;

use vault_tests::certificates::Certificates;
use vault_tests::curl::{Answer, curl};
use vault_tests::raw;
use vault_tests::replicas::free_port;
use vault_tests::server::{Server, Setup, temporary_directory};
use vault_tests::wait::until;

/// Files are looked at every 2 s, and a change counts when it was seen twice.
const NOTICED: Duration = Duration::from_secs(15);

fn with_tls(setup: Setup, certificates: &Certificates) -> Setup {
    let [certificate, key] = ["leaf", "key"].map(|name| certificates.path(name));
    setup.with(["--tls-cert".into(), certificate.into_os_string(), "--tls-key".into(), key.into_os_string()])
}

fn ask(server: &Server, ca: &Path, more: &[&str]) -> Answer {
    let url = format!("https://localhost:{}/status", server.address().port());
    let ca = ca.to_str().expect("a temporary directory's path is text");
    curl(["--cacert", ca].iter().chain(more).copied().chain([url.as_str()]))
}

#[test]
fn both_versions_of_http_are_spoken() {
    let (certificates, directory) = (Certificates::new(), temporary_directory());
    let server = with_tls(Setup::in_directory(directory.path()), &certificates).start();
    let ca = certificates.path("ca");
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let answer = ask(&server, &ca, &[flag]);
        assert_eq!((answer.status, answer.version.as_str()), (200, version), "{answer:?}");
        assert!(answer.body.contains("\"advertise\":\"https://127.0.0.1:"), "{answer:?}");
    }
    assert_eq!(
        ask(&server, &ca, &["--tls-max", "1.1"]).status,
        0,
        "TLS 1.1 is broken and must not be spoken"
    );
}

#[test]
fn whoever_speaks_plain_http_is_told() {
    let (certificates, directory) = (Certificates::new(), temporary_directory());
    let server = with_tls(Setup::in_directory(directory.path()), &certificates).start();
    let (status, answer) = raw::request(server.address(), "GET", "/status", "");
    assert_eq!(status, 400);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "this port speaks TLS: use https://...\n");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
}

#[test]
fn a_new_certificate_comes_into_force_and_a_broken_one_does_not() {
    let (certificates, directory) = (Certificates::new(), temporary_directory());
    let server = with_tls(Setup::in_directory(directory.path()), &certificates).start();
    let ca = certificates.path("ca");
    let first = std::fs::read(&ca).unwrap();
    assert_eq!(ask(&server, &ca, &[]).status, 200);

    certificates.replace();
    until("the new certificate is served", NOTICED, || (ask(&server, &ca, &[]).status == 200).then_some(()));

    // The key of another certificate, no key, no file: what was there stays in force, and the server says so.
    let key = certificates.path("key");
    let good = std::fs::read(&key).unwrap();
    let trouble = || {
        let answer = ask(&server, &ca, &[]);
        assert_eq!(answer.status, 200, "the good certificate stays in force: {answer:?}");
        serde_json::from_str::<serde_json::Value>(&answer.body).unwrap()["tls_trouble"].clone()
    };
    assert!(trouble().is_null());
    std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n").unwrap();
    until("a broken key is noticed", NOTICED, || trouble().is_string().then_some(()));
    assert!(!server.log().contains("c2VjcmV0"), "a key is never logged");
    std::fs::remove_file(&key).unwrap();
    let gone = until("a missing key is noticed", NOTICED, || {
        trouble().as_str().filter(|why| why.contains("No such file")).map(str::to_owned)
    });
    assert!(gone.contains("stays in force"), "{gone}");
    std::fs::write(&key, good).unwrap();
    until("all is well again", NOTICED, || trouble().is_null().then_some(()));

    let old = certificates.path("old");
    std::fs::write(&old, first).unwrap();
    assert_eq!(ask(&server, &old, &[]).status, 0, "the first certificate is no longer served");
}

#[test]
fn wrong_files_end_the_start_with_2_and_a_sentence() {
    let (certificates, other) = (Certificates::new(), Certificates::new());
    let directory = temporary_directory();
    let path = |path: std::path::PathBuf| path.into_os_string().into_string().unwrap();
    let (leaf, key, foreign) =
        (path(certificates.path("leaf")), path(certificates.path("key")), path(other.path("key")));
    for (arguments, says) in [
        (vec!["--tls-cert", &leaf], "--tls-key"),
        (vec!["--tls-cert", &leaf, "--tls-key", &foreign], "leaf: "),
        (vec!["--tls-cert", &key, "--tls-key", &key], "there is no certificate in it"),
        (vec!["--tls-cert", &leaf, "--tls-key", &leaf], "there is no private key in it"),
        (vec!["--tls-cert", "/nowhere", "--tls-key", &key], "/nowhere cannot be read: No such file"),
        (vec!["--tls-ca", &key], "holds no certificates as PEM"),
    ] {
        let setup = Setup::in_directory(directory.path()).with(arguments.iter().map(|it| (*it).to_owned()));
        let (code, errors) = setup.run_to_end(Duration::from_secs(10));
        assert_eq!(code, Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(says) && errors.trim_end().lines().count() == 1, "{arguments:?}: {errors}");
    }
}

#[test]
fn a_follower_hands_on_over_tls() {
    let (certificates, directory) = (Certificates::new(), temporary_directory());
    let ca = certificates.path("ca");
    let start = || {
        let port = free_port();
        let setup = Setup::at(directory.path(), &format!("127.0.0.1:{port}"));
        let setup = setup.with([format!("--advertise=https://localhost:{port}"), "--tls-ca".to_owned()]);
        with_tls(setup.with([ca.clone()]), &certificates).start()
    };
    let (leader, follower) = (start(), start());
    let append = |server: &Server| {
        let url = format!("https://localhost:{}/streams/orders/messages", server.address().port());
        let ca = ca.to_str().unwrap();
        curl(["--cacert", ca, "--header", "Content-Type: text/plain", "--data", "hello", &url])
    };
    assert_eq!(append(&leader).status, 200);
    let handed_on = append(&follower);
    assert_eq!(handed_on.status, 200, "{handed_on:?}");
    assert!(handed_on.body.contains("\"first_offset\":1"), "{handed_on:?}");
    assert!(ask(&follower, &ca, &[]).body.contains("\"role\":\"follower\""));
}

#[test]
fn followers_may_know_certificates_by_another_name_than_the_address() {
    let (certificates, directory) = (Certificates::of(&["vault.shop.svc"]), temporary_directory());
    let ca = certificates.path("ca");
    let start = |name: Option<&str>| {
        let port = free_port();
        let setup = Setup::at(directory.path(), &format!("127.0.0.1:{port}"));
        let setup =
            setup.with(["--allow-anonymous".to_owned(), format!("--advertise=https://127.0.0.1:{port}")]);
        let setup = setup.with(name.map(|name| format!("--tls-name={name}")));
        with_tls(setup.with(["--tls-ca".into(), ca.clone().into_os_string()]), &certificates).start()
    };
    let append = |server: &Server| {
        let port = server.address().port();
        let url = format!("https://vault.shop.svc:{port}/streams/orders/messages");
        let resolved = format!("vault.shop.svc:{port}:127.0.0.1");
        let (ca, kind) = (ca.to_str().unwrap(), "Content-Type: text/plain");
        curl(["--cacert", ca, "--resolve", &resolved, "--header", kind, "--data", "hello", &url])
    };
    let leader = start(None);
    assert_eq!(append(&leader).status, 200);
    for (name, status) in [(None, 503), (Some("vault.shop.svc"), 200), (Some("other.shop.svc"), 503)] {
        let answer = append(&start(name));
        assert_eq!(answer.status, status, "{name:?}: {answer:?}");
    }
}
