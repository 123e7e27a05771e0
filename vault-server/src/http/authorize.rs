//! Who makes a request, and whether they may: asked before anything else, so that who may not see a stream cannot tell
//! whether it is there. A follower asks, and the leader again.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use vault_format::names::StreamName;

use crate::access::audit::{Audit, Entry, Peer};
use crate::access::caller::Caller;
use crate::access::grants::Right;
use crate::http::app::App;
use crate::http::body::drain;
use crate::http::forward::{FORWARDED, FORWARDED_FOR};
use crate::http::origin;
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
    let authenticated = match origin::check(&app.settings, parts) {
        Ok(()) => access.authenticate(&parts.headers).await.map_err(Problem::from),
        Err(cross_site) => Err(cross_site),
    };
    let (who, problem) = match authenticated {
        Err(problem) => (None, problem),
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
    Entry {
        who: who.map(|caller| caller.name().to_owned()),
        peer: parts.extensions.get::<Peer>().map(|Peer(peer)| *peer),
        handed_on_for: handed_on_for(&parts.headers),
        what: format!("{} {}", parts.method, route.as_deref().unwrap_or("no route")),
        stream: stream(parts).await.map(|stream| stream.escape_debug().take(64).collect()),
    }
}

fn handed_on_for(headers: &HeaderMap) -> Option<String> {
    let said = headers.get(FORWARDED_FOR).filter(|_| headers.contains_key(FORWARDED))?;
    Some(said.to_str().ok()?.chars().take(64).collect())
}

/// Who makes a request and from where, for handlers that find out by themselves that the audit log is to be told.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    caller: Option<Caller>,
    peer: Option<Peer>,
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let extensions = &parts.extensions;
        Ok(Self { caller: extensions.get().cloned(), peer: extensions.get().copied() })
    }
}

impl Asker {
    /// Begins `what` with a stream, on behalf of a request with these headers.
    pub(crate) fn begins(&self, headers: &HeaderMap, what: &str, stream: &StreamName) -> Telling {
        let entry = Entry {
            who: self.caller.as_ref().map(|caller| caller.name().to_owned()),
            peer: self.peer.map(|Peer(peer)| peer),
            handed_on_for: handed_on_for(headers),
            what: what.to_owned(),
            stream: Some(stream.to_string()),
        };
        Telling { entry: Some(entry), status: None }
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
    let telling = Telling { entry: Some(entry(caller.as_ref(), &mut parts).await), status: None };
    let response = next.run(Request::<Body>::from_parts(parts, body)).await;
    telling.ended(response.status());
    response
}

/// Tells when it goes: what was begun goes on although the client went away.
pub(crate) struct Telling {
    /// None where there turned out to be nothing to tell.
    entry: Option<Entry>,
    status: Option<u16>,
}

impl Telling {
    /// It ended so.
    pub(crate) fn ended(mut self, status: StatusCode) {
        self.status = Some(status.as_u16());
    }

    /// Nothing was to be done.
    pub(crate) fn nothing(mut self) {
        self.entry = None;
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        if let Some(entry) = &self.entry {
            Audit::carried_out(entry, self.status);
        }
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
