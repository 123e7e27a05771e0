//! A transport for tests whose answers are made up: those that no server gives when it is asked to.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use serde_json::json;
use vault_format::record::Record;

use crate::client::Client;
use crate::error::SideEffects;
use crate::transport::{Failed, RawAnswer, Transport};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Which server it was for.
    pub(crate) server: usize,
    pub(crate) path: String,
    /// A producer's id, epoch and the request's number.
    pub(crate) stamp: Option<(String, u64, u64)>,
    pub(crate) body: Bytes,
}

impl Sent {
    fn of(server: usize, request: &Request<Bytes>) -> Self {
        let header = |name: &str| Some(request.headers().get(name)?.to_str().unwrap().to_owned());
        let number = |name: &str| header(name)?.parse().ok();
        let stamp = header("producer-id")
            .map(|id| (id, number("producer-epoch").unwrap(), number("producer-seq").unwrap()));
        Self { server, path: request.uri().to_string(), stamp, body: request.body().clone() }
    }

    /// The request's number.
    pub(crate) fn sequence(&self) -> u64 {
        self.stamp.as_ref().expect("it is numbered").2
    }

    /// A parameter of the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.path.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// The values of the messages in it.
    pub(crate) fn values(&self) -> Vec<String> {
        let (mut rest, mut values) = (&self.body[..], Vec::new());
        while !rest.is_empty() {
            let record = Record::take(&mut rest).expect("what is sent are records");
            values.push(String::from_utf8_lossy(record.value).into_owned());
        }
        values
    }
}

/// What comes back.
pub(crate) enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<Result<Bytes, String>>,
    },
    /// The connection broke.
    Broken(SideEffects),
    /// Nothing, ever.
    Silence,
    Late(Duration, Box<Reply>),
}

impl Reply {
    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::Answer { status, headers: Vec::new(), body: vec![Ok(body.to_string().into())] }
    }

    pub(crate) fn html(status: u16) -> Self {
        let body = vec![Ok(Bytes::from_static(b"<html>Bad Gateway</html>"))];
        Self::Answer { status, headers: Vec::new(), body }
    }

    /// A refusal that stored nothing.
    pub(crate) fn problem(status: u16, code: &str, retryable: bool) -> Self {
        let body = json!({ "type": "about:blank", "title": code, "status": status, "detail": "so it is",
            "code": code, "retryable": retryable, "side_effects": "none" });
        Self::json(status, &body)
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name, value.to_string()));
        }
        self
    }

    pub(crate) fn late(self, by: Duration) -> Self {
        Self::Late(by, Box::new(self))
    }

    fn given(self) -> BoxFuture<'static, Result<RawAnswer, Failed>> {
        Box::pin(async move {
            match self {
                Self::Answer { status, headers, body } => {
                    let pair = |(name, value): (&'static str, String)| {
                        (HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap())
                    };
                    Ok(RawAnswer {
                        status: StatusCode::from_u16(status).unwrap(),
                        headers: headers.into_iter().map(pair).collect::<HeaderMap>(),
                        body: futures::stream::iter(body).boxed(),
                    })
                }
                Self::Broken(side_effects) => Err(Failed { reason: "it broke".to_owned(), side_effects }),
                Self::Silence => std::future::pending().await,
                Self::Late(by, reply) => {
                    tokio::time::sleep(by).await;
                    reply.given().await
                }
            }
        })
    }
}

type Script = Box<dyn FnMut(&Sent) -> Reply + Send>;

/// Two servers that answer as a function says.
#[derive(Clone)]
pub(crate) struct Scripted {
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Vec<Sent>>>,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    pub(crate) fn new(script: impl FnMut(&Sent) -> Reply + Send + 'static) -> Self {
        Self { script: Arc::new(Mutex::new(Box::new(script))), seen: Arc::default() }
    }

    /// A client of it that tries for a minute.
    pub(crate) fn client(&self) -> Client {
        let minute = Duration::from_secs(60);
        Client::over(Arc::new(self.clone()), None, String::new(), Some(minute), None)
    }

    /// All requests that came.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Vec<Sent>> {
        self.seen.lock().unwrap()
    }
}

impl Transport for Scripted {
    fn endpoints(&self) -> usize {
        2
    }

    fn endpoint(&self, index: usize) -> &str {
        ["http://one", "http://two"][index]
    }

    fn send(&self, index: usize, request: Request<Bytes>) -> BoxFuture<'_, Result<RawAnswer, Failed>> {
        let sent = Sent::of(index, &request);
        let reply = (self.script.lock().unwrap())(&sent);
        self.seen().push(sent);
        reply.given()
    }
}

/// What a stream makes of appends: the rules for idempotent producers as the documentation of the HTTP API has them.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) values: Vec<String>,
    /// Epoch and outcomes of each producer.
    producers: HashMap<String, (u64, Vec<(u64, u64)>)>,
}

impl Log {
    /// Forgets all producers, as after a day.
    pub(crate) fn forget(&mut self) {
        self.producers.clear();
    }

    pub(crate) fn append(&mut self, sent: &Sent) -> Reply {
        let Some((id, epoch, sequence)) = &sent.stamp else {
            let first = self.values.len() as u64;
            self.values.extend(sent.values());
            return appended(first, self.values.len() as u64);
        };
        let known = self.producers.get(id).is_some_and(|(known, _)| known >= epoch);
        if !known {
            if *sequence != 0 {
                return Reply::problem(409, "producer_unknown", false);
            }
            self.producers.insert(id.clone(), (*epoch, Vec::new()));
        }
        let (newest, outcomes) = self.producers.get_mut(id).unwrap();
        if *epoch < *newest {
            return Reply::problem(403, "producer_fenced", false);
        }
        let next = outcomes.len() as u64;
        if *sequence > next {
            return Reply::problem(409, "producer_gap", true);
        }
        if *sequence == next {
            let first = self.values.len() as u64;
            self.values.extend(sent.values());
            outcomes.push((first, self.values.len() as u64));
        }
        let (first, end) = outcomes[usize::try_from(*sequence).unwrap()];
        appended(first, end)
    }
}

fn appended(first: u64, next: u64) -> Reply {
    Reply::json(
        200,
        &json!({ "first_offset": first, "next_offset": next, "timestamp": 1_767_225_600_000_u64 }),
    )
}
