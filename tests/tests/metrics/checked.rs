//! `promtool check metrics` has nothing to say.

use vault_tests::prometheus::complaints;
use vault_tests::replicas::Replicas;
use vault_tests::server::temporary_directory;

use super::busy;

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let directory = temporary_directory();
    let replicas = Replicas::in_directory(directory.path());
    for text in busy(&replicas) {
        assert_eq!(complaints(text.as_bytes()), "", "{text}");
    }
}

#[test]
fn promtool_would_complain() {
    let without_help = "# TYPE messagevault_things counter\nmessagevault_things 1\n";
    let said = complaints(without_help.as_bytes());
    assert!(said.contains("no help text") && said.contains("\"_total\" suffix"), "{said}");
    let said = complaints(b"this is no metric\n");
    assert!(said.contains("ended with Some(1)"), "{said}");
}
