//! The access files as they stand on disk, and the files that they name.

use std::path::{Path, PathBuf};

use crate::access::file::AccessFile;
use crate::authorities;
use crate::limits::{MAX_TOKEN_BYTES, MAX_WATCHED_FILE_BYTES};
use crate::watched::read_bounded;

/// What is found at a look at one file: the content, or why there is none.
pub(super) type Found = Result<Vec<u8>, String>;

/// Looks at the files. It blocks.
pub(super) fn look(paths: &[PathBuf]) -> Vec<Found> {
    paths.iter().map(|path| read_bounded(path, MAX_WATCHED_FILE_BYTES)).collect()
}

/// Parses what was found in these files, and looks at the files that they name. It blocks. Where one is wrong all are.
pub(super) fn understand(paths: &[PathBuf], found: &[Found]) -> Result<AccessFile, String> {
    let mut all = AccessFile::default();
    for (path, found) in paths.iter().zip(found) {
        join(&mut all, path, found)?;
    }
    Ok(all)
}

fn join(all: &mut AccessFile, path: &Path, found: &Found) -> Result<(), String> {
    let content = found.as_ref().map_err(|why| format!("--access: {why}"))?;
    let wrong = |why: String| format!("--access {}: {why}", path.display());
    let before = all.issuers.len();
    all.join(content).map_err(wrong)?;
    for (index, issuer) in all.issuers[before..].iter().enumerate() {
        let wrong = |field: &str, why: String| wrong(format!("issuers[{index}].{field}: {why}"));
        if let Some(path) = &issuer.ca_file {
            let pem = read_bounded(path, MAX_WATCHED_FILE_BYTES).map_err(|why| wrong("ca_file", why))?;
            authorities::from_pem(&pem, path).map_err(|why| wrong("ca_file", why))?;
        }
        if let Some(path) = &issuer.token_file {
            read_bounded(path, MAX_TOKEN_BYTES).map_err(|why| wrong("token_file", why))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_a_file_names_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca");
        let text = format!(
            "issuers:\n- url: https://a\n  audience: a\n  grants: []\n  ca_file: {}\n",
            path.display()
        );
        let paths = [PathBuf::from("/first"), PathBuf::from("/access")];
        let first = "issuers:\n- {url: 'https://first', audience: a, grants: []}\n".to_owned();
        let found = [Ok(first.into_bytes()), Ok(text.into_bytes())];
        let wrong = || understand(&paths, &found).unwrap_err();
        assert!(
            wrong().contains("--access /access: issuers[0].ca_file: ") && wrong().contains("cannot be read")
        );
        std::fs::write(&path, "no certificate").unwrap();
        assert!(wrong().contains("no certificates"), "{}", wrong());
        let gone = ["/does/not/exist".into()];
        let gone = understand(&gone, &look(&gone)).unwrap_err();
        assert!(gone.contains("/does/not/exist cannot be read"), "{gone}");
    }
}
