//! The router, driven in process on storage in memory.

mod append;
mod compression;
mod events;
mod forward;
mod headers;
mod internal;
mod metrics;
mod openapi;
mod origin;
mod owners;
mod problems;
mod producers;
mod rates;
mod read;
mod read_caching;
mod read_endings;
mod read_filters;
mod read_following;
mod retention;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use vault_format::names::Prefix;

use crate::access::Access;
use crate::election::{Candidacy, Election};
use crate::env::Env;
use crate::http::app::{App, HttpSettings};
use crate::http::router;
use crate::log::Options;
use crate::log::vault::Vault;
use crate::storage::Storage;
use crate::storage::counted::Counted;
use crate::storage::memory::MemoryStorage;

pub(super) const JSON: &str = "application/json";
pub(super) const LINES: &str = "application/x-ndjson";
pub(super) const TEXT: &str = "text/plain";
pub(super) const MAX_MESSAGE: usize = 1 << 20;

pub(super) struct Server {
    pub(super) app: Arc<App>,
    router: Router,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub(super) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// The values of all messages of a JSON answer.
    #[track_caller]
    pub(super) fn values(&self) -> Vec<String> {
        let body = self.json();
        body["messages"].as_array().unwrap().iter().map(|m| m["value"].as_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    pub(super) fn offset(&self, which: &str) -> u64 {
        self.headers[&format!("message-vault-{which}-offset")].to_str().unwrap().parse().unwrap()
    }

    /// That this is a problem with this code, and its fields.
    #[track_caller]
    pub(super) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem = self.json();
        assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status.into()));
        assert!(problem["title"].is_string() && problem["type"].is_string() && problem["detail"].is_string());
        assert!(problem["retryable"].is_boolean());
        assert!(problem["side_effects"] == "none" || problem["side_effects"] == "possible");
        problem
    }
}

/// A server whose vault has no leader.
pub(super) fn idle(auto_create: bool) -> (Server, Election) {
    let env = Env::real();
    let access = Access::for_everybody(env.clone());
    idle_with(auto_create, env, access)
}

fn idle_with(auto_create: bool, env: Env, access: Arc<Access>) -> (Server, Election) {
    idle_on(Arc::new(MemoryStorage::new(env.clone())), auto_create, env, access)
}

fn idle_on(
    storage: Arc<dyn Storage>,
    auto_create: bool,
    env: Env,
    access: Arc<Access>,
) -> (Server, Election) {
    let storage: Arc<Counted<dyn Storage>> = Arc::new(Counted::new(storage, &env));
    let options = Options::new(Duration::from_secs(5));
    let prefix = Prefix::new("mv-").unwrap();
    let (vault, over) =
        Vault::new(Arc::clone(&storage) as Arc<dyn Storage>, env.clone(), prefix.clone(), options);
    let settings = HttpSettings {
        auto_create,
        max_message_bytes: MAX_MESSAGE,
        append_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
        local_names_only: true,
        ..HttpSettings::new("http://127.0.0.1:8480".to_owned(), "memory", &prefix, access)
    };
    let candidacy = Candidacy { endpoint: settings.advertise.clone(), vault_uid: None };
    let election = Election::new(vault.clone(), over, candidacy);
    let app = App::new(vault, env, storage, settings, election.standing());
    (Server { router: router(Arc::clone(&app)), app }, election)
}

pub(super) async fn leading(auto_create: bool) -> Server {
    led(idle(auto_create)).await
}

/// A server on the runtime's clock, which tests can pause.
pub(super) async fn on_runtime_clock(access: impl FnOnce(Env) -> Arc<Access>) -> Server {
    let env = Env::controlled(1);
    let access = access(env.clone());
    led(idle_with(true, env, access)).await
}

async fn led((server, mut election): (Server, Election)) -> Server {
    tokio::spawn(async move { election.run(&CancellationToken::new()).await });
    server.app.vault.until_led(Duration::from_secs(5)).await;
    server
}

/// A server that creates streams when they are appended to.
pub(super) async fn server() -> Server {
    leading(true).await
}

impl Server {
    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(super) async fn call(&self, method: &str, uri: &str, body: impl Into<Body>) -> Answer {
        self.send(Request::builder().method(method).uri(uri).body(body.into()).unwrap()).await
    }

    pub(super) async fn get(&self, uri: &str) -> Answer {
        self.call("GET", uri, "").await
    }

    pub(super) async fn get_as(&self, uri: &str, accept: &str) -> Answer {
        let request = Request::builder().uri(uri).header("accept", accept).body(Body::empty()).unwrap();
        self.send(request).await
    }

    pub(super) async fn post(&self, uri: &str, content_type: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post(uri).header("content-type", content_type).body(body.into()).unwrap();
        self.send(request).await
    }

    /// Posts to the stream `s` with these headers.
    pub(super) async fn post_with(&self, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::post("/streams/s/messages");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    /// The messages of the stream `s`.
    pub(super) async fn messages(&self) -> Vec<Value> {
        self.get("/streams/s/messages").await.is(200).json()["messages"].as_array().unwrap().clone()
    }

    /// Appends a text to the stream `s` and answers the offset.
    pub(super) async fn append(&self, text: impl Into<Body>) -> u64 {
        let answer = self.post("/streams/s/messages", TEXT, text).await.is(200);
        answer.json()["first_offset"].as_u64().unwrap()
    }
}
