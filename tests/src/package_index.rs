//! This machine's Debian package index, as real input: some 60,000 texts that nobody made up for a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::message::Message;

const LISTS: &str = "/var/lib/apt/lists";
const READER: &str = "/usr/lib/apt/apt-helper";

/// One message for each stanza of every `Packages` list: the package's name as key, the exact bytes as value.
#[must_use]
pub fn messages() -> Vec<Message> {
    let lists = lists(Path::new(LISTS));
    assert!(
        !lists.is_empty(),
        "there is no package index in {LISTS}: run ./tests/run, or `apt-get update` as root"
    );
    lists.iter().flat_map(|list| stanzas(&text(list))).collect()
}

fn lists(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map_while(Result::ok);
    let is_list = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name =
            name.rsplit_once('.').filter(|(_, end)| end.len() <= 4).map_or(name.as_str(), |(name, _)| name);
        name.ends_with("_Packages")
    };
    let mut lists: Vec<_> = entries.map(|entry| entry.path()).filter(is_list).collect();
    lists.sort();
    lists
}

/// Reads a list, however it is compressed.
fn text(list: &Path) -> Vec<u8> {
    let output = Command::new(READER).arg("cat-file").arg(list).output();
    let output =
        output.unwrap_or_else(|error| panic!("{READER} is needed to read the package index: {error}"));
    assert!(output.status.success(), "{}: {}", list.display(), String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn stanzas(text: &[u8]) -> Vec<Message> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        // An empty line ends a stanza and belongs to none; the last one may lack it.
        let end = rest.windows(2).position(|pair| pair == b"\n\n").map_or(rest.len(), |at| at + 1);
        let stanza = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        let first = stanza.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if let Some(name) = first.strip_prefix(b"Package: ") {
            out.push(Message::new(name, stanza));
        } else {
            assert!(stanza.iter().all(u8::is_ascii_whitespace), "{:?}", String::from_utf8_lossy(stanza));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_keep_their_bytes() {
        let text = b"Package: a\nVersion: 1\n\nPackage: b\nDescription: x\n y\n\n";
        let expected = [
            Message::new("a", "Package: a\nVersion: 1\n"),
            Message::new("b", "Package: b\nDescription: x\n y\n"),
        ];
        assert_eq!(stanzas(text), expected);
        assert_eq!(stanzas(&text[..text.len() - 1]), expected, "the last empty line may be missing");
    }
}
