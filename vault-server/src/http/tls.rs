//! TLS: the certificate and its key, from files that are read again when they change.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::watched::Watched;

/// What connections are encrypted with.
pub type Tls = Arc<Watched<ServerConfig>>;

/// HTTP/2 where the client offers it.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Reads a certificate chain and its key, both PEM. Fails with a sentence.
pub fn open(certificate: &Path, key: &Path) -> Result<Tls, String> {
    let names = (certificate.display().to_string(), key.display().to_string());
    let paths = vec![certificate.to_owned(), key.to_owned()];
    let parse = move |contents: &[Vec<u8>]| match contents {
        [certificate, key] => config(certificate, key, &names),
        _ => Err("a certificate and a key are needed".to_owned()),
    };
    Watched::open(paths, parse).map(Arc::new)
}

fn config(certificate: &[u8], key: &[u8], names: &(String, String)) -> Result<ServerConfig, String> {
    fn wrong(name: &str, why: impl fmt::Display) -> String {
        format!("{name}: {why}")
    }
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(&names.0, error))?;
    if chain.is_empty() {
        return Err(wrong(&names.0, "there is no certificate in it"));
    }
    // The error may repeat what it found, which may be a part of the key.
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| wrong(&names.1, "there is no private key in it that can be read"))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&names.0, error))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}
