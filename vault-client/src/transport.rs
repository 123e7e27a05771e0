//! How requests reach a server: over HTTP, or in this process.

use std::fmt;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use http::{HeaderMap, Request, StatusCode};

use vault_format::ids::Timestamp;

use crate::clock;
use crate::error::{Error, SideEffects};
use crate::limits::{ANSWER_TIMEOUT, MAX_DOCUMENT_BYTES, STALL_TIMEOUT, WAIT_MARGIN};

/// Carries requests to the servers of one vault.
pub(crate) trait Transport: Send + Sync + fmt::Debug {
    /// How many servers there are to choose from.
    fn endpoints(&self) -> usize;

    /// The URL of one of them, as errors name it.
    fn endpoint(&self, index: usize) -> &str;

    /// Sends a request, whose URI is a path and a query, to one of them.
    fn send(&self, index: usize, request: Request<Bytes>) -> BoxFuture<'_, Result<RawAnswer, Failed>>;

    /// The wall clock where the requests come from.
    fn now(&self) -> Timestamp {
        clock::now()
    }
}

/// What came back.
pub(crate) struct RawAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: BoxStream<'static, Result<Bytes, String>>,
}

/// Nothing came back.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) reason: String,
    pub(crate) side_effects: SideEffects,
}

/// An answer whose body has not been taken yet. Every wait for it ends.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) endpoint: String,
    /// Which of the servers gave it.
    pub(crate) index: usize,
    body: BoxStream<'static, Result<Bytes, String>>,
}

impl Answer {
    /// Sends a request and waits for the beginning of the answer. `wait` is how long the server is asked to wait itself.
    pub(crate) async fn to(
        transport: &dyn Transport,
        index: usize,
        request: Request<Bytes>,
        wait: std::time::Duration,
    ) -> Result<Self, Error> {
        let endpoint = transport.endpoint(index).to_owned();
        // Nobody minds when a read is given up too soon: another server is asked then.
        let limit = if wait.is_zero() { ANSWER_TIMEOUT } else { wait + WAIT_MARGIN };
        match tokio::time::timeout(limit, transport.send(index, request)).await {
            Ok(Ok(RawAnswer { status, headers, body })) => {
                Ok(Self { status, headers, endpoint, index, body })
            }
            Ok(Err(Failed { reason, side_effects })) => {
                Err(Error::Unreachable { endpoint, reason, side_effects })
            }
            Err(_) => Err(Error::TimedOut { endpoint, limit }),
        }
    }

    /// The next piece of the body; `None` at its end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        match tokio::time::timeout(STALL_TIMEOUT, self.body.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(piece))) => Ok(Some(piece)),
            Ok(Some(Err(reason))) => Err(Error::Unreachable {
                endpoint: self.endpoint.clone(),
                reason,
                side_effects: SideEffects::Possible,
            }),
            Err(_) => Err(Error::TimedOut { endpoint: self.endpoint.clone(), limit: STALL_TIMEOUT }),
        }
    }

    /// The whole body.
    pub(crate) async fn document(mut self) -> Result<Bytes, Error> {
        let mut document = BytesMut::new();
        while let Some(piece) = self.piece().await? {
            if document.len() + piece.len() > MAX_DOCUMENT_BYTES {
                return Err(nonsense(self.endpoint, "it is too long"));
            }
            document.extend_from_slice(&piece);
        }
        Ok(document.freeze())
    }
}

/// An answer that is not what was asked for.
pub(crate) fn nonsense(endpoint: String, reason: impl fmt::Display) -> Error {
    Error::Nonsense { endpoint, reason: reason.to_string() }
}
