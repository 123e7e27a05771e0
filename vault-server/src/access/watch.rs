//! The access file as it stands on disk, and the files that it names.

use std::path::Path;

use crate::access::file::{self, AccessFile};
use crate::authorities;
use crate::limits::{MAX_TOKEN_BYTES, MAX_WATCHED_FILE_BYTES};
use crate::watched::read_bounded;

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
            let pem = read_bounded(path, MAX_WATCHED_FILE_BYTES).map_err(|why| wrong("ca_file", why))?;
            authorities::from_pem(&pem, path).map_err(|why| wrong("ca_file", why))?;
        }
        if let Some(path) = &issuer.token_file {
            read_bounded(path, MAX_TOKEN_BYTES).map_err(|why| wrong("token_file", why))?;
        }
    }
    Ok(file)
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
