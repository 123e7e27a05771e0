//! The HTTP interface.
//!
//! | module | subject |
//! |---|---|
//! | [`app`] | what every request has at hand |
//! | `authorize` | who asks, whether they may, and the audit log |
//! | [`problem`] | every error that a client can see |
//! | `request`, `body` | taking requests apart; reading bodies within limits |
//! | `streams` | creating, listing, describing, changing, deleting |
//! | `append` | messages in |
//! | `read` | messages out |
//! | `forward` | what a follower hands on to the leader |
//! | [`status`] | probes, the status, the welcome |
//! | [`serve`] | connections: accepting, limiting, ending them |

pub mod app;
mod append;
mod authorize;
mod body;
mod forward;
pub mod problem;
mod read;
mod request;
pub mod serve;
pub mod status;
mod streams;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware;
use axum::routing::get;

use crate::http::app::App;
use crate::http::problem::{Code, Problem};

/// Every route.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(status::welcome))
        .route("/livez", get(status::live))
        .route("/readyz", get(status::ready))
        .route("/status", get(status::status))
        .route("/streams", get(streams::list))
        .route(
            "/streams/{stream}",
            get(streams::describe).put(streams::create).patch(streams::change).delete(streams::delete),
        )
        .route("/streams/{stream}/messages", get(read::read).post(append::append))
        .fallback(async |uri: Uri| {
            Problem::new(Code::NoSuchRoute, format!("there is nothing at {}", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Problem::new(Code::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
        })
        // The innermost first: what is handed on is told of by the leader, which carries it out.
        .layer(middleware::from_fn(authorize::tell))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), forward::forward))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), authorize::authorize))
        .with_state(app)
}
