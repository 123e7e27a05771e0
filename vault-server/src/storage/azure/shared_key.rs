//! Signs requests with an account key, which the SDK does not.
//!
//! The text to sign is that of "Authorize with Shared Key" in Azure's REST documentation, for the blob service from
//! version 2015-02-21 on.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::credentials::Secret;
use azure_core::error::ErrorKind;
use azure_core::hmac::hmac_sha256;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Context, Method, Request, Url};
use azure_core::time::{OffsetDateTime, to_rfc7231};

use crate::env::Env;

/// The headers whose values are signed without their names, in this order. `date` stays empty: `x-ms-date` replaces it.
const STANDARD_HEADERS: [&str; 11] = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// Adds date and signature to every request.
#[derive(Debug)]
pub(super) struct SharedKey {
    account: String,
    key: Secret,
    env: Env,
}

impl SharedKey {
    pub(super) fn new(account: &str, key: Secret, env: Env) -> Self {
        Self { account: account.to_owned(), key, env }
    }

    fn sign(&self, request: &mut Request) -> azure_core::Result<()> {
        let seconds = i64::try_from(self.env.clock.now().0 / 1_000).unwrap_or(i64::MAX);
        let now = OffsetDateTime::from_unix_timestamp(seconds)
            .map_err(|error| azure_core::Error::new(ErrorKind::Other, error))?;
        request.insert_header("x-ms-date", to_rfc7231(&now));
        let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let text = text_to_sign(request.method(), &headers, request.url(), &self.account);
        let signature = hmac_sha256(&text, &self.key)?;
        request.insert_header("authorization", format!("SharedKey {}:{signature}", self.account));
        Ok(())
    }
}

#[expect(elided_lifetimes_in_paths, reason = "as in the trait, which the SDK declares so")]
#[async_trait]
impl Policy for SharedKey {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        self.sign(request)?;
        next[0].send(context, request, &next[1..]).await
    }
}

/// `headers` by their names in lower case, which sorts them as well.
fn text_to_sign(method: Method, headers: &BTreeMap<&str, &str>, url: &Url, account: &str) -> String {
    let mut text = method.to_string();
    for name in STANDARD_HEADERS {
        let value = headers.get(name).copied().unwrap_or_default();
        // A length of 0 is signed as none at all.
        text.push('\n');
        text.push_str(if name == "content-length" && value == "0" { "" } else { value });
    }
    text.push('\n');
    for (name, value) in headers.iter().filter(|(name, _)| name.starts_with("x-ms-")) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}:{}", value.trim());
    }
    // Behind an endpoint with the account in its path, as an emulator has it, the account stands here twice.
    let _ = write!(text, "/{account}{}", url.path());
    let mut query: BTreeMap<String, Vec<Cow<'_, str>>> = BTreeMap::new();
    for (name, value) in url.query_pairs() {
        query.entry(name.to_lowercase()).or_default().push(value);
    }
    for (name, mut values) in query {
        values.sort_unstable();
        let _ = write!(text, "\n{name}:{}", values.join(","));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example for Put Blob in Azure's documentation, with the account's name as it stands there.
    #[test]
    fn the_documented_example_is_signed_as_documented() {
        let headers = BTreeMap::from([
            ("content-length", "11"),
            ("content-type", "text/plain; charset=UTF-8"),
            ("x-ms-blob-type", "BlockBlob"),
            ("x-ms-date", "Sun, 25 Sep 2011 14:36:30 GMT"),
            ("x-ms-meta-m1", "v1"),
            ("x-ms-version", "2009-09-19"),
            ("user-agent", "is not signed"),
        ]);
        let url = Url::parse("https://myaccount.blob.core.windows.net/mycontainer/b%20c?timeout=20").unwrap();
        assert_eq!(
            text_to_sign(Method::Put, &headers, &url, "myaccount"),
            "PUT\n\n\n11\n\ntext/plain; charset=UTF-8\n\n\n\n\n\n\nx-ms-blob-type:BlockBlob\n\
             x-ms-date:Sun, 25 Sep 2011 14:36:30 GMT\nx-ms-meta-m1:v1\nx-ms-version:2009-09-19\n\
             /myaccount/mycontainer/b%20c\ntimeout:20"
        );
    }

    #[test]
    fn an_account_in_the_path_is_signed_twice_and_the_query_sorted_and_decoded() {
        let url =
            Url::parse("http://127.0.0.1:1/dev/c?restype=container&comp=list&Prefix=a%2Fb&x=2&x=1").unwrap();
        let headers =
            BTreeMap::from([("content-length", "0"), ("range", "bytes=0-1"), ("x-ms-b", " padded ")]);
        assert_eq!(
            text_to_sign(Method::Get, &headers, &url, "dev"),
            "GET\n\n\n\n\n\n\n\n\n\n\nbytes=0-1\nx-ms-b:padded\n/dev/dev/c\ncomp:list\nprefix:a/b\n\
             restype:container\nx:1,2"
        );
    }

    #[test]
    fn the_key_is_not_shown() {
        let policy = SharedKey::new("dev", Secret::new("SECRET"), Env::real());
        assert!(!format!("{policy:?}").contains("SECRET"));
    }
}
