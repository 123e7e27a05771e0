//! Requests over HTTP/1.1, with or without TLS.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::StreamExt;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, StatusCode};
use tokio::time::Instant;

use crate::error::{Error, SideEffects};
use crate::limits::{CONNECT_TIMEOUT, IDLE_CONNECTION, TOKEN_AGE};
use crate::transport::{Failed, RawAnswer, Transport};

/// What is shown to the servers. Its debug form does not show it.
#[derive(Default)]
pub(crate) enum Credentials {
    /// Nothing.
    #[default]
    None,
    /// Always the same.
    Fixed(HeaderValue),
    /// A bearer token in a file that somebody replaces before it runs out.
    File { path: PathBuf, read: Mutex<Option<(Instant, HeaderValue)>> },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Fixed(_) => "Fixed(..)",
            Self::File { .. } => "File(..)",
        })
    }
}

fn secret(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text).map_err(|_| "it is not printable text".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

impl Credentials {
    /// A bearer token.
    pub(crate) fn bearer(token: &str) -> Result<Self, Error> {
        let value = secret(&format!("Bearer {token}"));
        value
            .map(Self::Fixed)
            .map_err(|why| Error::Settings(format!("the bearer token cannot be sent: {why}")))
    }

    /// A name and a password.
    pub(crate) fn basic(user: &str, password: &str) -> Self {
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        let value = secret(&format!("Basic {encoded}")).expect("base64 is printable");
        Self::Fixed(value)
    }

    /// A file with a bearer token.
    pub(crate) fn file(path: PathBuf) -> Self {
        Self::File { path, read: Mutex::default() }
    }

    fn header(&self) -> Result<Option<HeaderValue>, String> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(value) => Ok(Some(value.clone())),
            Self::File { path, read } => {
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((when, value)) = read.as_ref()
                    && when.elapsed() < TOKEN_AGE
                {
                    return Ok(Some(value.clone()));
                }
                Self::read(path, &mut read)
            }
        }
    }

    /// What to show where a server did not take `refused`: the file may hold another token by now. `None` where it does not.
    fn newer_than(&self, refused: Option<&HeaderValue>) -> Option<HeaderValue> {
        let Self::File { path, read } = self else { return None };
        let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
        Self::read(path, &mut read).ok().flatten().filter(|value| Some(value) != refused)
    }

    fn read(path: &Path, read: &mut Option<(Instant, HeaderValue)>) -> Result<Option<HeaderValue>, String> {
        let text = std::fs::read_to_string(path);
        let fresh = text
            .map_err(|error| error.to_string())
            .and_then(|token| secret(&format!("Bearer {}", token.trim())))
            .map_err(|why| format!("the token in {} cannot be used: {why}", path.display()))?;
        *read = Some((Instant::now(), fresh.clone()));
        Ok(Some(fresh))
    }
}

/// The servers of a vault, by their URLs.
#[derive(Debug)]
pub(crate) struct HttpTransport {
    client: reqwest::Client,
    /// Without a slash at the end.
    endpoints: Vec<String>,
    credentials: Credentials,
}

