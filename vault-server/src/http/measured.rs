//! What the HTTP interface counts: requests by route, method and status, how long they take, appends that are refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use prometheus::Histogram;

use crate::http::app::App;
use crate::http::problem::Code;
use crate::metrics::families::{HTTP_SECONDS, SECONDS};
use crate::metrics::{Count, histogram};

/// The route of appends.
const MESSAGES: &str = "/streams/{stream}/messages";

/// In the place of a route: none fits.
const NO_ROUTE: &str = "none";

/// How methods are named, and last what all others are.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];

/// How a request was answered, and last that it was not: its client went away before.
const STATUSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "aborted"];

/// What requests to the routes of a server count.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    routes: BTreeMap<String, Route>,
    no_route: Route,
    /// By code.
    refused: [Count; Code::ALL.len()],
}

#[derive(Debug)]
struct Route([OfMethod; METHODS.len()]);

#[derive(Debug)]
struct OfMethod {
    statuses: [Count; STATUSES.len()],
    /// Of those that were answered.
    seconds: Histogram,
}

impl Default for Route {
    fn default() -> Self {
        Self(std::array::from_fn(|_| OfMethod {
            statuses: std::array::from_fn(|_| Count::default()),
            seconds: histogram(&HTTP_SECONDS, SECONDS),
        }))
    }
}

/// A route and a method, as metrics name them.
pub(crate) type Place<'a> = (&'a str, &'static str);

impl HttpMetrics {
    /// For these routes, as the router has them.
    pub(crate) fn new(routes: impl IntoIterator<Item = String>) -> Self {
        Self {
            routes: routes.into_iter().map(|route| (route, Route::default())).collect(),
            no_route: Route::default(),
            refused: std::array::from_fn(|_| Count::default()),
        }
    }

    fn place(&self, route: Option<&str>, method: &Method) -> &OfMethod {
        let route = route.and_then(|route| self.routes.get(route)).unwrap_or(&self.no_route);
        let others = METHODS.len() - 1;
        let index = METHODS[..others].iter().position(|name| *name == method.as_str()).unwrap_or(others);
        &route.0[index]
    }

    /// How many appends were refused here, by code.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        Code::ALL.iter().zip(&self.refused).map(|(code, count)| (*code, count.get()))
    }

    fn routes(&self) -> impl Iterator<Item = (Place<'_>, &OfMethod)> {
        let routes = self.routes.iter().map(|(name, route)| (name.as_str(), route));
        routes.chain([(NO_ROUTE, &self.no_route)]).flat_map(|(name, route)| {
            METHODS.iter().zip(&route.0).map(move |(method, of)| ((name, *method), of))
        })
    }

    /// How many requests were answered so, those alone that there were.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (Place<'_>, &'static str, u64)> {
        self.routes().flat_map(|(place, of)| {
            let statuses = STATUSES.iter().zip(&of.statuses);
            statuses
                .map(move |(status, count)| (place, *status, count.get()))
                .filter(|(.., count)| *count > 0)
        })
    }

    /// How long it took until answers began.
    pub(crate) fn seconds(&self) -> impl Iterator<Item = (Place<'_>, &Histogram)> {
        self.routes().map(|(place, of)| (place, &of.seconds))
    }
}

/// A request until its answer begins.
struct Asked<'a> {
    of: &'a OfMethod,
    status: usize,
}

impl Asked<'_> {
    fn answered(mut self, status: StatusCode, took: Duration) {
        self.status = usize::from(status.as_u16() / 100).saturating_sub(1).min(STATUSES.len() - 2);
        self.of.seconds.observe(took.as_secs_f64());
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.of.statuses[self.status].add(1);
    }
}

/// Counts a request when its answer begins, or when its client goes away before that.
pub(crate) async fn measure(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let begun = app.env.clock.monotonic();
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let appends = route == Some(MESSAGES) && request.method() == Method::POST;
    let asked = Asked { of: app.metrics.place(route, request.method()), status: STATUSES.len() - 1 };
    let response = next.run(request).await;
    asked.answered(response.status(), app.env.clock.monotonic().saturating_sub(begun));
    // What a leader refused, and this server handed back, has no code here.
    if appends && let Some(code) = response.extensions().get::<Code>() {
        app.metrics.refused[*code as usize].add(1);
    }
    response
}
