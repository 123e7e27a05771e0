//! Certificates of authorities, by which others are trusted: PEM files.

use std::path::Path;

use reqwest::Certificate;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::limits::MAX_WATCHED_FILE_BYTES;
use crate::watched::read_bounded;

/// Reads a file of certificates.
///
/// # Errors
///
/// A sentence that names the file.
pub fn from_file(path: &Path) -> Result<Vec<Certificate>, String> {
    from_pem(&read_bounded(path, MAX_WATCHED_FILE_BYTES)?, path)
}

/// The certificates that `path` holds. One that cannot be read is an error and not passed over.
pub(crate) fn from_pem(pem: &[u8], path: &Path) -> Result<Vec<Certificate>, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| wrong(&error))?;
    if found.is_empty() {
        return Err(format!("{} holds no certificates as PEM", path.display()));
    }
    found.iter().map(|der| Certificate::from_der(der).map_err(|error| wrong(&error))).collect()
}
