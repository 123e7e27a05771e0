//! The HTTP interface.
//!
//! | module | subject |
//! |---|---|
//! | [`app`] | what every request has at hand |
//! | `authorize` | who asks, whether they may, and the audit log |
//! | `origin` | what pages of other sites must not do through a browser |
//! | [`problem`] | every error that a client can see |
//! | `openapi` | the description of all this for programs |
//! | `request`, `body` | taking requests apart; reading bodies within limits |
//! | `breaking` | answers that may break off |
//! | `digest` | whether a body came as it was sent |
//! | `streams` | creating, listing, describing, changing, deleting |
//! | `append` | messages in |
//! | `read` | messages out |
//! | `direct` | where the messages stand in storage, and leave to read them there |
//! | `metrics`, `measured` | what Prometheus asks for; what requests count |
//! | `forward` | what a follower hands on to the leader |
//! | `refresh` | looking at once what others have changed beside the server |
//! | [`status`] | probes, the status, the welcome |
//! | [`serve`] | listening: connections are accepted, limited, ended |
//! | `connection`, `progress`, [`tls`] | one connection: its protocol, what keeps it from stalling others, its encryption |

pub mod app;
mod append;
mod authorize;
mod body;
mod breaking;
mod connection;
mod digest;
mod direct;
pub(crate) mod forward;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod fuzzing;
mod measured;
mod metrics;
mod object;
pub(crate) mod openapi;
mod origin;
pub mod problem;
mod progress;
mod read;
mod refresh;
mod request;
pub mod serve;
pub mod status;
mod streams;
#[cfg(test)]
mod tests;
pub mod tls;

use std::sync::Arc;

use axum::http::{Method, Uri};
use axum::middleware;
use axum::routing::{get, post};
use axum::{Extension, Router};

use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::caller::Caller;
use crate::http::app::App;
use crate::http::openapi::Document;
use crate::http::problem::{Code, Problem};
use crate::traces;

/// Where a server is told to look for what was changed beside it; not among the routes for clients.
const REFRESH: &str = "/refresh";

/// Every route for clients. Status and metrics are among them unless they stand on a listener of their own.
pub fn router(app: Arc<App>) -> Router {
    let routes = client_routes(!app.settings.internal_listener);
    with_fallbacks(routes.into())
        // The innermost first: what is handed on is told of by the leader, which carries it out.
        .layer(middleware::from_fn(authorize::tell))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), forward::forward))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), authorize::authorize))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), traces::serve::serve))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), measured::measure))
        .with_state(app)
}

/// The routes that there are, as the router writes them.
pub(crate) fn routes() -> impl Iterator<Item = String> {
    client_routes(true).into_openapi().paths.paths.into_keys().chain([REFRESH.to_owned()])
}

/// Every route for clients, each with its description, with or without those for whoever watches over the server.
fn client_routes(watched_here: bool) -> OpenApiRouter<Arc<App>> {
    let routes = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(status::welcome))
        .routes(routes!(status::live))
        .routes(routes!(status::ready))
        .routes(routes!(openapi::document))
        .routes(routes!(streams::list))
        .routes(routes!(streams::describe, streams::create, streams::change, streams::delete))
        .routes(routes!(read::read, append::append))
        .routes(routes!(direct::plan));
    if watched_here {
        routes.routes(routes!(status::status)).routes(routes!(metrics::metrics))
    } else {
        routes
    }
}

/// Routes for whoever watches over the server, inside the cluster.
pub fn internal_router(app: Arc<App>) -> Router {
    let router = Router::new()
        .route("/livez", get(status::live))
        .route("/readyz", get(status::ready))
        .route("/status", get(status::status))
        .route("/metrics", get(metrics::metrics))
        .route("/streams", get(streams::list))
        .route(REFRESH, post(refresh::refresh));
    with_fallbacks(router)
        .layer(Extension(Caller::anybody()))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), measured::measure))
        .with_state(app)
}

fn with_fallbacks(router: Router<Arc<App>>) -> Router<Arc<App>> {
    router
        .fallback(async |uri: Uri| {
            Problem::new(Code::NoSuchRoute, format!("there is nothing at {}", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Problem::new(Code::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
        })
}
