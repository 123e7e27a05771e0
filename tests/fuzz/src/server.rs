//! Servers in this thread, on storage in memory and time that passes when everybody waits.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;
use vault_format::names::Prefix;
use vault_server::access::Access;
use vault_server::env::Env;
use vault_server::http::app::{App, Carrier, HttpSettings, NotCarried};
use vault_server::log::Options;
use vault_server::node::Node;
use vault_server::storage::memory::MemoryStorage;

/// What the names of containers begin with.
pub(crate) const PREFIX: &str = "mv-";

/// How long a server takes at most until it leads, or follows.
const READY: Duration = Duration::from_secs(30);

/// Runs what must not touch the world outside, on a clock of its own.
pub(crate) fn in_a_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime needs nothing").block_on(future)
}

/// Other servers cannot be reached, and making ready to reach them would take longest.
#[derive(Debug)]
struct Nowhere;

impl Carrier for Nowhere {
    fn carry(
        &self,
        _: reqwest::Request,
        _: Option<Duration>,
    ) -> BoxFuture<'static, Result<reqwest::Response, NotCarried>> {
        async { Err(NotCarried { why: "there is no network".to_owned(), may_be_done: false }) }.boxed()
    }
}

pub(crate) struct Server {
    node: Node,
    router: Router,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the answer is JSON")
    }
}

impl Server {
    /// A server that is ready: the first one on its storage leads.
    pub(crate) async fn start(storage: &Arc<MemoryStorage>, env: &Env, name: &str) -> Self {
        let prefix = Prefix::new(PREFIX).expect("it is one");
        let settings = HttpSettings {
            auto_create: true,
            max_message_bytes: 64 << 10,
            append_timeout: Duration::from_secs(10),
            carrier: Some(Arc::new(Nowhere)),
            ..HttpSettings::new(
                format!("http://{name}:8480"),
                "memory",
                &prefix,
                Access::for_everybody(env.clone()),
            )
        };
        let options = Options::new(Duration::from_secs(10));
        let node = Node::start(Arc::clone(storage) as _, env.clone(), prefix, None, options, settings);
        let server = Self { router: node.router(), node };
        let ready = async {
            while server.get("/readyz").await.status != StatusCode::OK {
                env.clock.sleep(Duration::from_millis(50)).await;
            }
        };
        env.timeout(READY, ready).await.expect("a server on storage that is well gets ready");
        server
    }

    pub(crate) fn app(&self) -> Arc<App> {
        self.node.app()
    }

    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, "text/plain", "").await
    }

    pub(crate) async fn send(&self, method: &str, target: &str, content_type: &str, body: &str) -> Answer {
        let request = Request::builder().method(method).uri(target).header("content-type", content_type);
        let request = request.body(Body::from(body.to_owned())).expect("it is a request");
        let answer = self.router.clone().oneshot(request).await.expect("it answers");
        let status = answer.status();
        let body = answer.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        Answer { status, body: body.unwrap_or_default() }
    }
}
