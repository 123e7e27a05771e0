//! What a page in somebody's browser must not do in their name.
//!
//! A browser sends some requests for any page that asks it to, to any address that it reaches, with the password that
//! it remembers for that address. It says in `Origin` and `Sec-Fetch-Site` for whom. What changes something is taken
//! from pages of this server alone, and from whatever is no browser and says nothing.
//!
//! Against that, a page can give its own name the address of this server (DNS rebinding), and is then of the same
//! origin. Where passwords are asked for, the browser has none for that name. Where nobody is asked who they are, and
//! loopback is what keeps others out, `Host` must be a name that is loopback's for sure.

use std::net::IpAddr;

use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, Method, Uri};

use crate::http::app::HttpSettings;
use crate::http::forward::FORWARDED;
use crate::http::problem::{Code, Problem};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what a page of another site may have sent.
///
/// # Errors
///
/// 403 `cross_site`.
pub(super) fn check(settings: &HttpSettings, parts: &Parts) -> Result<(), Problem> {
    let refused = |detail: &str| Err(Problem::new(Code::CrossSite, detail));
    if settings.local_names_only && !addressed(parts).all(|to| is_local(&to, settings)) {
        return refused(
            "without --access or --allow-anonymous, `Host` must be localhost, a loopback address or that of --advertise",
        );
    }
    // The follower has judged it. A page of another site cannot mark a request so: the browser would ask this server
    // first whether it may, and is told nothing of the kind.
    let handed_on = parts.headers.contains_key(FORWARDED);
    if handed_on || matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let own_site = |site: &HeaderValue| matches!(site.as_bytes(), b"same-origin" | b"none");
    if !parts.headers.get_all(SEC_FETCH_SITE).into_iter().all(own_site) {
        return refused("`Sec-Fetch-Site` says that a page of another site sends this");
    }
    if !parts.headers.get_all(ORIGIN).into_iter().all(|origin| is_own(origin, settings, parts)) {
        return refused("`Origin` is neither the server that this was sent to nor that of --advertise");
    }
    Ok(())
}

/// A host and its port as the request names them; none where it is not one.
type To = Option<Authority>;

/// What the request says it is sent to: `:authority` or an absolute URI, and `Host`. Tools may say nothing.
fn addressed(parts: &Parts) -> impl Iterator<Item = To> {
    let of_uri = parts.uri.authority().cloned().map(Some);
    let hosts = parts.headers.get_all(HOST).into_iter().filter(|host| !host.is_empty());
    of_uri.into_iter().chain(hosts.map(|host| Authority::try_from(host.as_bytes()).ok()))
}

fn is_local(to: &To, settings: &HttpSettings) -> bool {
    let Some(to) = to else { return false };
    let host = to.host().to_ascii_lowercase();
    let name = host.strip_suffix('.').unwrap_or(&host);
    let ip = name.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(name);
    name == "localhost"
        || name.ends_with(".localhost")
        || ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        || advertised(settings)
            .is_some_and(|uri| uri.host().is_some_and(|own| own.eq_ignore_ascii_case(&host)))
}

fn advertised(settings: &HttpSettings) -> Option<Uri> {
    settings.advertise.parse().ok()
}

/// Whether an origin is this server, as it is advertised or as the request names it. TLS may end in front of the server
/// without a word, so that only the advertised URL says which scheme is right.
fn is_own(origin: &HeaderValue, settings: &HttpSettings, parts: &Parts) -> bool {
    let Ok(origin) = Uri::try_from(origin.as_bytes()) else { return false };
    let (Some(scheme), Some(authority)) = (origin.scheme_str(), origin.authority()) else { return false };
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let is_it = |other: &Authority| {
        other.host().eq_ignore_ascii_case(authority.host())
            && other.port_u16().unwrap_or(default_port) == authority.port_u16().unwrap_or(default_port)
    };
    addressed(parts).any(|to| to.is_some_and(|to| is_it(&to)))
        || advertised(settings)
            .is_some_and(|own| own.scheme_str() == Some(scheme) && own.authority().is_some_and(is_it))
}
