//! How the server is: for probes, for people, for whoever comes by with a browser.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::caller::Caller;
use crate::access::grants::Right;
use crate::election::standing::Leader;
use crate::http::app::App;
use crate::http::openapi::Problems;
use crate::http::problem::{Code, Problem};
use crate::limits::{MAX_STREAMS, MAX_TROUBLED_LISTED};
use crate::log::stream::Condition;
use crate::log::vault::Role;

/// `/livez`: the process answers. Never depends on storage.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "server",
    security(()),
    responses((status = OK, description = "The process answers", body = String, content_type = "text/plain"))
)]
pub(crate) async fn live() -> &'static str {
    "alive\n"
}

/// `/readyz`: reads can be served.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "server",
    security(()),
    responses(
        (status = OK, description = "Reads can be served", body = String, content_type = "text/plain"),
        Problems,
    )
)]
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.why_not_ready() {
        None => "ready\n".into_response(),
        Some(why) => Problem::new(Code::NotReady, why).into_response(),
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Status {
    version: &'static str,
    role: Role,
    term: Option<u64>,
    /// Who leads, as far as this server knows.
    leader: Option<Leader>,
    /// What keeps this server from its work, in a sentence.
    trouble: Option<String>,
    /// Why the certificate in the files is not in force, in a sentence.
    tls_trouble: Option<String>,
    /// What is wrong with the newest access file or its issuers, in a sentence.
    access_trouble: Option<String>,
    vault_uid: Option<String>,
    storage: &'static str,
    prefix: String,
    advertise: String,
    streams: usize,
    /// Streams that need somebody's eye and that the caller may read, the first 100 by name.
    troubled: Vec<Troubled>,
    queued_bytes: usize,
    connections: usize,
    storage_requests: BTreeMap<&'static str, u64>,
}

#[derive(Serialize, ToSchema)]
struct Troubled {
    name: String,
    condition: Condition,
    trouble: Option<String>,
}

/// `/status`: what this server does and knows.
#[utoipa::path(
    get,
    path = "/status",
    tag = "server",
    responses((status = OK, description = "What this server does and knows", body = Status), Problems)
)]
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Json<Status> {
    let vault = &app.vault;
    let (streams, _) = vault.list("", None, MAX_STREAMS);
    let seen = streams.iter().filter(|stream| caller.may(stream.name().as_str(), Right::Read));
    let troubled = seen.filter_map(|stream| {
        let status = stream.status();
        let well = matches!(status.condition, Condition::Open | Condition::Closed)
            || (status.condition == Condition::Opening && status.trouble.is_none());
        (!well).then(|| Troubled {
            name: stream.name().to_string(),
            condition: status.condition,
            trouble: status.trouble,
        })
    });
    let standing = app.standing.borrow().clone();
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        role: vault.role(),
        term: vault.term().map(|term| term.0),
        leader: standing.leader,
        trouble: standing.trouble,
        tls_trouble: app.settings.tls.as_ref().and_then(|tls| tls.trouble()),
        access_trouble: app.settings.access.trouble(),
        vault_uid: standing.vault_uid,
        storage: app.settings.storage,
        prefix: app.settings.prefix.clone(),
        advertise: app.settings.advertise.clone(),
        streams: streams.len(),
        troubled: troubled.take(MAX_TROUBLED_LISTED).collect(),
        queued_bytes: vault.queued_bytes(),
        connections: app.connections.load(Ordering::Relaxed),
        storage_requests: app
            .storage
            .snapshot()
            .iter()
            .map(|(operation, count)| (operation.as_str(), count))
            .collect(),
    })
}

/// `/`: what this is, and lines to try.
#[utoipa::path(
    get,
    path = "/",
    tag = "server",
    responses(
        (status = OK, description = "What this is, and lines to try", body = String, content_type = "text/plain"),
        Problems,
    )
)]
pub(crate) async fn welcome(State(app): State<Arc<App>>) -> String {
    let mut text =
        format!("Message Vault {}: publish and subscribe with replay.\n\n", env!("CARGO_PKG_VERSION"));
    for line in examples(&app.settings.advertise) {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Commands that create a stream, append to it and read it.
#[must_use]
pub fn examples(address: &str) -> [String; 3] {
    [
        format!("curl -X PUT {address}/streams/orders"),
        format!("curl -H 'Content-Type: text/plain' -d 'hello' {address}/streams/orders/messages"),
        format!("curl '{address}/streams/orders/messages?from=earliest'"),
    ]
}
