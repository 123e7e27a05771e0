//! What a follower hands on to the leader: whatever changes something, and reads that wait for messages to come
//! or follow a stream.
//!
//! A request travels one hop at most. It carries the term that the follower knows, and a server that does not lead under
//! that very term refuses it: an address may have become somebody else's.

mod following;
mod peers;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use tokio::sync::Mutex;
use vault_format::ids::Term;

use self::following::relay_following;
pub(crate) use self::peers::Peers;
pub use self::peers::{Carrier, NotCarried};
use self::peers::{Line, Silence};
use crate::access::audit::Peer;
use crate::election::standing::Leader;
use crate::http::app::App;
use crate::http::body::drain;
use crate::http::breaking;
use crate::http::problem::{Code, Problem};
use crate::http::read::parameters::Format;
use crate::limits::FORWARD_GRACE;
use crate::traces;

/// On a request that a follower has handed on: the term under which it takes this server for the leader.
pub(crate) const FORWARDED: HeaderName = HeaderName::from_static("message-vault-forwarded");

/// On such a request: the address that it came from.
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("message-vault-forwarded-for");

/// Headers that are about one connection and not about the request.
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    EXPECT,
    HOST,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Where a request is carried out.
enum Place {
    Here,
    /// By this leader, and nowhere else.
    Leader(Leader),
    /// Better by this leader; here where it cannot be reached.
    RatherLeader(Leader),
}

/// Carries a request out here or by the leader.
pub(crate) async fn forward(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match place(&app, &request) {
        Ok(Place::Here) => next.run(request).await,
        Ok(Place::Leader(leader)) => {
            let (parts, body) = request.into_parts();
            let (headers, body) = (parts.headers.clone(), SharedBody::new(body));
            let relayed = relay(&app, &leader, parts, Some(body.stream())).await;
            doubt(&app, &relayed);
            match relayed {
                Ok(response) => response,
                Err(problem) => {
                    drain(&app, &headers, &mut *body.0.lock().await).await;
                    problem.into_response()
                }
            }
        }
        Ok(Place::RatherLeader(leader)) => {
            let follows = follows(&request);
            let (parts, body) = request.into_parts();
            let relaying = async {
                if follows {
                    relay_following(&app, &leader, parts.clone()).await
                } else {
                    relay(&app, &leader, parts.clone(), None).await
                }
            };
            let relayed = tokio::select! {
                relayed = relaying => relayed,
                // Carried out here it is answered at once.
                () = app.stopping.cancelled() => Err(silent(false, "this server is ending")),
            };
            doubt(&app, &relayed);
            match relayed {
                // What no longer leads, or cannot read now, says so: the other server may do better.
                Ok(response) if response.status() != StatusCode::SERVICE_UNAVAILABLE => response,
                refused => {
                    let mut request = Request::from_parts(parts, body);
                    if let Some(problem) = not_found_yet(&app) {
                        let headers = request.headers().clone();
                        drain(&app, &headers, request.body_mut()).await;
                        return problem.into_response();
                    }
                    tracing::debug!(?refused, "a read waits here, since the leader does not carry it out");
                    next.run(request).await
                }
            }
        }
        Err(problem) => {
            let (parts, mut body) = request.into_parts();
            drain(&app, &parts.headers, &mut body).await;
            problem.into_response()
        }
    }
}

/// Has it looked up soon whether the leader still leads, unless it has carried the request out or refused it for a reason.
fn doubt(app: &App, relayed: &Result<Response, Problem>) {
    if relayed.as_ref().map_or(true, |response| response.status() == StatusCode::SERVICE_UNAVAILABLE) {
        app.vault.doubt_leader();
    }
}

fn place(app: &App, request: &Request) -> Result<Place, Problem> {
    let term = app.vault.term();
    if let Some(mark) = request.headers().get(FORWARDED) {
        let forwarded = mark.to_str().ok().and_then(|mark| mark.parse().ok()).map(Term).ok_or_else(|| {
            Problem::new(Code::InvalidParameter, format!("the header `{FORWARDED}` must be a term"))
        })?;
        return if term == Some(forwarded) {
            Ok(Place::Here)
        } else {
            let detail = format!("this server does not lead under term {forwarded}; try again soon");
            Err(Problem::new(Code::NoLeader, detail))
        };
    }
    if term.is_some() || !request.uri().path().starts_with("/streams") {
        return Ok(Place::Here);
    }
    let leader = app.standing.borrow().leader.clone();
    let leader = leader.filter(|leader| leader.endpoint != app.settings.advertise);
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    match leader {
        Some(leader) if changes => Ok(Place::Leader(leader)),
        Some(leader) if waits(request) || follows(request) => Ok(Place::RatherLeader(leader)),
        None if changes => Err(no_leader(app)),
        _ => not_found_yet(app).map_or(Ok(Place::Here), Err),
    }
}

