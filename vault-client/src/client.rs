//! The client: which servers, as whom, with which streams; one request at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, Request, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use vault_format::ids::{Offset, Timestamp};

use crate::builder::ClientBuilder;
use crate::error::{Error, Problem, SideEffects};
use crate::limits::{DEFAULT_MESSAGE_BYTES, DEFAULT_RETRY_TIME, LONGEST_RETRY_AFTER, STREAMS_AT_ONCE};
use crate::producer::ProducerBuilder;
use crate::reader::ReaderBuilder;
use crate::retry::Retries;
use crate::run::Run;
use crate::streams::{Created, Description, Page, Settings, Summary};
use crate::transport::{Answer, Transport, nonsense};

/// What a path or a query holds as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Speaks to the servers of one vault. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    transport: Arc<dyn Transport>,
    /// What segments are read with from Blob storage; none where that cannot be.
    storage: Option<reqwest::Client>,
    /// The server that answered last.
    current: AtomicUsize,
    prefix: String,
    retry_time: Duration,
    message_bytes: usize,
}

/// What an append did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(from = "AppendAnswer")]
#[non_exhaustive]
pub struct Appended {
    /// The offset of the first message.
    pub first_offset: Offset,
    /// The offset behind the last one.
    pub next_offset: Offset,
    /// When they were appended, in ms since 1970, UTC.
    pub timestamp: Timestamp,
}

#[derive(Deserialize)]
struct AppendAnswer {
    first_offset: u64,
    next_offset: u64,
    timestamp: u64,
}

impl From<AppendAnswer> for Appended {
    fn from(answer: AppendAnswer) -> Self {
        Self {
            first_offset: Offset(answer.first_offset),
            next_offset: Offset(answer.next_offset),
            timestamp: Timestamp(answer.timestamp),
        }
    }
}

/// A producer's id, epoch and the number of one of its requests.
#[derive(Clone, Debug)]
pub(crate) struct Stamped<'a> {
    pub(crate) producer: &'a str,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
}

/// An answer that has come whole.
struct Document {
    status: StatusCode,
    endpoint: String,
    body: Bytes,
}

impl Document {
    fn parse<T: DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| nonsense(self.endpoint, error))
    }
}

