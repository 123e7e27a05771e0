//! Ordinary requests to a server.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::{HeaderMap, Request};

use crate::message::{self, Message, Stored};

/// Longer than any answer of the server may take, waiting reads included.
const LIMIT: Duration = Duration::from_secs(90);

/// Speaks to one server over connections that it keeps.
#[derive(Clone, Debug)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
}

/// The end of a request without an answer: its outcome is unknown.
pub type Unanswered = ureq::Error;

/// An answer of the server.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// What an append was answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first message.
    pub first_offset: u64,
    /// The offset after the last.
    pub next_offset: u64,
    /// When, in ms since the Unix epoch.
    pub timestamp: u64,
}

impl Client {
    /// A client that has no connection yet.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self::with_limit(address, LIMIT)
    }

    /// A client that waits for an answer for at most `limit`.
    #[must_use]
    pub fn with_limit(address: SocketAddr, limit: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(limit))
            .build();
        Self { agent: config.into(), base: format!("http://{address}") }
    }

    /// Sends a request and reads the whole answer.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, Unanswered> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = match body {
            Some(body) => self.agent.run(request.body(body)?)?,
            None => self.agent.run(request.body(())?)?,
        };
        let body = response.body_mut().with_config().limit(u64::MAX).read_to_vec()?;
        Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
    }

    fn must(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Answer {
        self.send(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// GET, with JSON asked for.
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.get_as(path, "application/json")
    }

    /// GET in the form that `accept` names.
    #[must_use]
    pub fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.must("GET", path, &[("Accept", accept)], None)
    }

    /// PUT of JSON.
    #[must_use]
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        self.must("PUT", path, &[("Content-Type", "application/json")], Some(body.as_bytes()))
    }

    /// DELETE.
    #[must_use]
    pub fn delete(&self, path: &str) -> Answer {
        self.must("DELETE", path, &[], None)
    }

    /// POST of a body of some type.
    #[must_use]
    pub fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        self.must("POST", path, &[("Content-Type", content_type)], Some(body))
    }

    /// Creates a stream with segments of `segment_bytes`.
    pub fn create(&self, stream: &str, segment_bytes: u64) {
        self.put(&format!("/streams/{stream}"), &json!({ "segment_bytes": segment_bytes })).expect(201);
    }

    /// Appends messages as JSON. `Err` where no answer came.
    pub fn try_append(&self, stream: &str, messages: &[Message]) -> Result<Answer, Unanswered> {
        let headers = [("Content-Type", "application/json")];
        self.send("POST", &format!("/streams/{stream}/messages"), &headers, Some(&message::to_json(messages)))
    }

    /// Appends messages as JSON; they must be accepted.
    pub fn append(&self, stream: &str, messages: &[Message]) -> Appended {
        let answer = self.try_append(stream, messages);
        answer.unwrap_or_else(|error| panic!("append to {stream}: {error}")).expect(200).appended()
    }

    /// Appends one text.
    pub fn append_text(&self, stream: &str, text: &str) -> Appended {
        self.append(stream, &[Message::value(text)])
    }

    /// Reads from `from` on, page by page, until the tail or until a page is refused: that answer comes along.
    #[must_use]
    pub fn read_until_refused(&self, stream: &str, from: u64) -> (Vec<Stored>, Option<Answer>) {
        let mut out = Vec::new();
        let mut next = from;
        loop {
            let answer = self.get(&format!("/streams/{stream}/messages?from={next}"));
            if answer.status != 200 {
                return (out, Some(answer));
            }
            let page = answer.messages();
            let announced = answer.number("message-vault-next-offset");
            assert_eq!(announced, page.last().map_or(next, |last| last.offset + 1), "where to go on");
            if page.is_empty() {
                assert_eq!(next, answer.number("message-vault-end-offset"), "an empty page is the tail");
                return (out, None);
            }
            out.extend(page);
            next = announced;
        }
    }

    /// Reads the whole stream.
    #[must_use]
    pub fn read_all(&self, stream: &str) -> Vec<Stored> {
        let (messages, refused) = self.read_until_refused(stream, 0);
        assert!(refused.is_none(), "{stream} after {} messages: {refused:?}", messages.len());
        messages
    }
}

impl Answer {
    /// The answer itself; panics unless its status is `status`.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// A header field as a number.
    #[must_use]
    pub fn number(&self, header: &str) -> u64 {
        let value = self.headers.get(header).and_then(|value| value.to_str().ok());
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{header}: {value:?}"))
    }

    /// The messages of a read in JSON.
    #[must_use]
    pub fn messages(&self) -> Vec<Stored> {
        let body = self.json();
        let messages = body["messages"].as_array().unwrap_or_else(|| panic!("no messages in {body}"));
        messages.iter().map(message::from_json).collect()
    }

    /// What an append was answered with.
    #[must_use]
    pub fn appended(&self) -> Appended {
        let body = self.json();
        let number = |name: &str| body[name].as_u64().unwrap_or_else(|| panic!("{name} in {body}"));
        Appended {
            first_offset: number("first_offset"),
            next_offset: number("next_offset"),
            timestamp: number("timestamp"),
        }
    }

    /// The fields of a problem, once it is seen to be a whole one.
    #[must_use]
    pub fn problem(&self) -> Value {
        let kind = self.headers.get("content-type").and_then(|value| value.to_str().ok());
        assert_eq!(kind, Some("application/problem+json"), "{}", String::from_utf8_lossy(&self.body));
        let body = self.json();
        assert_eq!(body["status"], self.status, "{body}");
        for text in ["title", "detail", "code"] {
            assert!(body[text].as_str().is_some_and(|text| !text.is_empty()), "{text} in {body}");
        }
        assert!(body["retryable"].is_boolean(), "{body}");
        assert!(["none", "possible"].iter().any(|word| body["side_effects"] == *word), "{body}");
        body
    }

    /// Panics unless this is a problem of that status and code.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, code: &str) -> Value {
        let problem = self.problem();
        assert_eq!((self.status, problem["code"].as_str()), (status, Some(code)), "{problem}");
        problem
    }
}
