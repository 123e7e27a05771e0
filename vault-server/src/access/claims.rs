//! What a signed token claims, held against what is asked of it. The signature has been verified before.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::access::caller::Caller;
use crate::access::file::{IssuerEntry, Rule};
use crate::access::grants::Grant;
use crate::access::refusal::Refused;
use crate::limits::{MAX_ACCESS_NAME_CHARS, MAX_CALLER_GRANTS, TOKEN_LEEWAY_S};

/// The claims of a token.
pub(super) type Claims = Map<String, Value>;

/// Whose token it is, and until when, in seconds since 1970, it is good.
pub(super) fn caller(claims: &Claims, entry: &IssuerEntry, now_s: u64) -> Result<(Caller, u64), Refused> {
    let refused = |why| Err(Refused::Unauthenticated(why));
    if claims.get("iss").and_then(Value::as_str) != Some(&entry.url.0) {
        return refused("the token's issuer is none that this server trusts");
    }
    if !claims.get("aud").is_some_and(|audience| is_or_holds(audience, &entry.audience.0)) {
        return refused("the token is for somebody else: its audience is not the one that this server wants");
    }
    let Some(expires_s) = claims.get("exp").and_then(seconds) else {
        return refused("the token does not say when it expires");
    };
    let good_until_s = expires_s.saturating_add(TOKEN_LEEWAY_S);
    if now_s >= good_until_s {
        return refused("the token has expired");
    }
    if let Some(begins) = claims.get("nbf") {
        match seconds(begins) {
            Some(begins_s) if begins_s <= now_s.saturating_add(TOKEN_LEEWAY_S) => {}
            Some(_) => return refused("the token is not good yet"),
            None => return refused("the token's `nbf` is no time"),
        }
    }
    let Some(subject) = claims.get("sub").and_then(Value::as_str) else {
        return refused("the token does not say whose it is");
    };
    let shown: String = subject.escape_debug().take(MAX_ACCESS_NAME_CHARS).collect();
    let grants = granted(&entry.grants, subject, claims);
    Ok((Caller::new(format!("{shown} of {}", entry.url.0), grants), good_until_s))
}

/// The grants of all rules that fit, or of the first of them where all would be too many.
fn granted(rules: &[Rule], subject: &str, claims: &Claims) -> Vec<Arc<[Grant]>> {
    let fits = |rule: &&Rule| {
        rule.subject.as_ref().is_none_or(|wanted| wanted.covers(subject))
            && rule
                .claims
                .iter()
                .all(|(name, wanted)| claims.get(name).is_some_and(|value| is_or_holds(value, wanted)))
    };
    let mut count = 0;
    let few_enough = |grants: &Arc<[Grant]>| {
        count += grants.len();
        count <= MAX_CALLER_GRANTS
    };
    rules.iter().filter(fits).map(|rule| Arc::clone(&rule.grants)).take_while(few_enough).collect()
}

/// Whether a claim is this text, or a list with it.
fn is_or_holds(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Array(all) => all.iter().any(|one| one.as_str() == Some(wanted)),
        _ => false,
    }
}

/// A time as RFC 7519 has it: a number, with a fraction perhaps.
fn seconds(value: &Value) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the range")]
    let whole = |number: f64| (0.0..1e15).contains(&number).then_some(number as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::access::file;
    use crate::access::grants::Right;

    const NOW: u64 = 1_000_000;

    fn entry() -> IssuerEntry {
        let text = "issuers:\n- url: https://issuer.example\n  audience: messagevault\n  grants:\n  \
            - {subject: 'system:serviceaccount:shop:*', grants: ['orders:write']}\n  \
            - {claims: {roles: vault-admin}, grants: ['all:admin']}\n  \
            - {subject: me, claims: {tid: t}, grants: ['mine:read']}\n";
        file::parse(text.as_bytes()).unwrap().issuers.remove(0)
    }

    fn with(changes: &Value) -> Result<Caller, String> {
        let mut claims = json!({
            "iss": "https://issuer.example", "aud": ["other", "messagevault"], "exp": NOW + 600, "nbf": NOW - 10,
            "sub": "system:serviceaccount:shop:till",
        });
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        let found = caller(claims.as_object().unwrap(), &entry(), NOW);
        found.map(|(caller, _)| caller).map_err(|refused| refused.to_string())
    }

    #[test]
    fn a_good_token_has_the_grants_of_all_rules_that_fit() {
        let till = with(&json!({})).unwrap();
        assert_eq!(till.name(), "system:serviceaccount:shop:till of https://issuer.example");
        assert!(till.may("orders", Right::Write) && !till.may("orders", Right::Admin));
        assert!(!till.may("mine", Right::Read));
        for roles in [json!("vault-admin"), json!(["x", "vault-admin"])] {
            assert!(with(&json!({ "roles": roles })).unwrap().may("anything", Right::Admin));
        }
        for roles in [json!("vault-administrator"), json!(["x"]), json!({"vault-admin": true}), json!(1)] {
            assert!(!with(&json!({ "roles": roles })).unwrap().may("anything", Right::Read), "{roles}");
        }
        assert!(with(&json!({"sub": "me", "tid": "t"})).unwrap().may("mine", Right::Read));
        assert!(!with(&json!({"sub": "me"})).unwrap().may_anything());
        assert!(!with(&json!({"sub": "you", "tid": "t"})).unwrap().may_anything());
    }

    #[test]
    fn everything_else_is_refused_in_words_that_say_why() {
        for (changes, says) in [
            (json!({"iss": "https://issuer.example/"}), "issuer"),
            (json!({"iss": null}), "issuer"),
            (json!({"iss": ["https://issuer.example"]}), "issuer"),
            (json!({"aud": "other"}), "audience"),
            (json!({"aud": null}), "audience"),
            (json!({"aud": {"messagevault": 1}}), "audience"),
            (json!({"exp": null}), "expires"),
            (json!({"exp": "tomorrow"}), "expires"),
            (json!({"exp": -1}), "expires"),
            (json!({"exp": NOW - 30}), "has expired"),
            (json!({"nbf": NOW + 31}), "not good yet"),
            (json!({"nbf": "x"}), "nbf"),
            (json!({"sub": null}), "whose"),
        ] {
            let why = with(&changes).unwrap_err();
            assert!(why.contains(says), "{changes}: {why}");
        }
    }

    #[test]
    fn clocks_may_be_off_by_half_a_minute() {
        for changes in [
            json!({"exp": NOW - 29}),
            json!({"exp": 1e6 - 28.5}),
            json!({"nbf": NOW + 30}),
            json!({"nbf": null}),
            json!({"exp": u64::MAX}),
        ] {
            with(&changes).unwrap_or_else(|why| panic!("{changes}: {why}"));
        }
    }

    #[test]
    fn a_subject_cannot_break_a_line_of_the_log() {
        let name = with(&json!({"sub": format!("a\n{}", "b".repeat(10_000))})).unwrap().name().to_owned();
        assert!(!name.contains('\n') && name.len() < 400, "{name}");
    }
}
