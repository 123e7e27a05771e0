//! What is wrong with a vault that the CRD's rules cannot see.

use std::collections::HashSet;

use super::{Options, access_file};
use crate::api::MessageVault;

/// The most bytes that the access file may have: a ConfigMap has 1 MiB, for its key too, and a server reads as much.
const MAX_ACCESS_FILE_BYTES: usize = (1 << 20) - 1_024;

/// Why no servers can be made of a vault as it is. Each is a sentence that says what to change.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unworkable {
    /// ServiceAccounts are named, and nobody knows who signs their tokens.
    #[error(
        "spec.access.serviceAccounts needs the issuer of this cluster's tokens, and the API server does not say what it \
         is: start the operator with --cluster-issuer"
    )]
    NoClusterIssuer,
    /// Two entries for one issuer.
    #[error(
        "spec.access.issuers[{index}].url is there before, or is this cluster's own issuer, which goes with spec.access.serviceAccounts: have one entry for {url}"
    )]
    IssuerTwice {
        /// Which entry is one too many.
        index: usize,
        /// The issuer.
        url: String,
    },
    /// The servers do not take the access file.
    #[error("spec.access is not what servers take: {0}")]
    Access(String),
    /// More grants than fit.
    #[error(
        "spec.access makes an access file of {bytes} bytes, and at most {MAX_ACCESS_FILE_BYTES} are allowed: grant to fewer, or with * to many at once"
    )]
    AccessTooLong {
        /// How long the file is.
        bytes: usize,
    },
}

/// Whether servers can be made of a vault.
///
/// # Errors
///
/// What its owner, or whoever runs the operator, has to change.
pub fn check(vault: &MessageVault, options: &Options) -> Result<(), Unworkable> {
    let access = &vault.spec.access;
    let mut seen = HashSet::new();
    if !access.service_accounts.is_empty() {
        let issuer = options.cluster_issuer.as_ref().ok_or(Unworkable::NoClusterIssuer)?;
        seen.insert(issuer.url.as_str());
    }
    for (index, issuer) in access.issuers.iter().enumerate() {
        if !seen.insert(&issuer.url) {
            return Err(Unworkable::IssuerTwice { index, url: issuer.url.clone() });
        }
    }
    let file = access_file::text(vault, options);
    if file.len() > MAX_ACCESS_FILE_BYTES {
        return Err(Unworkable::AccessTooLong { bytes: file.len() });
    }
    vault_server::access::check(&file).map_err(Unworkable::Access)
}
