//! Traces of requests, from the caller's `traceparent` to the calls of storage.
//!
//! ```text
//!  POST /streams/{stream}/messages       server, a follower
//!    forward                             client
//!      POST /streams/{stream}/messages   server, the leader
//!        commit                          one put; links name the other requests that share it
//!          put_pages                     client, each attempt
//! ```
//!
//! A trace that nobody samples costs a look at a flag of the thread. Where no exporter is set up, nothing is sampled.

pub mod environment;
pub(crate) mod serve;

use std::fmt::Display;
use std::future::Future;

use opentelemetry::trace::{FutureExt, Link, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};

use crate::limits::MAX_TRACE_LINKS;

/// The name under which all spans are made.
const SCOPE: &str = "vault-server";

/// What the work at hand belongs to, where that is sampled.
pub(crate) fn current() -> Option<Context> {
    let sampled = Context::map_current(|context| context.span().span_context().is_sampled());
    sampled.then(Context::current)
}

/// Does a part of the work at hand, as a span of its own where that is sampled. `kind` is `Client` for a call of another
/// program.
pub(crate) async fn part<T, E: Display>(
    name: &'static str,
    kind: SpanKind,
    attributes: impl FnOnce() -> Vec<KeyValue>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Some(parent) = current() else { return work.await };
    let span = SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes());
    ended(started(span, &parent), work).await
}

/// What several requests share: a part of the first one that is sampled, with links to the others. `None` where none is.
pub(crate) fn shared<'c>(
    name: &'static str,
    mut requests: impl Iterator<Item = &'c Context>,
    attributes: impl FnOnce() -> Vec<KeyValue>,
) -> Option<Context> {
    let parent = requests.next()?;
    let links =
        requests.take(MAX_TRACE_LINKS).map(|other| Link::with_context(other.span().span_context().clone()));
    let span = SpanBuilder::from_name(name)
        .with_kind(SpanKind::Internal)
        .with_links(links.collect())
        .with_attributes(attributes());
    Some(started(span, parent))
}

/// Does the work that [`shared`] began a span for.
pub(crate) async fn within<T>(span: Option<Context>, work: impl Future<Output = T>) -> T {
    let Some(span) = span else { return work.await };
    let done = work.with_context(span.clone()).await;
    span.span().end();
    done
}

fn started(span: SpanBuilder, parent: &Context) -> Context {
    parent.with_span(global::tracer(SCOPE).build_with_context(span, parent))
}

async fn ended<T, E: Display>(span: Context, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let done = work.with_context(span.clone()).await;
    if let Err(error) = &done {
        span.span().set_status(Status::error(error.to_string()));
    }
    span.span().end();
    done
}
