//! `/metrics`: everything that the server counts, for Prometheus. It walks along what counts and asks nobody.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Extension;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::access::caller::Caller;
use crate::access::grants::Right;
use crate::http::app::App;
use crate::http::openapi::Problems;
use crate::limits::MAX_STREAMS;
use crate::log::stream::measured::{Extent, Measured};
use crate::metrics::exposition::{self, Exposition};
use crate::metrics::families as f;
use crate::metrics::process::Process;

/// `/metrics`: what this server counts. Of streams, those that the caller may read.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "server",
    responses(
        (status = OK, description = "What this server counts, for Prometheus", body = String, content_type = "text/plain"),
        Problems,
    )
)]
pub(crate) async fn metrics(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> impl IntoResponse {
    let mut shown = Exposition::default();
    show_server(&app, &mut shown);
    show_log(&app, &mut shown);
    show_streams(&app, &caller, &mut shown);
    show_storage(&app, &mut shown);
    show_http(&app, &mut shown);
    show_process(&app, &mut shown);
    ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], shown.text())
}

fn show_server(app: &App, shown: &mut Exposition) {
    shown.values(&f::BUILD_INFO, [(vec![("version", env!("CARGO_PKG_VERSION"))], 1.0)]);
    let one_if = |holds: bool| f64::from(u8::from(holds));
    shown.one(&f::READY, one_if(app.why_not_ready().is_none()));
    let ours = app.vault.term();
    shown.one(&f::LEADING, one_if(ours.is_some()));
    let term = ours.or_else(|| app.standing.borrow().leader.as_ref().map(|leader| leader.term));
    shown.values(&f::TERM, term.map(|term| (Vec::new(), term.0 as f64)));
    let election = &app.vault.context.metrics.election;
    shown.one(&f::TERMS, election.terms.get() as f64);
    let age = election.lease_age(app.env.clock.monotonic());
    shown.values(&f::LEASE_AGE, age.map(|age| (Vec::new(), age.as_secs_f64())));
    let renewals = [("renewed", &election.renewed), ("failed", &election.failed), ("lost", &election.lost)];
    let series =
        |(outcome, count): (_, &crate::metrics::Count)| (vec![("outcome", outcome)], count.get() as f64);
    shown.values(&f::LEASE_RENEWALS, renewals.map(series));
}

fn show_log(app: &App, shown: &mut Exposition) {
    let context = &app.vault.context;
    let log = &context.metrics.log;
    shown.one(&f::APPENDS, log.batch_requests.get_sample_sum());
    shown.one(&f::APPENDED_MESSAGES, log.batch_messages.get_sample_sum());
    shown.one(&f::APPENDED_BYTES, log.batch_bytes.get_sample_sum());
    let refused = app.metrics.refused().map(|(code, count)| (vec![("code", code.word())], count as f64));
    shown.values(&f::APPENDS_REFUSED, refused);
    shown.one(&f::APPENDS_REPEATED, log.repeated.get() as f64);
    shown.histograms(&f::BATCH_REQUESTS, [(Vec::new(), &log.batch_requests)]);
    shown.histograms(&f::BATCH_MESSAGES, [(Vec::new(), &log.batch_messages)]);
    shown.histograms(&f::BATCH_BYTES, [(Vec::new(), &log.batch_bytes)]);
    shown.histograms(&f::COMMIT_SECONDS, [(vec![("backend", app.settings.storage)], &log.commit_seconds)]);
    shown.one(&f::QUEUED_BYTES, app.vault.queued_bytes() as f64);
    shown.one(&f::TAIL_CLEARS, log.tail_clears.get() as f64);
    shown.one(&f::SET_ASIDE_BYTES, log.set_aside_bytes.get() as f64);
    shown.one(&f::DELETED_SEGMENTS, log.deleted_segments.get() as f64);
    shown.one(&f::DELETED_BYTES, log.deleted_bytes.get() as f64);
    shown.one(&f::READERS, log.readers.get() as f64);
    let lookups = &context.blocks.lookups;
    let found = [("recent", &lookups.recent), ("cache", &lookups.cache), ("storage", &lookups.storage)];
    shown.values(&f::LOOKUPS, found.map(|(found, count)| (vec![("found", found)], count.get() as f64)));
    shown.one(&f::CACHE_BYTES, context.blocks.cached_bytes() as f64);
}

