//! The network between clients and servers, and from server to server: HTTP as messages.
//!
//! A request is carried whole to a server's router, which runs as that server's task; the head of the answer and each
//! piece of its body are carried back one after the other. Byte streams, with hyper at both ends, would try the handling of
//! connections too; that is left to the tests of real processes, and everything above it is what runs here. Like a
//! connection, an exchange ends for the server when the other side has gone, and breaks off when the server dies: at once,
//! or, as when its machine has gone, only by somebody's patience.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::StreamExt;
use http::{Request, Response};
use http_body_util::BodyDataStream;
use tokio::sync::{mpsc, oneshot};
use tower::ServiceExt;
use vault_client::SideEffects;
use vault_client::simulated::{Network, Pieces};
use vault_format::ids::Timestamp;
use vault_server::http::app::{Carrier, NotCarried};

use crate::world::{Life, Place, World};

/// How long the way takes, in ms, when nothing is wrong.
const LATENCY_MS: (u64, u64) = (1, 5);

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);

/// How many pieces of an answer are on their way at most.
const PIECES: usize = 8;

/// What listens at each server's address.
#[derive(Clone, Default)]
pub struct Listening(Arc<Mutex<Vec<Listener>>>);

/// A server's life and routes, while it listens.
type Listener = Option<(Life, Router)>;

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listening")
    }
}

impl Listening {
    /// A server listens, or no longer does.
    pub fn set(&self, server: usize, listener: Listener) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= server {
            all.resize_with(server + 1, || None);
        }
        all[server] = listener;
    }

    fn get(&self, server: usize) -> Listener {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(server)?.clone()
    }
}

/// The URL of a server.
#[must_use]
pub fn url(server: usize) -> String {
    format!("http://server-{server}:8480")
}

fn server_at(host: &str) -> Option<usize> {
    host.strip_prefix("server-")?.parse().ok()
}

/// The network as it is seen from one place.
#[derive(Clone, Debug)]
pub struct Seen {
    listening: Listening,
    life: Life,
}

/// Why no answer came.
struct NoAnswer {
    why: &'static str,
    arrived: bool,
}

fn way_ms(world: &World) -> u64 {
    world.draw(|dice| dice.between(LATENCY_MS.0, LATENCY_MS.1))
}

/// One way, however long it is closed.
async fn pass(world: &World, from: Place, to: Place) {
    tokio::time::sleep(Duration::from_millis(way_ms(world))).await;
    if !world.is_open(from, to) {
        world.until_open(from, to).await;
        tokio::time::sleep(Duration::from_millis(way_ms(world))).await;
    }
}

impl Seen {
    /// As it is seen in one life of a server, or by the clients.
    #[must_use]
    pub fn from(life: &Life, listening: &Listening) -> Self {
        Self { listening: listening.clone(), life: life.clone() }
    }

    async fn exchange(&self, server: usize, request: Request<Body>) -> Result<Response<Pieces>, NoAnswer> {
        let world = self.life.world().clone();
        let (here, there) = (self.life.place(), Place::Server(server));
        if !self.life.lives() {
            std::future::pending::<()>().await;
        }
        let number = world.number();
        world.trace(format_args!("{here} #{number} {} {} to {there}", request.method(), request.uri()));
        tokio::time::sleep(Duration::from_millis(way_ms(&world))).await;
        if !world.is_open(here, there) && world.draw(|dice| dice.per_mille(500)) {
            // A connection that is to be made now; one that is there holds the request back.
            tokio::time::sleep(CONNECT).await;
            self.life.awake().await;
            return Err(NoAnswer { why: "no connection", arrived: false });
        }
        world.until_open(here, there).await;
        let Some((life, router)) = self.listening.get(server) else {
            pass(&world, there, here).await;
            self.life.awake().await;
            return Err(NoAnswer { why: "connection refused", arrived: false });
        };
        let (head, answered) = oneshot::channel();
        let serving = Serving { world: world.clone(), life: life.clone(), here, there, number };
        tokio::spawn(serving.serve(router, request, head));
        let silent = world.draw(|dice| dice.per_mille(200));
        let broken = {
            let (world, life) = (world.clone(), life);
            async move {
                life.over().await;
                if silent {
                    std::future::pending::<()>().await;
                }
                pass(&world, there, here).await;
            }
        };
        let mut broken = Box::pin(broken);
        let answer = tokio::select! {
            biased;
            answer = answered => answer.map_err(|_| ()),
            () = &mut broken => Err(()),
        };
        self.life.awake().await;
        let Ok((parts, pieces)) = answer else {
            world.trace(format_args!("{here} #{number} broken"));
            return Err(NoAnswer { why: "the connection broke", arrived: true });
        };
        world.trace(format_args!("{here} #{number} <- {}", parts.status));
        let body = Receiving { pieces, broken, life: self.life.clone() };
        let body = futures::stream::unfold(Some(body), async |body| body?.next().await);
        Ok(Response::from_parts(parts, body.fuse().boxed()))
    }
}