/// When a request may be sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Repeat {
    /// Whenever it may succeed later: it does the same however often it comes.
    Always,
    /// Only where it was not carried out for sure.
    IfNotDone,
}

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:8480`.
    pub fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// A client of the servers at `urls`: one, or several with commas between.
    #[must_use]
    pub fn builder(urls: &str) -> ClientBuilder {
        let urls = urls.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned);
        ClientBuilder::new(urls.collect())
    }

    pub(crate) fn over(
        transport: Arc<dyn Transport>,
        storage: Option<reqwest::Client>,
        prefix: String,
        retry_time: Option<Duration>,
        message_bytes: Option<usize>,
    ) -> Self {
        Self(Arc::new(Inner {
            transport,
            storage,
            current: AtomicUsize::new(0),
            prefix,
            retry_time: retry_time.unwrap_or(DEFAULT_RETRY_TIME),
            message_bytes: message_bytes.unwrap_or(DEFAULT_MESSAGE_BYTES),
        }))
    }

    /// A producer for a stream: buffers, batches, and sends again what may succeed later.
    #[must_use]
    pub fn producer(&self, stream: &str) -> ProducerBuilder {
        ProducerBuilder::new(self.clone(), stream)
    }

    /// A reader of a stream, from its first message on unless told otherwise.
    #[must_use]
    pub fn reader(&self, stream: &str) -> ReaderBuilder {
        ReaderBuilder::new(self.clone(), stream)
    }

    /// Creates a stream, or confirms that it has these settings. Fails with `other_settings` where it has others.
    pub async fn create_stream(&self, stream: &str, settings: &Settings) -> Result<Created, Error> {
        let body = serde_json::to_vec(settings).expect("settings are numbers and words").into();
        let request = self.request(Method::PUT, &self.path(stream, "")?, JSON, &[], body);
        let answer = self.call(&request, Repeat::Always).await?;
        Ok(if answer.status == StatusCode::CREATED { Created::New } else { Created::Existing })
    }

    /// Changes the settings that are given.
    pub async fn change_stream(&self, stream: &str, settings: &Settings) -> Result<Summary, Error> {
        let body = serde_json::to_vec(settings).expect("settings are numbers and words").into();
        let request = self.request(Method::PATCH, &self.path(stream, "")?, JSON, &[], body);
        self.json(&request, Repeat::Always).await
    }

    /// Describes a stream.
    pub async fn describe_stream(&self, stream: &str) -> Result<Description, Error> {
        self.get(&self.path(stream, "")?).await
    }

    /// Deletes a stream and all its messages.
    pub async fn delete_stream(&self, stream: &str) -> Result<(), Error> {
        let request = self.request(Method::DELETE, &self.path(stream, "")?, JSON, &[], Bytes::new());
        let mut retries = Retries::new(Some(self.0.retry_time));
        let mut may_be_done = false;
        loop {
            let error = match self.attempt(&request, Duration::ZERO).await {
                Ok(_) => return Ok(()),
                // Ours, whose answer got lost.
                Err(error) if may_be_done && error.code() == Some("stream_not_found") => return Ok(()),
                Err(error) => error,
            };
            may_be_done |= error.side_effects() == SideEffects::Possible;
            retries.pause(error).await?;
        }
    }

    /// All streams whose names begin with the client's prefix and `prefix`, in the order of their names.
    pub async fn list_streams(&self, prefix: &str) -> Result<Vec<Summary>, Error> {
        let mut streams = Vec::new();
        let wanted = encode(&format!("{}{prefix}", self.0.prefix));
        let mut after = String::new();
        loop {
            let path = format!("/streams?prefix={wanted}&limit={STREAMS_AT_ONCE}{after}");
            let page: Page = self.get(&path).await?;
            streams.extend(page.streams);
            match page.next_start_after {
                Some(last) => after = format!("&start_after={}", encode(&last)),
                None => return Ok(streams),
            }
        }
    }

    /// Appends a run of messages, together or not at all. With `expected_offset` only if that is the stream's next offset,
    /// else `offset_mismatch`. It is sent again only where it was not carried out for sure: [`Client::producer`] makes
    /// requests that are stored once however often they are sent.
    pub async fn append(
        &self,
        stream: &str,
        run: Run,
        expected_offset: Option<Offset>,
    ) -> Result<Appended, Error> {
        let request = self.append_request(stream, &run.into_records(), expected_offset, None)?;
        self.json(&request, Repeat::IfNotDone).await
    }

    /// What a server says of itself: `/status` as it stands in the documentation of the HTTP API.
    pub async fn status(&self) -> Result<Value, Error> {
        self.get("/status").await
    }

    /// What the name of a stream is on the servers.
    #[must_use]
    pub fn full_name(&self, stream: &str) -> String {
        format!("{}{stream}", self.0.prefix)
    }

    /// What is put in front of the names of streams.
    #[must_use]
    pub fn stream_prefix(&self) -> &str {
        &self.0.prefix
    }

    pub(crate) fn storage(&self) -> Option<reqwest::Client> {
        self.0.storage.clone()
    }

    pub(crate) fn message_bytes(&self) -> usize {
        self.0.message_bytes
    }

    /// The wall clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.transport.now()
    }

    pub(crate) fn retry_time(&self) -> Duration {
        self.0.retry_time
    }

    /// The path of something below a stream.
    pub(crate) fn path(&self, stream: &str, below: &str) -> Result<String, Error> {
        let name = self.full_name(stream);
        // Dots alone would be a way up, however they are escaped.
        if name.bytes().all(|byte| byte == b'.') {
            return Err(Error::Settings(format!("`{name}` is not the name of a stream")));
        }
        Ok(format!("/streams/{}{below}", encode(&name)))
    }

    pub(crate) fn append_request(
        &self,
        stream: &str,
        records: &Bytes,
        expected_offset: Option<Offset>,
        stamped: Option<&Stamped<'_>>,
    ) -> Result<Request<Bytes>, Error> {
        let mut path = self.path(stream, "/messages")?;
        if let Some(offset) = expected_offset {
            path = format!("{path}?expected_offset={offset}");
        }
        let mut headers = Vec::new();
        if let Some(Stamped { producer, epoch, sequence }) = stamped {
            headers.push(("producer-id", (*producer).to_owned()));
            headers.push(("producer-epoch", epoch.to_string()));
            headers.push(("producer-seq", sequence.to_string()));
        }
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Ok(self.request(Method::POST, &path, RECORDS, &headers, records.clone()))
    }

    /// A request for JSON. Paths and headers are made of what was checked or escaped.
    fn request(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Request<Bytes> {
        let mut request = Request::builder().method(method).uri(path).header(ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).expect("paths are escaped, and headers are checked where they are given")
    }

    /// A request for stored batches.
    pub(crate) fn batches_request(&self, path: &str) -> Request<Bytes> {
        let request = Request::builder().uri(path).header(ACCEPT, BATCHES);
        request.body(Bytes::new()).expect("paths are escaped")
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let request = self.request(Method::GET, path, JSON, &[], Bytes::new());
        self.json(&request, Repeat::Always).await
    }

    async fn json<T: DeserializeOwned>(&self, request: &Request<Bytes>, repeat: Repeat) -> Result<T, Error> {
        self.call(request, repeat).await?.parse()
    }

    async fn call(&self, request: &Request<Bytes>, repeat: Repeat) -> Result<Document, Error> {
        let mut retries = Retries::new(Some(self.0.retry_time));
        loop {
            match self.attempt_document(request).await {
                Ok(document) => return Ok(document),
                Err(error)
                    if repeat == Repeat::IfNotDone && error.side_effects() == SideEffects::Possible =>
                {
                    return Err(error);
                }
                Err(error) => retries.pause(error).await?,
            }
        }
    }

    /// One append, sent once.
    pub(crate) async fn try_append(&self, request: &Request<Bytes>) -> Result<Appended, Error> {
        self.attempt_document(request).await?.parse()
    }

    /// Asks for something once.
    pub(crate) async fn try_get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let request = self.request(Method::GET, path, JSON, &[], Bytes::new());
        self.attempt_document(&request).await?.parse()
    }

    /// Sends a request once and takes the whole answer: one that breaks off is as good as none.
    async fn attempt_document(&self, request: &Request<Bytes>) -> Result<Document, Error> {
        let answer = self.attempt(request, Duration::ZERO).await?;
        let (status, index, endpoint) = (answer.status, answer.index, answer.endpoint.clone());
        let body = answer.document().await.inspect_err(|_| self.turn_away_from(index))?;
        Ok(Document { status, endpoint, body })
    }

    /// Sends a request once, to the server that answered last, which is asked to wait for `wait`. Where that one cannot serve
    /// now, the next request goes to another.
    pub(crate) async fn attempt(&self, request: &Request<Bytes>, wait: Duration) -> Result<Answer, Error> {
        let index = self.0.current.load(Ordering::Relaxed) % self.0.transport.endpoints();
        let outcome = match Answer::to(&*self.0.transport, index, request.clone(), wait).await {
            Ok(answer) if answer.status.is_success() => Ok(answer),
            Ok(answer) => Err(refusal(answer).await),
            Err(error) => Err(error),
        };
        if let Err(error) = &outcome
            && (!matches!(error, Error::Refused(problem) if problem.status != 503))
        {
            self.turn_away_from(index);
        }
        outcome
    }

    /// Sends what comes next to another server, unless whoever else failed there has moved on already.
    pub(crate) fn turn_away_from(&self, index: usize) {
        let next = (index + 1) % self.0.transport.endpoints();
        let _ = self.0.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

const JSON: &str = "application/json";
const RECORDS: &str = "application/vnd.messagevault.records";
const BATCHES: &str = "application/vnd.messagevault.batches";

/// Escapes what stands in a path or a query.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// What an answer says that is no success.
async fn refusal(answer: Answer) -> Error {
    let (status, endpoint, retry_after) =
        (answer.status, answer.endpoint.clone(), retry_after(&answer.headers));
    let document = match answer.document().await {
        Ok(document) => document,
        Err(error) => return error,
    };
    if let Ok(problem) = serde_json::from_slice::<Problem>(&document) {
        return Error::Refused(Box::new(Problem { retry_after, ..problem }));
    }
    let reason = format!("status {status} without a problem that says why");
    // A proxy in front of servers that are away: it may say so in any way, but 4xx is meant.
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Error::Unreachable { endpoint, reason, side_effects: SideEffects::Possible };
    }
    nonsense(endpoint, reason)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}
