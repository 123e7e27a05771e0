//! The text of `/metrics`, taken apart.

use std::collections::{BTreeMap, BTreeSet};

/// What a family is said to be, and the labels of its series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) labels: BTreeSet<String>,
}

/// Every family, by name. What a histogram adds to names, and its `le`, is left out.
pub(crate) fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            let (name, help) = said.split_once(' ').unwrap();
            families.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some(said) = line.strip_prefix("# TYPE ") {
            let (name, kind) = said.split_once(' ').unwrap();
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else {
            let (name, labels) = series(line);
            let stems = ["_bucket", "_sum", "_count"].map(|end| name.strip_suffix(end));
            let stem = stems
                .into_iter()
                .flatten()
                .find(|stem| families.get(*stem).is_some_and(|family| family.kind == "histogram"));
            let name = stem.unwrap_or(&name);
            let family = families.get_mut(name).unwrap_or_else(|| panic!("{name} is not introduced"));
            family.labels.extend(labels.into_iter().filter(|label| stem.is_none() || label != "le"));
        }
    }
    families
}

/// The name of a series and those of its labels.
fn series(line: &str) -> (String, Vec<String>) {
    let Some((name, rest)) = line.split_once('{') else {
        return (line.split(' ').next().unwrap().to_owned(), Vec::new());
    };
    // Values hold braces and commas, but no quotation marks here.
    let names = rest.split('"').step_by(2).filter_map(|part| part.strip_suffix('='));
    (name.to_owned(), names.map(|name| name.trim_start_matches(',').to_owned()).collect())
}
