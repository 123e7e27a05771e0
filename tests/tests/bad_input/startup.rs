//! Wrong settings and a port in use: the server ends at once, with one sentence that says what to do.

use std::time::Duration;

use vault_tests::server::{Setup, temporary_directory};

use crate::server;

const AT_ONCE: Duration = Duration::from_secs(10);

/// One line, for people, without the marks of a crash.
fn assert_one_sentence(stderr: &str) {
    assert_eq!(stderr.lines().filter(|line| !line.trim().is_empty()).count(), 1, "one sentence: {stderr:?}");
    for mark in ["panicked", "backtrace", "Usage", "thread '"] {
        assert!(!stderr.contains(mark), "{stderr}");
    }
}

#[test]
fn wrong_settings_end_it_with_2_and_a_sentence() {
    let directory = temporary_directory();
    let good = format!("file:{}", directory.path().display());
    // What is wrong, and what the sentence has to name.
    let wrong: &[(&[&str], &str)] = &[
        (&["--storage", "azure:"], "azure:"),
        (&["--storage", "file:"], "file:"),
        (&["--storage", ""], "storage"),
        (&["--storage", &good, "--prefix", "Upper-"], "Upper-"),
        (&["--storage", &good, "--prefix", &"x".repeat(61)], "63"),
        (&["--storage", &good, "--listen", "nonsense"], "nonsense"),
        (&["--storage", &good, "--listen", "0.0.0.0:0"], "--allow-anonymous"),
        (&["--storage", &good, "--listen", "[::]:0"], "--allow-anonymous"),
        (&["--storage", &good, "--max-message-bytes", "0"], "max-message-bytes"),
        (&["--storage", &good, "--max-message-bytes", "2097153"], "max-message-bytes"),
        (&["--storage", &good, "--append-timeout", "soon"], "append-timeout"),
        (&["--storage", &good, "--auto-create", "perhaps"], "auto-create"),
        (&["--storage", &good, "--log-format", "xml"], "log-format"),
        (&["--storage", &good, "--log", "="], "log"),
        (&["--storage", &good, "--colour", "red"], "--colour"),
        (&["--storage", &good, "stray"], "stray"),
    ];
    for (arguments, named) in wrong {
        let (code, stderr) = Setup::bare().with(arguments.iter()).run_to_end(AT_ONCE);
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert_one_sentence(&stderr);
        assert!(stderr.contains(named), "{arguments:?} must name {named}: {stderr}");
    }
}

#[test]
fn a_wrong_variable_is_named() {
    let (code, stderr) = Setup::bare().environment("MESSAGEVAULT_STORAGE", "floppy:a").run_to_end(AT_ONCE);
    assert_eq!(code, Some(2), "{stderr}");
    assert_one_sentence(&stderr);
    assert!(stderr.contains("floppy:a"), "{stderr}");
}

#[test]
fn a_port_in_use_ends_it_with_a_sentence() {
    let (server, _directory) = server();
    let other = temporary_directory();
    let address = server.address().to_string();
    let second = Setup::in_directory(other.path()).with(["--log", "error", "--listen", &address]);
    let listening_twice = second.run_to_end(AT_ONCE);
    // `--listen` stands twice on this command line unless the last one counts.
    assert!(matches!(listening_twice.0, Some(1 | 2)), "{}", listening_twice.1);
    assert_one_sentence(&listening_twice.1);
}