fn show_streams(app: &App, caller: &Caller, shown: &mut Exposition) {
    let (streams, _) = app.vault.list("", None, MAX_STREAMS);
    shown.one(&f::STREAMS, streams.len() as f64);
    let seen = streams.iter().filter(|stream| caller.may(stream.name().as_str(), Right::Read));
    let all: Vec<_> = seen.map(|stream| (stream.name().as_str(), stream.measured())).collect();
    let conditions = all
        .iter()
        .map(|(name, stream)| (vec![("stream", *name), ("condition", stream.condition.as_str())], 1.0));
    shown.values(&f::STREAM_CONDITION, conditions);
    let mut each = |family, value: &dyn Fn(&Measured) -> Option<f64>| {
        let series = all.iter().filter_map(|(name, stream)| Some((vec![("stream", *name)], value(stream)?)));
        shown.values(family, series);
    };
    let extent =
        |stream: &Measured, value: fn(&Extent) -> u64| stream.extent.as_ref().map(|it| value(it) as f64);
    each(&f::STREAM_FIRST_OFFSET, &|stream| extent(stream, |extent| extent.first_offset.0));
    each(&f::STREAM_NEXT_OFFSET, &|stream| extent(stream, |extent| extent.next_offset.0));
    each(&f::STREAM_STORED_BYTES, &|stream| extent(stream, |extent| extent.stored_bytes));
    each(&f::STREAM_APPENDED_MESSAGES, &|stream| Some(stream.appended_messages as f64));
    each(&f::STREAM_APPENDED_BYTES, &|stream| Some(stream.appended_bytes as f64));
    each(&f::STREAM_TAIL_AGE, &|stream| stream.tail_age.map(|age| age.as_secs_f64()));
}

fn show_storage(app: &App, shown: &mut Exposition) {
    let ended = app.storage.ended();
    let outcomes = ended.outcomes().map(|(operation, outcome, count)| {
        (vec![("operation", operation.as_str()), ("outcome", outcome.as_str())], count as f64)
    });
    shown.values(&f::STORAGE_REQUESTS, outcomes);
    let seconds =
        ended.seconds().map(|(operation, seconds)| (vec![("operation", operation.as_str())], seconds));
    shown.histograms(&f::STORAGE_SECONDS, seconds);
    shown.one(&f::STORAGE_RETRIES, app.env.retries.get() as f64);
    shown.one(&f::STORAGE_SENT_AGAIN, app.env.sent_again.get() as f64);
}

fn show_http(app: &App, shown: &mut Exposition) {
    shown.one(&f::CONNECTIONS, app.connections.load(Ordering::Relaxed) as f64);
    let requests = app.metrics.requests().map(|((route, method), status, count)| {
        (vec![("route", route), ("method", method), ("status", status)], count as f64)
    });
    shown.values(&f::HTTP_REQUESTS, requests);
    let seconds = app.metrics.seconds();
    let seconds =
        seconds.map(|((route, method), seconds)| (vec![("route", route), ("method", method)], seconds));
    shown.histograms(&f::HTTP_SECONDS, seconds);
}

fn show_process(app: &App, shown: &mut Exposition) {
    let process = Process::now();
    let alone = |value: Option<f64>| value.map(|value| (Vec::new(), value));
    shown.one(&f::PROCESS_START, app.started.0 as f64 / 1_000.0);
    shown.one(&f::PROCESS_CPU, process.cpu.as_secs_f64());
    shown.values(&f::PROCESS_RESIDENT, alone(process.resident_bytes.map(|bytes| bytes as f64)));
    shown.values(&f::PROCESS_FDS, alone(process.open_fds.map(|open| open as f64)));
    shown.values(&f::PROCESS_MAX_FDS, alone(process.max_fds.map(|most| most as f64)));
}
