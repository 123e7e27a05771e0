//! Certificates for this machine, of an authority that nobody knows but who is given its file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

use crate::server::temporary_directory;

/// This machine.
const LOCAL: [&str; 2] = ["localhost", "127.0.0.1"];

const MADE: &str = "the names are valid, and keys can be made";

/// An authority's certificate and one of its making, with its key, as PEM files in a directory of their own.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

impl Certificates {
    /// Of a new authority, for `localhost` and 127.0.0.1.
    #[must_use]
    pub fn new() -> Self {
        Self::of(&LOCAL)
    }

    /// Of a new authority, for these names alone.
    #[must_use]
    pub fn of(names: &[&str]) -> Self {
        let folder = temporary_directory();
        write(folder.path(), names);
        Self { folder }
    }

    /// Puts others in their places, of another authority, for `localhost` and 127.0.0.1.
    pub fn replace(&self) {
        write(self.folder.path(), &LOCAL);
    }

    /// Where `ca`, `leaf` and `key` are, and where more files may be put.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a server of TLS needs.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        let leaf = CertificateDer::from_pem_file(self.path("leaf")).expect(MADE);
        let key = PrivateKeyDer::from_pem_file(self.path("key")).expect(MADE);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.expect(MADE).with_no_client_auth().with_single_cert(vec![leaf], key);
        Arc::new(config.expect(MADE))
    }
}

fn write(folder: &Path, names: &[&str]) {
    let mut authority = CertificateParams::new(Vec::new()).expect(MADE);
    // Who has the same name as its authority counts as signed by itself.
    authority.distinguished_name.push(DnType::CommonName, "an authority of these tests");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect(MADE);
    let authority_pem = authority.self_signed(&authority_key).expect(MADE).pem();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut leaf = CertificateParams::new(names).expect(MADE);
    leaf.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    let key = KeyPair::generate().expect(MADE);
    let leaf_pem = leaf.signed_by(&key, &Issuer::new(authority, authority_key)).expect(MADE).pem();
    for (name, text) in [("ca", authority_pem), ("leaf", leaf_pem), ("key", key.serialize_pem())] {
        std::fs::write(folder.join(name), text).expect("there is room for small files");
    }
}
