//! Fetching the keys of an issuer: OpenID Connect Discovery 1.0, as far as verifying tokens needs it.

use std::path::{Path, PathBuf};

use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::{Client, Url};
use serde::Deserialize;

use crate::access::keys::KeySet;
use crate::access::texts::{IssuerUrl, may_be_asked};
use crate::authorities;
use crate::env::Env;
use crate::limits::{
    ISSUER_CONNECT, ISSUER_TIME, MAX_ISSUER_ANSWER_BYTES, MAX_TOKEN_BYTES, MAX_WATCHED_FILE_BYTES,
};
use crate::watched::read_bounded;

/// Where an issuer is, and how it is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) url: IssuerUrl,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Fetches the keys, or says in a sentence why there are none. Files are read anew each time, since they are replaced
/// while the server runs.
pub(super) async fn keys(env: &Env, place: &Place) -> Result<KeySet, String> {
    let fetched = env.timeout(ISSUER_TIME, try_keys(place)).await;
    fetched.unwrap_or_else(|_| Err(format!("it takes longer than {} s", ISSUER_TIME.as_secs())))
}

async fn try_keys(place: &Place) -> Result<KeySet, String> {
    let client = client(place).await?;
    let token = match &place.token_file {
        Some(path) => Some(read_token(path).await?),
        None => None,
    };
    let well_known = format!("{}/.well-known/openid-configuration", place.url.0.trim_end_matches('/'));
    let url = Url::parse(&well_known).map_err(|_| "its URL is none".to_owned())?;
    let found = get(&client, url, token.as_ref()).await.map_err(|why| format!("discovery: {why}"))?;
    let Discovery { issuer, jwks_uri } =
        serde_json::from_slice(&found).map_err(|_| "discovery: it does not name an issuer and its keys")?;
    if issuer != place.url.0 {
        return Err("discovery: it says that it is another issuer".to_owned());
    }
    let url = Url::parse(&jwks_uri).ok().filter(may_be_asked);
    let url = url.ok_or("discovery: its keys are not at an https URL")?;
    let found = get(&client, url, token.as_ref()).await.map_err(|why| format!("keys: {why}"))?;
    KeySet::parse(&found).map_err(|why| format!("keys: {why}"))
}

/// A client that trusts whom the place says, else whom this machine trusts.
/// What an issuer is asked for. Kubernetes gives its keys as a key set alone, and answers 406 to whoever does not take that.
const ACCEPTED: &str = "application/json, application/jwk-set+json";

async fn client(place: &Place) -> Result<Client, String> {
    let mut builder =
        Client::builder().connect_timeout(ISSUER_CONNECT).redirect(reqwest::redirect::Policy::none());
    if let Some(path) = &place.ca_file {
        let pem = read(path, MAX_WATCHED_FILE_BYTES).await?;
        builder = builder.tls_certs_only(authorities::from_pem(&pem, path)?);
    }
    builder.build().map_err(|error| format!("there can be no HTTPS client: {error}"))
}

/// A token as a header, from a file.
async fn read_token(path: &Path) -> Result<HeaderValue, String> {
    let bytes = read(path, MAX_TOKEN_BYTES).await?;
    let text = String::from_utf8_lossy(&bytes);
    let mut header = HeaderValue::try_from(format!("Bearer {}", text.trim()))
        .map_err(|_| format!("{} holds no token", path.display()))?;
    header.set_sensitive(true);
    Ok(header)
}

async fn read(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_bounded(&path, most)).await;
    read.unwrap_or_else(|_| Err("the server ends".to_owned()))
}

async fn get(client: &Client, url: Url, token: Option<&HeaderValue>) -> Result<Vec<u8>, String> {
    let mut request = client.get(url).header(ACCEPT, ACCEPTED);
    if let Some(token) = token {
        request = request.header(reqwest::header::AUTHORIZATION, token);
    }
    let mut answer = request.send().await.map_err(|error| told(&error.without_url()))?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("the answer is {status}"));
    }
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| told(&error.without_url()))? {
        if body.len() + piece.len() > MAX_ISSUER_ANSWER_BYTES {
            return Err(format!("the answer has more than {MAX_ISSUER_ANSWER_BYTES} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// An error with its causes, where the reason stands.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
