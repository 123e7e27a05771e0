//! Names that could lead out of the vault, or that storage does not take. They are sent as they stand, past every
//! library that would tidy them up.

use std::collections::BTreeSet;
use std::path::Path;

use vault_tests::raw::request;
use vault_tests::server::{Setup, temporary_directory};

const BODY: &str = r#"{"messages":[{"value":"a"}]}"#;

fn entries(directory: &Path) -> BTreeSet<String> {
    let listed = std::fs::read_dir(directory).expect("it is there").map_while(Result::ok);
    listed.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Every way to name a stream with that name is refused, and nothing appears anywhere.
fn assert_refused(names: &[&str]) {
    let outside = temporary_directory();
    let root = outside.path().join("vault");
    let server = Setup::in_directory(&root).start();
    let (around, inside) = (entries(outside.path()), entries(&root));
    for name in names {
        let stream = format!("/streams/{name}");
        let messages = format!("{stream}/messages");
        let attempts = [
            ("PUT", &stream, ""),
            ("GET", &stream, ""),
            ("DELETE", &stream, ""),
            ("GET", &messages, ""),
            ("POST", &messages, BODY),
        ];
        for (method, target, body) in attempts {
            let (status, answer) = request(server.address(), method, target, body);
            // A name with a `/` is another route.
            let refused = status == 400 || (status == 404 && answer.contains("no_such_route"));
            assert!(refused && answer.contains(r#""side_effects":"none""#), "{method} {target}: {answer}");
            assert!(name.contains('/') || answer.contains("invalid_name"), "{method} {target}: {answer}");
        }
    }
    assert_eq!(entries(outside.path()), around, "nothing outside");
    assert_eq!(entries(&root), inside, "nothing inside");
    server.client().append_text("good-name-1", "the server goes on");
    assert!(entries(&root).contains("mv-good-name-1"));
}

#[test]
fn paths_that_lead_out_of_the_vault() {
    assert_refused(&["../escaped", "..", "../../etc/passwd", "a/../../b"]);
}

#[test]
fn paths_that_lead_out_once_they_are_decoded() {
    assert_refused(&[
        "..%2fescaped",
        "..%2Fescaped",
        "%2e%2e%2fescaped",
        "%2e%2e",
        "%2e",
        "a%2f..%2f..%2fb",
        "a%5cb",
        "a%00b",
        "%252e%252e",
    ]);
}

#[test]
fn characters_that_storage_does_not_take() {
    assert_refused(&["under_score", "Capitals", "CAPITALS", "d.o.t", "sp%20ace", "%C3%A4", "a~b", "%ff"]);
}

#[test]
fn hyphens_in_the_wrong_places() {
    assert_refused(&["-a", "a-", "a--b", "-"]);
}

#[test]
fn names_that_are_too_long_or_taken() {
    let characters = "x".repeat(64);
    // `mv-` and 61 characters make 64; `sys` is the vault's own.
    assert_refused(&[&characters, &characters[..61], "sys"]);
}