/// Until this server has found its vault, what it reads might be another's: why it does not read here, if so.
fn not_found_yet(app: &App) -> Option<Problem> {
    if app.vault.term().is_some() || app.standing.borrow().listed {
        return None;
    }
    let why = app.why_not_ready().unwrap_or_else(|| "this server has only begun".to_owned());
    Some(Problem::new(Code::NotReady, why))
}

fn no_leader(app: &App) -> Problem {
    let standing = app.standing.borrow();
    let why = standing.trouble.as_deref().unwrap_or("no leader is known");
    Problem::new(Code::NoLeader, format!("{why}; try again soon"))
}

/// Whether a read may be held open until something arrives. Whoever carries it out checks the parameter.
fn waits(request: &Request) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|parameter| parameter.strip_prefix("wait=").is_some_and(|wait| wait != "0"))
}

/// Whether a read goes on at the tail. Whoever carries it out checks the parameter.
fn follows(request: &Request) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|parameter| parameter == "follow=true") || is_event_stream(request.headers())
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    Format::accepted(headers).is_ok_and(|format| format == Format::Events)
}

/// A body that is handed on, and whose rest can be thrown away where that fails.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<Body>>);

impl SharedBody {
    fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    fn stream(&self) -> reqwest::Body {
        reqwest::Body::wrap_stream(futures::stream::unfold(self.clone(), async |shared| {
            let mut body = shared.0.lock().await;
            let data = loop {
                match body.frame().await? {
                    // Trailers are about one connection.
                    Ok(frame) => match frame.into_data() {
                        Ok(data) => break Ok(data),
                        Err(_) => continue,
                    },
                    Err(error) => break Err(error),
                }
            };
            drop(body);
            Some((data, shared))
        }))
    }
}

async fn relay(
    app: &App,
    leader: &Leader,
    parts: Parts,
    body: Option<reqwest::Body>,
) -> Result<Response, Problem> {
    let route = app.peers.route(&leader.endpoint);
    let exchanging = exchange(app, (&route.soon, &route.base), leader, parts, body);
    let answer = traces::part("forward", SpanKind::Client, || about(leader), exchanging).await?;
    let (status, headers) = (answer.status(), end_to_end(answer.headers().clone()));
    Ok(relayed(status, headers, breaking::body(&app.env, answer.bytes_stream())))
}

/// What the span of a request that is handed on says of the leader.
fn about(leader: &Leader) -> Vec<KeyValue> {
    vec![
        KeyValue::new("url.full", leader.endpoint.clone()),
        KeyValue::new("messagevault.term", leader.term.to_string()),
    ]
}

fn relayed(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    response
}

/// Sends a request to the leader and waits for the head of its answer.
async fn exchange(
    app: &App,
    (line, base): (&Line, &str),
    leader: &Leader,
    parts: Parts,
    body: Option<reqwest::Body>,
) -> Result<reqwest::Response, Problem> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = end_to_end(parts.headers);
    if body.is_none() {
        // The leader would take the beginning of what comes next on the connection for the body.
        headers.remove(CONTENT_LENGTH);
    }
    headers.insert(FORWARDED, leader.term.0.into());
    headers.remove(FORWARDED_FOR);
    let peer = parts.extensions.get::<Peer>().and_then(|Peer(peer)| peer.to_string().try_into().ok());
    if let Some(peer) = peer {
        headers.insert(FORWARDED_FOR, peer);
    }
    traces::serve::hand_on(&mut headers);
    let changes = body.is_some();
    let sending = line.send(parts.method, format!("{base}{path}"), headers, body);
    let answered = tokio::select! {
        biased;
        answered = sending => answered,
        () = deposed(app, leader.term) => return Err(silent(changes, "another server leads by now")),
    };
    answered.map_err(|Silence { why, may_be_done }| {
        tracing::debug!(why, leader = leader.endpoint, "the leader does not answer");
        silent(changes && may_be_done, "it does not answer")
    })
}

/// What was sent to a leader that is silent may have been carried out.
fn silent(changes: bool, why: &str) -> Problem {
    let problem = Problem::new(Code::NoLeader, format!("the request was handed on to the leader, but {why}"));
    if changes { problem.with_side_effects() } else { problem }
}

/// Ends a while after somebody else than the leader of `term` leads.
async fn deposed(app: &App, term: Term) {
    let mut standing = app.standing.clone();
    let theirs = |leader: &Leader| leader.term == term;
    // Where the election is over, the server is about to end: the client's time-outs apply.
    if standing.wait_for(|standing| !standing.leader.as_ref().is_some_and(theirs)).await.is_err() {
        std::future::pending::<()>().await;
    }
    app.env.clock.sleep(FORWARD_GRACE).await;
}

fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
    headers
}
