//! The HTTP interface.
//!
//! | module | subject |
//! |---|---|
//! | [`app`] | what every request has at hand |
//! | [`problem`] | every error that a client can see |
//! | `request`, `body` | taking requests apart; reading bodies within limits |
//! | `digest` | whether a body came as it was sent |
//! | `streams` | creating, listing, describing, changing, deleting |
//! | `append` | messages in |
//! | `read` | messages out |
//! | `direct` | where the messages stand in storage, and leave to read them there |
//! | `forward` | what a follower hands on to the leader |
//! | [`status`] | probes, the status, the welcome |
//! | [`serve`] | connections: accepting, limiting, ending them |

pub mod app;
mod append;
mod body;
mod digest;
mod direct;
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
        .route("/streams/{stream}/access", get(direct::plan))
        .fallback(async |uri: Uri| {
            Problem::new(Code::NoSuchRoute, format!("there is nothing at {}", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Problem::new(Code::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&app), forward::forward))
        .with_state(app)
}
