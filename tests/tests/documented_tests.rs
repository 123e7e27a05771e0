//! What the documents name as the test that holds a sentence is a test. Tests are told by their names, of four words or
//! more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Documents that name tests, and how many they name at least.
const DOCUMENTS: [(&str, usize); 4] =
    [("README.md", 25), ("docs/reliability.md", 20), ("docs/simulation.md", 2), ("docs/fuzzing.md", 1)];

/// Where the packages are.
const PACKAGES: [&str; 5] = ["vault-format", "vault-server", "vault-client", "vault-operator", "tests"];

/// Folders whose tests do not run with the others: what is built, what is not ours, and what needs an account.
const ELSEWHERE: [&str; 3] = ["target", "node_modules", "account"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The names of tests in a document: what stands in backticks and is made of at least four words.
fn named(document: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let in_backticks = document.split('`').skip(1).step_by(2);
    in_backticks
        .filter(|name| name.chars().all(is_part) && name.split('_').count() >= 4)
        .map(str::to_owned)
        .collect()
}

/// The names of all functions in a source that are tests and run each time: attributes in front of them say so.
fn tests_in(source: &str, found: &mut BTreeSet<String>) {
    let (mut is_test, mut is_ignored) = (false, false);
    for line in source.lines().map(str::trim) {
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if line.starts_with("#[ignore") {
            is_ignored = true;
        } else if let Some(function) = function {
            let name = function.split('(').next().unwrap_or_default();
            if is_test && !is_ignored {
                found.insert(name.to_owned());
            }
            (is_test, is_ignored) = (false, false);
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            (is_test, is_ignored) = (false, false);
        }
    }
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("sources can be read") {
        let path = entry.expect("sources can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !ELSEWHERE.contains(&name) {
            collect(&path, found);
        } else if name.ends_with(".rs") {
            tests_in(&std::fs::read_to_string(&path).expect("a source is text"), found);
        }
    }
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let mut tests = BTreeSet::new();
    for package in PACKAGES {
        collect(&root().join(package), &mut tests);
    }
    for (document, at_least) in DOCUMENTS {
        let named = named(&std::fs::read_to_string(root().join(document)).expect("the document is there"));
        assert!(named.len() >= at_least, "{document} names {named:?}");
        let gone: Vec<_> = named.difference(&tests).collect();
        assert!(gone.is_empty(), "{document} names tests that are not there: {gone:?}");
    }
}

#[test]
fn a_name_counts_only_where_an_attribute_makes_it_a_test_that_runs() {
    let mut found = BTreeSet::new();
    let source = "#[test]\n/// Words.\n#[should_panic]\nfn one_two_three_four() {}\n\
                  fn five_six_seven_eight() {}\n    #[tokio::test]\n    async fn nine() {}\n\
                  #[test]\n#[ignore = \"why\"]\nfn ten() {}";
    tests_in(source, &mut found);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["nine", "one_two_three_four"]);
    let document = "`one_two_three_four`, `side_effects`, one_two_three_five and `a_b_c_D`";
    assert_eq!(named(document).into_iter().collect::<Vec<_>>(), ["one_two_three_four"]);
}
