//! The `Authorization` header, taken apart.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use crate::access::refusal::Refused;
use crate::limits::{MAX_BASIC_BYTES, MAX_TOKEN_BYTES};

/// What a request shows to say who makes it.
#[derive(Clone, Copy)]
pub(super) enum Credentials<'a> {
    /// A name and a password, as base64.
    Basic(&'a str),
    /// A token.
    Bearer(&'a str),
}

impl<'a> Credentials<'a> {
    /// Those of a request.
    pub(super) fn of(headers: &'a HeaderMap) -> Result<Self, Refused> {
        const FORM: Refused =
            Refused::Unauthenticated("the Authorization header must be `Basic ...` or `Bearer ...`");
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let header = all.next().ok_or(Refused::Unauthenticated(
            "this server asks who you are: send an Authorization header, Basic or Bearer",
        ))?;
        if all.next().is_some() {
            return Err(Refused::Unauthenticated("there is more than one Authorization header"));
        }
        let (scheme, rest) = header.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(FORM)?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("basic") {
            return if rest.len() > MAX_BASIC_BYTES {
                Err(Refused::Unauthenticated("the user name and password are too long"))
            } else {
                Ok(Self::Basic(rest))
            };
        }
        if !scheme.eq_ignore_ascii_case("bearer") || rest.is_empty() {
            return Err(FORM);
        }
        if rest.len() > MAX_TOKEN_BYTES {
            return Err(Refused::Unauthenticated("the token is longer than 16 KiB"));
        }
        Ok(Self::Bearer(rest))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(values: &[&str]) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        match Credentials::of(&headers) {
            Ok(Credentials::Basic(text)) => Ok(format!("basic {text}")),
            Ok(Credentials::Bearer(text)) => Ok(format!("bearer {text}")),
            Err(refused) => Err(refused.to_string()),
        }
    }

    #[test]
    fn both_schemes_in_any_case() {
        assert_eq!(of(&["Basic abc"]).unwrap(), "basic abc");
        assert_eq!(of(&["bEARER  abc "]).unwrap(), "bearer abc");
    }

    #[test]
    fn everything_else_is_refused_without_being_repeated() {
        let long = "s".repeat(MAX_TOKEN_BYTES + 1);
        for values in [
            &[] as &[&str],
            &["Basic"],
            &["Bearer "],
            &["Digest secret"],
            &["secret"],
            &["Bearer secret", "Bearer secret"],
            &[&format!("Bearer {long}")],
            &[&format!("Basic {}", &long[..=MAX_BASIC_BYTES])],
        ] {
            let why = of(values).unwrap_err();
            assert!(!why.contains("secret") && !why.contains("sss"), "{why}");
        }
    }
}
