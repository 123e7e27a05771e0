//! Bodies of answers that may break off in the middle.

use std::sync::Arc;

use axum::BoxError;
use axum::body::Body;
use bytes::Bytes;
use futures::{Stream, TryStreamExt};

use crate::env::Env;
use crate::limits::BREAK_OFF_PAUSE;

/// A body of these pieces. An error is the end of it: the status has been sent, and all that is left is to break off, so
/// that nobody takes this for the end. It comes a moment late, for a connection whose body fails drops what it holds back.
pub(crate) fn body<E>(env: &Env, pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static) -> Body
where
    E: Into<BoxError> + Send + 'static,
{
    let clock = Arc::clone(&env.clock);
    Body::from_stream(pieces.or_else(move |error| {
        let pause = clock.sleep(BREAK_OFF_PAUSE);
        async move {
            pause.await;
            Err(error)
        }
    }))
}
