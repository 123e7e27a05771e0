//! Whatever a client sends: the bytes of a connection, on a server that holds a few messages.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vault_server::env::Env;
use vault_server::http::fuzzing::speak;
use vault_server::http::problem::Code;
use vault_server::storage::memory::MemoryStorage;

use crate::server::{Server, in_a_runtime};

/// Longer than any request may wait; what follows a stream is cut off then.
const PATIENCE: Duration = Duration::from_secs(130);

/// What a connection may hold in each direction.
const PIPE_BYTES: usize = 256 << 10;

/// Answers what a client sends.
pub fn requests(bytes: &[u8]) {
    in_a_runtime(async {
        let env = Env::controlled(1);
        let storage = Arc::new(MemoryStorage::new(env.clone()));
        let server = Server::start(&storage, &env, "one").await;
        for text in ["first", "second", "third"] {
            let stored = server.send("POST", "/streams/s/messages?key=k", "text/plain", text).await;
            assert_eq!(stored.status, StatusCode::OK);
        }
        let router = server.router().layer(middleware::from_fn(look));
        let (mut client, io) = tokio::io::duplex(PIPE_BYTES);
        let http2 = bytes.starts_with(b"PRI");
        let talking = async {
            // It may have closed the connection before all is sent, and that is its right.
            let _ = client.write_all(bytes).await;
            let mut answers = Vec::new();
            let _ = client.read_to_end(&mut answers).await;
        };
        let app = server.app();
        let served = speak(&app, router, io, http2);
        let _ = env.timeout(PATIENCE, async { tokio::join!(talking, served) }).await;
        let after = server.get("/readyz").await;
        assert_eq!(after.status, StatusCode::OK, "the server is as well as before");
    });
}

/// Holds an answer against what the documentation says of answers.
async fn look(request: Request, next: Next) -> Response {
    let (method, handed_on) =
        (request.method().clone(), request.headers().contains_key("message-vault-forwarded"));
    let answer = next.run(request).await;
    let status = answer.status();
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return answer;
    }
    let (parts, body) = answer.into_parts();
    let bytes = body.collect().await.expect("a refusal does not break off").to_bytes();
    if method != Method::HEAD {
        assert_eq!(parts.headers[CONTENT_TYPE], "application/problem+json", "{status}");
        let problem: Value = serde_json::from_slice(&bytes).expect("a problem is JSON");
        let known = Code::ALL.iter().find(|code| problem["code"] == code.word());
        let (word, of_code, ..) = known.unwrap_or_else(|| panic!("an unknown code: {problem}")).row();
        assert!(of_code == status && problem["status"] == status.as_u16(), "{problem}");
        assert!(problem["detail"].is_string() && problem["retryable"].is_boolean(), "{problem}");
        // Storage is well, and so is what is stored.
        let excused = (word == "no_leader" || word == "not_ready") && handed_on;
        assert!(!status.is_server_error() || excused || word == "overloaded", "{problem}");
    }
    Response::from_parts(parts, Body::from(bytes))
}
