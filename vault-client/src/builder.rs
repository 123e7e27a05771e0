//! How a client is made: which servers, as whom.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vault_format::limits::MAX_VALUE_BYTES;

use crate::client::Client;
use crate::error::Error;
use crate::http_transport::{Credentials, HttpTransport};

/// How a client is made; see [`Client::builder`].
#[derive(Debug)]
pub struct ClientBuilder {
    urls: Vec<String>,
    prefix: String,
    credentials: Result<Credentials, Error>,
    authorities: Vec<Vec<u8>>,
    retry_time: Option<Duration>,
    message_bytes: Option<usize>,
}

impl ClientBuilder {
    pub(crate) fn new(urls: Vec<String>) -> Self {
        Self {
            urls,
            prefix: String::new(),
            credentials: Ok(Credentials::None),
            authorities: Vec::new(),
            retry_time: None,
            message_bytes: None,
        }
    }

    /// Another server of the same vault, to turn to where the others do not answer.
    #[must_use]
    pub fn server(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// What is put in front of the name of every stream, such as `team-a-`. Streams without it are not seen.
    #[must_use]
    pub fn stream_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Shows a bearer token with each request.
    #[must_use]
    pub fn bearer_token(mut self, token: &str) -> Self {
        self.credentials = Credentials::bearer(token);
        self
    }

    /// Shows the bearer token that a file holds, such as the projected token of a Kubernetes ServiceAccount. It is read
    /// again every 30 s.
    #[must_use]
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.credentials = Ok(Credentials::file(path.into()));
        self
    }

    /// Shows a name and a password with each request.
    #[must_use]
    pub fn password(mut self, user: &str, password: &str) -> Self {
        self.credentials = Ok(Credentials::basic(user, password));
        self
    }

    /// Trusts the authorities whose certificates these are, PEM, besides those of the system.
    #[must_use]
    pub fn authorities(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities.push(pem.into());
        self
    }

    /// For how long a request is sent again that may succeed later: 60 s unless told otherwise. Zero: it is sent once.
    #[must_use]
    pub fn retry_time(mut self, time: Duration) -> Self {
        self.retry_time = Some(time);
        self
    }

    /// The longest value of one message that the servers take (their `--max-message-bytes`): 1 MiB unless told otherwise, at
    /// most 2 MiB. Longer values travel as several messages.
    #[must_use]
    pub fn message_bytes(mut self, bytes: usize) -> Self {
        self.message_bytes = Some(bytes.clamp(1, MAX_VALUE_BYTES));
        self
    }

    /// The client. Connections are made when they are needed. Fails where a URL, a token or a certificate
    /// is wrong.
    pub fn build(self) -> Result<Client, Error> {
        let mut authorities = Vec::new();
        for pem in &self.authorities {
            let read = reqwest::Certificate::from_pem_bundle(pem).unwrap_or_default();
            if read.is_empty() {
                return Err(Error::Settings("a file of authorities holds no certificate in PEM".to_owned()));
            }
            authorities.extend(read);
        }
        let transport = HttpTransport::new(&self.urls, self.credentials?, authorities)?;
        let storage = Some(transport.connections());
        Ok(Client::over(Arc::new(transport), storage, self.prefix, self.retry_time, self.message_bytes))
    }
}
