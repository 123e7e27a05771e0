//! Access files, published keys, and tokens.

use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use vault_server::access::{self, fuzzing};

use crate::server::in_a_runtime;

/// Longer ones are refused by their length, or take YAML longer than a fuzzer has patience.
const MOST: usize = 16 << 10;

/// Looks at the bytes as each of the three.
pub fn access(bytes: &[u8]) {
    if bytes.len() > MOST {
        return;
    }
    if let Ok(text) = str::from_utf8(bytes)
        && let Err(why) = access::check(text)
    {
        assert!(!why.is_empty() && !why.contains('\n'), "{why}");
    }
    let _usable = fuzzing::are_keys(bytes);
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let let_in = in_a_runtime(async { fuzzing::let_in(&headers).await });
        assert!(let_in.is_err(), "nobody has signed this");
    }
}
