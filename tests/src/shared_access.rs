//! Shared access signatures for an account whose key is known, as Azure's documentation of account SAS has them.

use azure_core::credentials::Secret;
use azure_core::hmac::hmac_sha256;
use azure_core::http::Url;

/// A signature that lets in for everything in an account's blob service until `expiry` (RFC 3339), as far as
/// `permissions` go: what stands behind the `?` of a URL. `account` is its name and its key in base64.
#[must_use]
pub fn account_sas(account: (&str, &str), expiry: &str, permissions: &str) -> String {
    let (version, services, types) = ("2022-11-02", "b", "sco");
    let (name, key) = account;
    let text = format!("{name}\n{permissions}\n{services}\n{types}\n\n{expiry}\n\n\n{version}\n\n");
    let signature = hmac_sha256(&text, &Secret::new(key.to_owned())).expect("the key is base64");
    let mut url = Url::parse("http://x/").expect("a URL");
    url.query_pairs_mut().extend_pairs([
        ("sv", version),
        ("ss", services),
        ("srt", types),
        ("sp", permissions),
        ("se", expiry),
        ("sig", signature.as_str()),
    ]);
    url.query().expect("parameters were added").to_owned()
}
