//! The span of a request, from its head to the end of its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::HeaderName;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{FutureExt, SpanBuilder, SpanKind, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use crate::http::app::App;
use crate::http::forward::FORWARDED;
use crate::traces::started;

/// On a request that a follower has handed on: the follower's span. The caller's own `traceparent` is kept with the
/// messages, whichever server it came to.
const PARENT: HeaderName = HeaderName::from_static("message-vault-traceparent");

const TRACEPARENT: &str = "traceparent";

/// Serves a request of a client within a span. Probes, and what is asked of the server itself, are not worth one.
pub(crate) async fn serve(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let Some(route) = route.filter(|route| app.settings.traced && route.starts_with("/streams")) else {
        return next.run(request).await;
    };
    let name = format!("{} {route}", request.method());
    let attributes = vec![
        KeyValue::new("http.request.method", request.method().to_string()),
        KeyValue::new("http.route", route),
        KeyValue::new("url.path", request.uri().path().to_owned()),
    ];
    let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes(attributes);
    let context = started(builder, &caller(request.headers()));
    let response = next.run(request).with_context(context.clone()).await;
    let (span, status) = (context.span(), response.status());
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    if status >= StatusCode::INTERNAL_SERVER_ERROR {
        span.set_status(Status::error(""));
    }
    response.map(|body| Body::new(Traced { body, context }))
}

/// The span that a request belongs to, in whichever program.
fn caller(headers: &HeaderMap) -> Context {
    let handed_on = headers.get(PARENT).filter(|_| headers.contains_key(FORWARDED)).map(|parent| {
        let mut headers = headers.clone();
        headers.insert(TRACEPARENT, parent.clone());
        headers
    });
    let headers = handed_on.as_ref().unwrap_or(headers);
    TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers))
}

/// Tells the leader which span a request that is handed on belongs to: the one at hand.
pub(crate) fn hand_on(headers: &mut HeaderMap) {
    headers.remove(PARENT);
    let mut injected = HeaderMap::new();
    TraceContextPropagator::new().inject_context(&Context::current(), &mut HeaderInjector(&mut injected));
    if let Some(parent) = injected.remove(TRACEPARENT) {
        headers.insert(PARENT, parent);
    }
}

/// An answer whose making belongs to a span, which ends with it.
struct Traced {
    body: Body,
    context: Context,
}

impl HttpBody for Traced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        waker: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let _at_hand = self.context.clone().attach();
        Pin::new(&mut self.body).poll_frame(waker)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.context.span().end();
    }
}
