//! Who makes a request, and whether they may: asked before anything else, so that who may not see a stream cannot tell
//! whether it is there. A follower asks, and the leader again.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::access::audit::{Audit, Entry, Peer};
use crate::access::caller::Caller;
use crate::access::grants::Right;
use crate::http::app::App;
use crate::http::body::drain;
use crate::http::forward::{FORWARDED, FORWARDED_FOR};
use crate::http::problem::{Code, Problem};

/// What a request needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Need {
    /// Nothing at all.
    Nothing,
    /// That somebody makes it who may do something.
    Somebody,
    /// This right to the stream that the path names.
    Stream(Right),
}

/// `route` is the pattern that the path fits, none where it fits none.
fn need(route: Option<&str>, method: &Method) -> Need {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    match route {
        Some("/livez" | "/readyz") if reads => Need::Nothing,
        Some(route) if route.starts_with("/streams/") => Need::Stream(match *method {
            _ if reads => Right::Read,
            Method::POST => Right::Write,
            _ => Right::Admin,
        }),
        _ => Need::Somebody,
    }
}

/// Lets a request pass whose caller may make it. The [`Caller`] goes with it.
pub(crate) async fn authorize(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (mut parts, mut body) = request.into_parts();
    let Some(problem) = refuse(&app, &mut parts).await else {
        return next.run(Request::from_parts(parts, body)).await;
    };
    drain(&app, &parts.headers, &mut body).await;
    problem.into_response()
}

/// Why the request is refused, if it is; else its caller is known afterwards. What lasts asks again.
pub(crate) async fn refuse(app: &Arc<App>, parts: &mut Parts) -> Option<Problem> {
    let need = need(route(parts).as_deref(), &parts.method);
    if need == Need::Nothing {
        parts.extensions.insert(Caller::new("nobody".to_owned(), []));
        return None;
    }
    let access = &app.settings.access;
    let (who, problem) = match access.authenticate(&parts.headers).await {
        Err(refused) => (None, refused.into()),
        Ok(caller) => match may(&caller, need, parts).await {
            Ok(()) => {
                parts.extensions.insert(caller);
                return None;
            }
            Err(problem) => (Some(caller), problem),
        },
    };
    let status = problem.code().row().1;
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        let entry = entry(who.as_ref(), parts).await;
        access.audit.refused(&entry, status.as_u16(), problem.detail());
    }
    Some(problem)
}

async fn may(caller: &Caller, need: Need, parts: &mut Parts) -> Result<(), Problem> {
    let refused = |detail: String| Err(Problem::new(Code::Forbidden, detail));
    if !caller.may_anything() {
        return refused("the access file grants nothing to this caller".to_owned());
    }
    let Need::Stream(right) = need else { return Ok(()) };
    let Some(stream) = stream(parts).await else {
        return Err(Problem::new(Code::InvalidName, "the stream's name is not UTF-8"));
    };
    if caller.may(&stream, right) {
        return Ok(());
    }
    refused(format!("this needs the grant `{}` for the stream", right.as_str()))
}

fn route(parts: &Parts) -> Option<String> {
    parts.extensions.get::<MatchedPath>().map(|route| route.as_str().to_owned())
}

/// The stream that the path names, decoded as the handlers get it.
async fn stream(parts: &mut Parts) -> Option<String> {
    let Path(mut parameters) = Path::<HashMap<String, String>>::from_request_parts(parts, &()).await.ok()?;
    parameters.remove("stream")
}

async fn entry(who: Option<&Caller>, parts: &mut Parts) -> Entry {
    let route = route(parts);
    let handed_on = parts.headers.contains_key(FORWARDED);
    let said = parts.headers.get(FORWARDED_FOR).filter(|_| handed_on);
    Entry {
        who: who.map(|caller| caller.name().to_owned()),
        peer: parts.extensions.get::<Peer>().map(|Peer(peer)| *peer),
        handed_on_for: said.and_then(|said| said.to_str().ok()).map(|said| said.chars().take(64).collect()),
        what: format!("{} {}", parts.method, route.as_deref().unwrap_or("no route")),
        stream: stream(parts).await.map(|stream| stream.escape_debug().take(64).collect()),
    }
}

/// Tells the audit log of what changes streams, and of plans that lead round the servers, when it has been carried out
/// here.
pub(crate) async fn tell(request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let route = route(&parts);
    let told = need(route.as_deref(), &parts.method) == Need::Stream(Right::Admin)
        || route.as_deref() == Some("/streams/{stream}/access");
    if !told {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let caller = parts.extensions.get::<Caller>().cloned();
    let mut telling = Telling { entry: entry(caller.as_ref(), &mut parts).await, status: None };
    let response = next.run(Request::<Body>::from_parts(parts, body)).await;
    telling.status = Some(response.status().as_u16());
    response
}

/// Tells when it goes: what was begun goes on although the client went away.
struct Telling {
    entry: Entry,
    status: Option<u16>,
}

impl Drop for Telling {
    fn drop(&mut self) {
        Audit::carried_out(&self.entry, self.status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_needs_something_but_the_probes() {
        let stream = "/streams/{stream}";
        let messages = "/streams/{stream}/messages";
        for (method, route, wanted) in [
            (Method::GET, Some("/livez"), Need::Nothing),
            (Method::HEAD, Some("/readyz"), Need::Nothing),
            (Method::POST, Some("/livez"), Need::Somebody),
            (Method::GET, Some("/"), Need::Somebody),
            (Method::GET, Some("/status"), Need::Somebody),
            (Method::GET, Some("/metrics"), Need::Somebody),
            (Method::GET, None, Need::Somebody),
            (Method::DELETE, None, Need::Somebody),
            (Method::GET, Some("/streams"), Need::Somebody),
            (Method::GET, Some(stream), Need::Stream(Right::Read)),
            (Method::HEAD, Some(stream), Need::Stream(Right::Read)),
            (Method::PUT, Some(stream), Need::Stream(Right::Admin)),
            (Method::PATCH, Some(stream), Need::Stream(Right::Admin)),
            (Method::DELETE, Some(stream), Need::Stream(Right::Admin)),
            (Method::TRACE, Some(stream), Need::Stream(Right::Admin)),
            (Method::POST, Some(messages), Need::Stream(Right::Write)),
            (Method::GET, Some(messages), Need::Stream(Right::Read)),
            (Method::GET, Some("/streams/{stream}/access"), Need::Stream(Right::Read)),
            (Method::GET, Some("/streams/{stream}/whatever/comes"), Need::Stream(Right::Read)),
        ] {
            assert_eq!(need(route, &method), wanted, "{method} {route:?}");
        }
    }
}
