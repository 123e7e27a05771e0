//! Keys and tokens, without an issuer that is asked: for fuzzing.

use axum::http::HeaderMap;

use crate::access::caller::Caller;
use crate::access::file;
use crate::access::keys::KeySet;
use crate::access::passwords;
use crate::access::policy::Policy;
use crate::access::refusal::Refused;
use crate::env::Env;

const FILE: &str = "issuers:\n- url: https://issuer.example\n  audience: messagevault\n  grants:\n  \
    - {subject: '*', grants: ['all:admin']}\n";

/// A key of each kind: those of RFC 7515, A.2 and A.3, and of RFC 8037, A.2.
const KEYS: &str = r#"{"keys":[
    {"kty":"RSA","kid":"r","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"},
    {"kty":"EC","kid":"e","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
    {"kty":"OKP","kid":"o","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// Whether this is a set of keys of which one at least can be used.
#[must_use]
pub fn are_keys(json: &[u8]) -> bool {
    KeySet::parse(json).is_ok()
}

/// Lets nobody in who shows a token that is not signed by an issuer whose keys are known. Must be called inside a runtime.
pub async fn let_in(headers: &HeaderMap) -> Result<Caller, Refused> {
    let env = Env::controlled(1);
    let file = file::parse(FILE.as_bytes()).expect("it is an access file");
    let policy = Policy::new(file, &env, &passwords::at_once(), None);
    for issuer in policy.issuers() {
        issuer.take(KeySet::parse(KEYS.as_bytes()).map_err(str::to_owned));
    }
    policy.authenticate(headers).await
}
