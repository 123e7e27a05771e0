//! Every failure of the log has its code and status.

use axum::response::IntoResponse;
use vault_format::ids::{Offset, Position};
use vault_format::record::{InvalidRecord, InvalidRun};

use crate::access::refusal::Refused;
use crate::http::problem::{Code, Problem};
use crate::log::error::{AdminError, AppendError, ReadError, StreamFault, Unusable};
use crate::storage::StorageError;

async fn shown(problem: Problem) -> (u16, serde_json::Value, bool) {
    let response = problem.into_response();
    let (status, retry) = (response.status().as_u16(), response.headers().contains_key("retry-after"));
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap(), retry)
}

#[tokio::test]
async fn every_failure_has_its_row() {
    let corrupt = StreamFault::Corrupt { segment: Offset(1), position: Position(512), detail: "x".into() };
    let too_new = StreamFault::FormatTooNew { segment: Offset(1), position: Position(512) };
    let down = || Unusable::Storage(StorageError::Unavailable("x".into()));
    let full = || Unusable::Storage(StorageError::Full("x".into()));
    let rows: Vec<(Problem, u16, &str, bool, &str)> = vec![
        (Unusable::NotFound.into(), 404, "stream_not_found", false, "none"),
        (Unusable::NoLeader.into(), 503, "no_leader", true, "none"),
        (Unusable::TimedOut.into(), 503, "timed_out", true, "none"),
        (down().into(), 503, "storage_unavailable", true, "none"),
        (full().into(), 507, "storage_full", true, "none"),
        (corrupt.into(), 500, "corrupt", false, "none"),
        (StreamFault::DataMissing("x".into()).into(), 500, "data_missing", false, "none"),
        (Unusable::from(too_new).into(), 500, "format_too_new", false, "none"),
        (
            AppendError::OffsetMismatch { next_offset: Offset(7) }.into(),
            412,
            "offset_mismatch",
            false,
            "none",
        ),
        (AppendError::QueueFull("x").into(), 429, "queue_full", true, "none"),
        (AppendError::RateExceeded { retry_after_seconds: 5 }.into(), 429, "rate_exceeded", true, "none"),
        (AppendError::StreamFull { max_bytes: 1 }.into(), 507, "stream_full", false, "none"),
        (AppendError::StorageFull("x".into()).into(), 507, "storage_full", true, "none"),
        (AppendError::OffsetsExhausted.into(), 409, "offsets_exhausted", false, "none"),
        (AppendError::Unusable(Unusable::TimedOut).into(), 503, "timed_out", true, "none"),
        (AppendError::Unknown(Unusable::TimedOut).into(), 503, "timed_out", true, "possible"),
        (AppendError::Unknown(Unusable::NoLeader).into(), 503, "no_leader", true, "possible"),
        (AppendError::Unknown(Unusable::NotFound).into(), 404, "stream_not_found", false, "possible"),
        (ReadError::BelowFirst { first_offset: Offset(7) }.into(), 410, "below_first", false, "none"),
        (ReadError::BeyondTail { end_offset: Offset(7) }.into(), 416, "beyond_tail", false, "none"),
        (Refused::Unauthenticated("x").into(), 401, "unauthenticated", false, "none"),
        (Refused::Busy.into(), 429, "authentication_busy", true, "none"),
        (Refused::IssuerUnavailable.into(), 503, "issuer_unavailable", true, "none"),
        (ReadError::Overloaded.into(), 503, "overloaded", true, "none"),
        (AdminError::OtherSettings("x".into()).into(), 409, "other_settings", false, "none"),
        (AdminError::TooManyStreams(7).into(), 409, "too_many_streams", false, "none"),
        (AdminError::Managed("x".into()).into(), 409, "managed_by_kubernetes", false, "none"),
        (AdminError::StillDeleting.into(), 409, "still_deleting", true, "none"),
        (AdminError::Busy.into(), 409, "busy", true, "none"),
        (AdminError::Unusable(down()).into(), 503, "storage_unavailable", true, "possible"),
        (AdminError::Unusable(Unusable::NoLeader).into(), 503, "no_leader", true, "none"),
        (
            InvalidRun { index: 7, reason: InvalidRecord::ValueTooLong { bytes: 2, limit: 1 } }.into(),
            413,
            "message_too_large",
            false,
            "none",
        ),
        (
            InvalidRun { index: 7, reason: InvalidRecord::KeyTooLong }.into(),
            400,
            "invalid_message",
            false,
            "none",
        ),
    ];
    for (problem, status, code, retryable, side_effects) in rows {
        let (found, body, retry_after) = shown(problem).await;
        assert_eq!(found, status, "{code}");
        assert_eq!((&body["code"], &body["retryable"]), (&code.into(), &retryable.into()));
        assert_eq!(body["side_effects"], side_effects, "{code}");
        assert_eq!(retry_after, status == 429 || status == 503, "{code}");
        let number = ["next_offset", "first_offset", "end_offset", "message_index"];
        let numbers: Vec<_> = number.iter().filter_map(|name| body.get(name)).collect();
        let wants = matches!(code, "offset_mismatch" | "below_first" | "beyond_tail")
            || code.starts_with("message_")
            || code == "invalid_message";
        assert_eq!(numbers, if wants { vec![7] } else { vec![] }, "{code}");
    }
}

#[test]
fn the_documentation_has_every_code_with_its_status() {
    let documentation = include_str!("../../../../docs/http-api.md");
    for code in Code::ALL {
        let (word, status, retryable, _) = code.row();
        let retryable = if retryable { "yes" } else { "no" };
        let row = format!("| `{word}` | {} | {retryable} |", status.as_u16());
        assert!(documentation.contains(&row), "{row}");
    }
}
