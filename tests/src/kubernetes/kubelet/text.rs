//! What happens to the texts of a pod before its program gets them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// How a program is told to listen at all addresses of its machine.
const ANY: [&str; 2] = ["[::]:", "0.0.0.0:"];

/// Where what a container sees at a path really is.
#[derive(Clone, Debug, Default)]
pub(super) struct Mounts(Vec<(String, PathBuf)>);

impl Mounts {
    pub(super) fn add(&mut self, path: &str, target: PathBuf) {
        self.0.push((path.trim_end_matches('/').to_owned(), target));
        // The longest are looked for first: one may lie in another.
        self.0.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    }

    pub(super) fn extend(&mut self, others: Self) {
        others.0.into_iter().for_each(|(path, target)| self.add(&path, target));
    }

    /// What is seen at exactly this path.
    pub(super) fn at(&self, path: &str) -> Option<&PathBuf> {
        self.0.iter().find(|(seen, _)| seen == path).map(|(_, target)| target)
    }

    /// The text with real paths in the place of those that a container would see.
    pub(super) fn rewrite(&self, text: &str) -> String {
        let part_of_name = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let mut rewritten = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let before = rewritten.chars().next_back();
            let begins = !before.is_some_and(|c| part_of_name(c) || c == '/');
            let found = self.0.iter().filter(|_| begins && next == '/').find(|(path, _)| {
                rest.strip_prefix(path.as_str()).is_some_and(|behind| !behind.starts_with(part_of_name))
            });
            let length = if let Some((path, target)) = found {
                rewritten.push_str(&target.to_string_lossy());
                path.len()
            } else {
                rewritten.push(next);
                next.len_utf8()
            };
            rest = &rest[length..];
        }
        rewritten
    }
}

/// The text with the values of `$(NAME)`. Names that are not known stay as they are, and `$$` stands for `$`.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        if let Some(behind) = behind.strip_prefix('$') {
            expanded.push('$');
            rest = behind;
        } else if let Some((name, behind)) = behind.strip_prefix('(').and_then(|text| text.split_once(')')) {
            match variables.get(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = behind;
        } else {
            expanded.push('$');
            rest = behind;
        }
    }
    expanded + rest
}

/// The text with the pod's address in the place of all addresses of a machine: this one's are not the pod's alone.
pub(super) fn at_own_address(text: &str, ip: IpAddr) -> String {
    let part_of_other = |c: char| c.is_ascii_digit() || c == '.';
    ANY.iter().fold(text.to_owned(), |text, any| {
        let mut parts = text.split(any);
        let mut replaced = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let other = replaced.ends_with(part_of_other);
            replaced.push_str(&if other { (*any).to_owned() } else { format!("{ip}:") });
            replaced.push_str(part);
        }
        replaced
    })
}

#[cfg(test)]
mod tests {
    use super::{Mounts, at_own_address, expand};

    #[test]
    fn pods_listen_at_their_own_addresses() {
        let ip = [127, 64, 0, 1].into();
        for (text, expected) in [
            ("--listen=[::]:8480", "--listen=127.64.0.1:8480"),
            ("0.0.0.0:80,0.0.0.0:81", "127.64.0.1:80,127.64.0.1:81"),
            ("10.0.0.0:80 0.0.0.0 [::1]:80", "10.0.0.0:80 0.0.0.0 [::1]:80"),
        ] {
            assert_eq!(at_own_address(text, ip), expected);
        }
    }

    #[test]
    fn paths_are_replaced_where_they_stand_whole() {
        let mut mounts = Mounts::default();
        mounts.add("/data", "/tmp/a".into());
        mounts.add("/data/more/", "/tmp/b".into());
        for (text, expected) in [
            ("/data", "/tmp/a"),
            ("file:/data", "file:/tmp/a"),
            ("--a=/data/x,/data/more/y", "--a=/tmp/a/x,/tmp/b/y"),
            ("/database /x/data /data.old https://h/data", "/database /x/data /data.old https://h/data"),
        ] {
            assert_eq!(mounts.rewrite(text), expected);
        }
    }

    #[test]
    fn variables_are_expanded_as_kubernetes_does_it() {
        let variables = [("A".to_owned(), "1".to_owned())].into();
        for (text, expected) in
            [("$(A):2", "1:2"), ("$$(A)", "$(A)"), ("$(B) $A $", "$(B) $A $"), ("$(A", "$(A")]
        {
            assert_eq!(expand(text, &variables), expected);
        }
    }
}
