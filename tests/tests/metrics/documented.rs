//! The table of docs/metrics.md, row by row, against what a leader and a follower show; and the other way round.

use std::collections::{BTreeMap, BTreeSet};

use vault_tests::replicas::Replicas;
use vault_tests::server::temporary_directory;

use super::busy;
use super::exposition::{Family, families};

const DOCUMENTATION: &str = include_str!("../../../docs/metrics.md");

const HEAD: &str = "| name | type | labels | unit | meaning |";

/// The rows of all tables, which also say the unit.
fn documented() -> BTreeMap<String, (Family, String)> {
    let mut rows = BTreeMap::new();
    let mut lines = DOCUMENTATION.lines();
    while lines.by_ref().any(|line| line == HEAD) {
        for line in lines.by_ref().skip(1).take_while(|line| line.starts_with('|')) {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [name, kind, labels, unit, help] = cells[..] else { panic!("{line}") };
            let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
            let labels: BTreeSet<_> = labels.filter(|label| !label.is_empty()).collect();
            let family = Family { kind: kind.to_owned(), help: help.to_owned(), labels };
            let name = name.trim_matches('`').to_owned();
            assert!(
                rows.insert(name.clone(), (family, unit.to_owned())).is_none(),
                "{name} stands there twice"
            );
        }
    }
    rows
}

#[test]
fn the_table_is_what_servers_show_and_nothing_else() {
    let documented = documented();
    let directory = temporary_directory();
    let replicas = Replicas::in_directory(directory.path());
    let mut shown: BTreeMap<String, Family> = BTreeMap::new();
    for text in busy(&replicas) {
        for (name, family) in families(&text) {
            let known = shown.entry(name.clone()).or_insert_with(|| family.clone());
            assert_eq!((&known.kind, &known.help), (&family.kind, &family.help), "{name}");
            known.labels.extend(family.labels);
        }
    }
    for (name, family) in &shown {
        let (row, _) = documented.get(name).unwrap_or_else(|| panic!("{name} has no row: {family:?}"));
        assert_eq!(row, family, "{name}");
    }
    for name in documented.keys() {
        assert!(shown.contains_key(name), "no server shows {name}");
    }
}

#[test]
fn units_are_base_units_and_stand_in_the_names() {
    for (name, (_, unit)) in documented() {
        let stem = name.strip_suffix("_total").unwrap_or(&name);
        match unit.as_str() {
            "seconds" | "bytes" => assert!(stem.ends_with(&format!("_{unit}")), "{name} in {unit}"),
            _ => assert!(!stem.ends_with("_seconds") && !stem.ends_with("_bytes"), "{name} in {unit}"),
        }
    }
}