type Piece = Result<Bytes, String>;
type Head = (http::response::Parts, mpsc::Receiver<Piece>);

/// The server's side of an exchange.
struct Serving {
    world: World,
    life: Life,
    here: Place,
    there: Place,
    number: u64,
}

impl Serving {
    async fn serve(self, router: Router, request: Request<Body>, mut head: oneshot::Sender<Head>) {
        let Self { world, life, here, there, .. } = &self;
        life.awake().await;
        let response = {
            let gone = async {
                head.closed().await;
                pass(world, *here, *there).await;
                life.awake().await;
            };
            tokio::select! {
                biased;
                response = router.oneshot(request) => response,
                () = gone => return world.trace(format_args!("{there} #{} given up", self.number)),
            }
        };
        let Ok(response) = response;
        if !life.lives() {
            return;
        }
        let (parts, body) = response.into_parts();
        pass(world, *there, *here).await;
        let (sender, pieces) = mpsc::channel(PIECES);
        if head.send((parts, pieces)).is_err() {
            return;
        }
        let mut body = body.into_data_stream();
        loop {
            let gone = async {
                sender.closed().await;
                pass(world, *here, *there).await;
            };
            let piece = tokio::select! {
                biased;
                piece = body.next() => piece,
                () = gone => return,
            };
            let Some(piece) = piece else { break };
            life.awake().await;
            pass(world, *there, *here).await;
            let piece = piece.map_err(|error| error.to_string());
            let failed = piece.is_err();
            if sender.send(piece).await.is_err() || failed {
                return;
            }
        }
    }
}

/// The other side's.
struct Receiving {
    pieces: mpsc::Receiver<Piece>,
    broken: futures::future::BoxFuture<'static, ()>,
    life: Life,
}

impl Receiving {
    async fn next(mut self) -> Option<(Piece, Option<Self>)> {
        let piece = tokio::select! {
            biased;
            piece = self.pieces.recv() => piece,
            () = &mut self.broken => Some(Err("the connection broke".to_owned())),
        };
        self.life.awake().await;
        match piece? {
            Ok(piece) => Some((Ok(piece), Some(self))),
            Err(error) => Some((Err(error), None)),
        }
    }
}

impl Network for Seen {
    fn send(
        &self,
        server: usize,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Result<Response<Pieces>, (String, SideEffects)>> {
        let seen = self.clone();
        Box::pin(async move {
            seen.exchange(server, request.map(Body::from)).await.map_err(|NoAnswer { why, arrived }| {
                let side_effects = if arrived { SideEffects::Possible } else { SideEffects::None };
                (why.to_owned(), side_effects)
            })
        })
    }

    fn now(&self) -> Timestamp {
        self.life.world().wall_clock(self.life.place())
    }
}

impl Carrier for Seen {
    fn carry(
        &self,
        request: reqwest::Request,
        longest: Option<Duration>,
    ) -> BoxFuture<'static, Result<reqwest::Response, NotCarried>> {
        let seen = self.clone();
        Box::pin(async move {
            let refused = |why: &str| NotCarried { why: why.to_owned(), may_be_done: false };
            let server = request.url().host_str().and_then(server_at);
            let server = server.ok_or_else(|| refused("no such server"))?;
            let mut asked = Request::new(Body::empty());
            *asked.method_mut() = request.method().clone();
            let query = request.url().query().map_or(String::new(), |query| format!("?{query}"));
            let target = format!("{}{query}", request.url().path());
            *asked.uri_mut() = target.parse().map_err(|_| refused("no such path"))?;
            *asked.headers_mut() = request.headers().clone();
            let mut request = request;
            if let Some(body) = request.body_mut().take() {
                // A body that is a connection's may be asked for more behind its end.
                *asked.body_mut() = Body::from_stream(BodyDataStream::new(body).fuse());
            }
            let longest = longest.unwrap_or(Duration::MAX);
            let answered = tokio::time::timeout(longest, seen.exchange(server, asked)).await;
            let late = NoAnswer { why: "the answer took too long", arrived: true };
            let answer = answered.unwrap_or(Err(late));
            let answer = answer.map_err(|NoAnswer { why, arrived }| NotCarried {
                why: why.to_owned(),
                may_be_done: arrived,
            })?;
            let (parts, pieces) = answer.into_parts();
            let pieces = futures::stream::unfold(Some(pieces), move |pieces| async move {
                let mut pieces = pieces?;
                match tokio::time::timeout(longest, pieces.next()).await {
                    Ok(Some(Ok(piece))) => Some((Ok(piece), Some(pieces))),
                    Ok(None) => None,
                    Ok(Some(Err(why))) => Some((Err(std::io::Error::other(why)), None)),
                    Err(_) => Some((Err(std::io::Error::other("the answer paused too long")), None)),
                }
            });
            let body = reqwest::Body::wrap_stream(pieces.fuse());
            Ok(reqwest::Response::from(Response::from_parts(parts, body)))
        })
    }
}
