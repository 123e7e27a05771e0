//! The access file as it stands on disk, looked at again and again. It is its content that counts: Kubernetes replaces
//! such files by changing a link, and their times say little.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::access::fetch::certificates;
use crate::access::file::{self, AccessFile};
use crate::limits::{ACCESS_FILE_BYTES, MAX_TOKEN_BYTES};

/// Reads a file of at most `most` bytes, or says in a sentence why not.
pub(super) fn read_bounded(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let mut content = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(most as u64 + 1).read_to_end(&mut content).map_err(cannot)?;
    if content.len() > most {
        return Err(format!("{} has more than {most} bytes", path.display()));
    }
    Ok(content)
}

/// What is found at a look: the content, or why there is none.
pub(super) type Found = Result<Vec<u8>, String>;

/// Parses what was found, and looks at the files that it names. It blocks.
pub(super) fn understand(path: &Path, found: &Found) -> Result<AccessFile, String> {
    let content = found.as_ref().map_err(|why| format!("--access: {why}"))?;
    let wrong = |why: String| format!("--access {}: {why}", path.display());
    let file = file::parse(content).map_err(wrong)?;
    for (index, issuer) in file.issuers.iter().enumerate() {
        let wrong = |field: &str, why: String| wrong(format!("issuers[{index}].{field}: {why}"));
        if let Some(path) = &issuer.ca_file {
            let pem = read_bounded(path, ACCESS_FILE_BYTES).map_err(|why| wrong("ca_file", why))?;
            certificates(&pem, path).map_err(|why| wrong("ca_file", why))?;
        }
        if let Some(path) = &issuer.token_file {
            read_bounded(path, MAX_TOKEN_BYTES).map_err(|why| wrong("token_file", why))?;
        }
    }
    Ok(file)
}

/// Looks at the file, and tells when it has changed.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) path: PathBuf,
    /// What was last taken notice of.
    settled: Found,
    /// What the last look found, where that is something else.
    seen: Option<Found>,
}

impl Watched {
    pub(super) fn new(path: PathBuf) -> Self {
        let settled = read_bounded(&path, ACCESS_FILE_BYTES);
        Self { path, settled, seen: None }
    }

    pub(super) fn settled(&self) -> &Found {
        &self.settled
    }

    /// Whether a look shows something new, for the second time: the first may have seen half of what is being written.
    pub(super) fn changed(&mut self, found: Found) -> bool {
        if found == self.settled {
            self.seen = None;
            return false;
        }
        if self.seen.as_ref() == Some(&found) {
            self.settled = found;
            self.seen = None;
            return true;
        }
        self.seen = Some(found);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_when_it_was_seen_twice() {
        let mut watched = Watched { path: PathBuf::new(), settled: Ok(b"a".to_vec()), seen: None };
        let mut look = |content: &str| watched.changed(Ok(content.as_bytes().to_vec()));
        assert!(!look("a"));
        assert!(!look("b") && look("b") && !look("b"));
        assert!(!look("c") && !look("d") && !look("c") && !look("b") && !look("c") && look("c"));
        assert!(!watched.changed(Err("gone".into())) && watched.changed(Err("gone".into())));
        assert!(!watched.changed(Err("gone".into())));
    }

    #[test]
    fn files_that_a_file_names_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca");
        let text = format!(
            "issuers:\n- url: https://a\n  audience: a\n  grants: []\n  ca_file: {}\n",
            path.display()
        );
        let wrong = || understand(Path::new("/access"), &Ok(text.clone().into_bytes())).unwrap_err();
        assert!(
            wrong().contains("--access /access: issuers[0].ca_file: ") && wrong().contains("cannot be read")
        );
        std::fs::write(&path, "no certificate").unwrap();
        assert!(wrong().contains("no certificates"), "{}", wrong());
        let gone =
            understand(Path::new("/access"), &read_bounded(Path::new("/does/not/exist"), 1)).unwrap_err();
        assert!(gone.contains("/does/not/exist cannot be read"), "{gone}");
    }
}
