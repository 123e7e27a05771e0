//! The client over a network that is not there: a simulation carries its requests and tells it the time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use http::{Request, Response};
use vault_format::ids::Timestamp;

use crate::client::Client;
use crate::error::SideEffects;
use crate::transport::{Failed, RawAnswer, Transport};

/// The body of an answer, in the pieces in which it comes.
pub type Pieces = BoxStream<'static, Result<Bytes, String>>;

/// What stands in for the network between a client and its servers.
pub trait Network: Send + Sync + fmt::Debug {
    /// Carries a request, whose URI is a path and a query, to the server of this number. Answers with the head of what it
    /// says once that has come back, or with why nothing came and whether the request may have arrived.
    fn send(
        &self,
        server: usize,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Result<Response<Pieces>, (String, SideEffects)>>;

    /// The wall clock where the client runs.
    fn now(&self) -> Timestamp;
}

impl Client {
    /// A client of the servers at these URLs, which `network` leads to. `retry_time` is as in
    /// [`ClientBuilder::retry_time`](crate::ClientBuilder::retry_time).
    #[must_use]
    pub fn simulated(network: Arc<dyn Network>, urls: Vec<String>, retry_time: Duration) -> Self {
        let transport = Simulated { network, urls };
        Self::over(Arc::new(transport), None, String::new(), Some(retry_time), None)
    }
}

#[derive(Debug)]
struct Simulated {
    network: Arc<dyn Network>,
    urls: Vec<String>,
}

impl Transport for Simulated {
    fn endpoints(&self) -> usize {
        self.urls.len()
    }

    fn endpoint(&self, index: usize) -> &str {
        &self.urls[index]
    }

    fn send(&self, index: usize, request: Request<Bytes>) -> BoxFuture<'_, Result<RawAnswer, Failed>> {
        let answered = self.network.send(index, request);
        Box::pin(async move {
            match answered.await {
                Ok(answer) => {
                    let (parts, body) = answer.into_parts();
                    Ok(RawAnswer { status: parts.status, headers: parts.headers, body: body.boxed() })
                }
                Err((reason, side_effects)) => Err(Failed { reason, side_effects }),
            }
        })
    }

    fn now(&self) -> Timestamp {
        self.network.now()
    }
}
