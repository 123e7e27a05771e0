//! Requests to append and to read, and settings, as they are taken apart before a stream has to do with them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::Value;
use vault_format::limits::MAX_RUN_BYTES;
use vault_format::record::{Record, check_run};
use vault_server::http::fuzzing;
use vault_server::http::problem::Problem;

use crate::head::Request;

/// Small, so that the limit is met.
const MAX_VALUE_BYTES: usize = 1 << 10;

/// The headers that add something to what is in the body.
const ADDING: [&str; 4] = ["producer-id", "producer-epoch", "producer-seq", "traceparent"];

/// Takes a request apart as one to append, as one to read, and as one that gives settings.
pub fn append(bytes: &[u8]) {
    let Some(request) = Request::parse(bytes) else { return };
    if let Err(problem) = fuzzing::read(&request.uri, &request.headers) {
        refused(&problem);
    }
    match fuzzing::settings(&request.body) {
        Ok(patch) => patch.check().expect("settings that are taken are within their limits"),
        Err(problem) => refused(&problem),
    }
    let taken = fuzzing::append(&request.uri, &request.headers, &request.body, MAX_VALUE_BYTES);
    let (records, count) = match taken {
        Ok(taken) => taken,
        Err(problem) => return refused(&problem),
    };
    assert!(count > 0 && records.len() <= MAX_RUN_BYTES);
    if ADDING.iter().any(|name| request.headers.contains_key(*name)) {
        let mut rest = &records[..];
        for _ in 0..count {
            let record = Record::take(&mut rest).expect("what is taken is records");
            assert!(record.value.len() <= MAX_VALUE_BYTES);
        }
        assert!(rest.is_empty(), "there is nothing behind the last one");
        return;
    }
    assert_eq!(check_run(&records, MAX_VALUE_BYTES), Ok(count));
    again_by_way_of_json(&records, count);
}

fn refused(problem: &Problem) {
    let (word, status, ..) = problem.code().row();
    assert!(status.is_client_error(), "a request is refused with {status} {word}");
}

/// What a reader is told of the messages, sent again, makes the same records.
fn again_by_way_of_json(records: &[u8], count: u32) {
    let mut messages = Vec::new();
    let mut rest = records;
    while !rest.is_empty() {
        let record = Record::take(&mut rest).expect("what is taken is records");
        let headers: Vec<_> =
            record.headers().map(|(name, value)| format!("{}:{}", text(name), text(value))).collect();
        let (key, value) = (bytes_in_json("key", record.key), bytes_in_json("value", record.value));
        let (headers, attributes) = (headers.join(","), record.application_attributes());
        messages.push(format!("{{{key},{value},\"headers\":{{{headers}}},\"attributes\":{attributes}}}"));
    }
    assert_eq!(messages.len(), count as usize);
    let body = Bytes::from(format!("{{\"messages\":[{}]}}", messages.join(",")));
    let head = Request::parse(b"/\ncontent-type: application/json\n\n").expect("it is a request");
    let again = fuzzing::append(&head.uri, &head.headers, &body, MAX_VALUE_BYTES);
    let (again, again_count) = again.unwrap_or_else(|problem| panic!("{problem:?}: {body:?}"));
    assert_eq!((again_count, &again[..]), (count, records));
}

fn text(text: &str) -> Value {
    Value::from(text)
}

fn bytes_in_json(name: &str, bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(utf8) => format!("\"{name}\":{}", text(utf8)),
        Err(_) => format!("\"{name}_base64\":\"{}\"", BASE64_STANDARD.encode(bytes)),
    }
}