impl HttpTransport {
    /// For the servers at these URLs, with authorities that are trusted besides those of the system.
    pub(crate) fn new(
        urls: &[String],
        credentials: Credentials,
        authorities: Vec<reqwest::Certificate>,
    ) -> Result<Self, Error> {
        let mut endpoints = Vec::new();
        for url in urls {
            if url.contains('@') {
                // It may be a password, and is not repeated.
                let reason = "a server's URL holds no name and no password: give those by themselves";
                return Err(Error::Settings(reason.to_owned()));
            }
            let parsed = reqwest::Url::parse(url)
                .map_err(|error| Error::Settings(format!("`{url}` is not a server's URL: {error}")))?;
            let plain = matches!(parsed.scheme(), "http" | "https") && parsed.has_host();
            if !plain || parsed.query().is_some() || parsed.fragment().is_some() {
                return Err(Error::Settings(format!(
                    "`{url}` is not a server's URL: give one such as http://127.0.0.1:8480"
                )));
            }
            endpoints.push(parsed.as_str().trim_end_matches('/').to_owned());
        }
        if endpoints.is_empty() {
            return Err(Error::Settings("no server was named".to_owned()));
        }
        let client = reqwest::Client::builder()
            .user_agent(concat!("message-vault-client/", env!("CARGO_PKG_VERSION")))
            // A connection of HTTP/2 would be shared by requests, and one that stalls would hold up the others.
            .http1_only()
            .tls_certs_merge(authorities)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_CONNECTION)
            .build()
            .map_err(|error| Error::Settings(format!("connections cannot be made: {}", cause(&error))))?;
        Ok(Self { client, endpoints, credentials })
    }

    async fn send_as(
        &self,
        index: usize,
        request: &Request<Bytes>,
        shown: Option<HeaderValue>,
    ) -> Result<reqwest::Response, Failed> {
        let url = format!("{}{}", self.endpoints[index], request.uri());
        let mut sending = self
            .client
            .request(request.method().clone(), url)
            .headers(request.headers().clone())
            .body(request.body().clone());
        if let Some(value) = shown {
            sending = sending.header(AUTHORIZATION, value);
        }
        sending.send().await.map_err(|error| {
            let sent = !(error.is_connect() || error.is_builder());
            let side_effects = if sent { SideEffects::Possible } else { SideEffects::None };
            Failed { reason: cause(&error.without_url()), side_effects }
        })
    }

    /// The connections, for requests to others: credentials are shown to the servers alone.
    pub(crate) fn connections(&self) -> reqwest::Client {
        self.client.clone()
    }
}

impl Transport for HttpTransport {
    fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    fn endpoint(&self, index: usize) -> &str {
        &self.endpoints[index]
    }

    fn send(&self, index: usize, request: Request<Bytes>) -> BoxFuture<'_, Result<RawAnswer, Failed>> {
        Box::pin(async move {
            let nothing_sent = |reason| Failed { reason, side_effects: SideEffects::None };
            let shown = self.credentials.header().map_err(nothing_sent)?;
            let mut response = self.send_as(index, &request, shown.clone()).await?;
            if response.status() == StatusCode::UNAUTHORIZED
                && let Some(newer) = self.credentials.newer_than(shown.as_ref())
            {
                response = self.send_as(index, &request, Some(newer)).await?;
            }
            let (status, headers) = (response.status(), response.headers().clone());
            let body =
                response.bytes_stream().map(|piece| piece.map_err(|error| cause(&error.without_url())));
            Ok(RawAnswer { status, headers, body: body.boxed() })
        })
    }
}

/// Why a request failed, in a few words: the innermost cause. The sentences around it only say at which layer that was.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    if error.is_connect() { format!("no connection: {innermost}") } else { innermost.to_string() }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What is said of a server that reads a request and answers it with these bytes.
    async fn said_of(answer: &'static [u8]) -> String {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut connection, _) = server.accept().await.unwrap();
            assert!(connection.read(&mut [0; 1_000]).await.unwrap() > 0);
            connection.write_all(answer).await.unwrap();
        });
        let said = said_by(&url).await;
        served.await.unwrap();
        said
    }

    async fn said_by(url: &str) -> String {
        let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await;
        let failed = match answer {
            Ok(answer) => answer.bytes().await.unwrap_err(),
            Err(error) => error,
        };
        cause(&failed.without_url())
    }

    #[tokio::test]
    async fn what_went_wrong_is_said_in_a_few_words() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let refused = said_by(&format!("http://{closed}")).await;
        assert_eq!(refused, "no connection: Connection refused (os error 111)");
        assert_eq!(said_of(b"").await, "connection closed before message completed");
        let broken_off = said_of(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234").await;
        assert_eq!(broken_off, "end of file before message length reached");
    }
}
