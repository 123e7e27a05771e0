//! Answers of the leader that go on for as long as it leads.
//!
//! Nothing tells a client behind a follower that the leader is gone: the connection that it sees is to the follower, and
//! stays. So the follower ends it once somebody else leads, or where an event stream is silent, and the client comes again.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use opentelemetry::trace::SpanKind;

use super::{about, deposed, end_to_end, exchange, is_event_stream, relayed, silent};
use crate::election::standing::Leader;
use crate::env::Env;
use crate::http::app::App;
use crate::http::breaking;
use crate::http::problem::Problem;
use crate::limits::FORWARD_EVENTS_SILENCE;
use crate::traces;

/// Relays an answer that goes on for as long as the leader leads.
pub(super) async fn relay_following(
    app: &Arc<App>,
    leader: &Leader,
    parts: Parts,
) -> Result<Response, Problem> {
    let events = is_event_stream(&parts.headers);
    let route = app.peers.route(&leader.endpoint);
    let exchanging = exchange(app, (&route.following, &route.base), leader, parts, None);
    let exchanged = traces::part("forward", SpanKind::Client, || about(leader), exchanging);
    let answered = app.env.timeout(app.peers.longest, exchanged).await;
    let answer = answered.unwrap_or_else(|_| Err(silent(false, "it does not answer")))?;
    let (status, headers) = (answer.status(), end_to_end(answer.headers().clone()));
    let (over, term) = (Arc::clone(app), leader.term);
    let following = Following {
        pieces: answer.bytes_stream().boxed(),
        over: async move {
            tokio::select! {
                () = deposed(&over, term) => {}
                () = over.stopping.cancelled() => {}
            }
        }
        .boxed(),
        silence: events.then(|| app.env.clone()),
        between: true,
    };
    let pieces = futures::stream::unfold(Some(following), async |following| following?.piece().await);
    Ok(relayed(status, headers, breaking::body(&app.env, pieces)))
}

/// The leader's answer to one who follows.
struct Following {
    pieces: BoxStream<'static, reqwest::Result<Bytes>>,
    /// Ends when the client had better come again.
    over: BoxFuture<'static, ()>,
    /// Measures silence, of which a leader that lives leaves little in an event stream.
    silence: Option<Env>,
    /// Whether what was relayed ends with a line.
    between: bool,
}

impl Following {
    async fn piece(mut self) -> Option<(Result<Bytes, std::io::Error>, Option<Self>)> {
        let silent = async {
            match &self.silence {
                Some(env) => env.clock.sleep(FORWARD_EVENTS_SILENCE).await,
                None => std::future::pending().await,
            }
        };
        let piece = tokio::select! {
            biased;
            () = &mut self.over => None,
            piece = self.pieces.next() => Some(piece?),
            () = silent => None,
        };
        match piece {
            Some(Ok(piece)) => {
                self.between = piece.last().map_or(self.between, |byte| *byte == b'\n');
                Some((Ok(piece), Some(self)))
            }
            None if self.between => None,
            // Half a line must not be taken for a whole one.
            None => Some((Err(std::io::Error::other("the leader is gone")), None)),
            Some(Err(error)) => Some((Err(std::io::Error::other(error.without_url())), None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream::{iter, pending};

    use super::*;

    /// What comes of an answer whose leader falls silent after `sent`: the pieces, and whether the last is an error.
    async fn relayed(
        sent: &'static [&str],
        over_after: Option<Duration>,
        events: bool,
    ) -> (Vec<Bytes>, bool) {
        let env = Env::controlled(1);
        let pieces = sent.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes())));
        let over = over_after.map(|after| env.clock.sleep(after));
        let mut following = Some(Following {
            pieces: iter(pieces).chain(pending()).boxed(),
            over: over.unwrap_or_else(|| std::future::pending().boxed()),
            silence: events.then(|| env.clone()),
            between: true,
        });
        let mut came = Vec::new();
        while let Some(now) = following.take() {
            match now.piece().await {
                Some((Ok(piece), next)) => {
                    came.push(piece);
                    following = next;
                }
                Some((Err(_), _)) => return (came, true),
                None => {}
            }
        }
        (came, false)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_relayed_ends_between_two_messages_or_breaks_off() {
        let soon = Some(Duration::from_secs(3));
        assert_eq!(relayed(&[], soon, false).await, (vec![], false));
        assert_eq!(relayed(&["a\n", "b\n"], soon, false).await, (vec!["a\n".into(), "b\n".into()], false));
        assert_eq!(relayed(&["a\n", "b"], soon, false).await, (vec!["a\n".into(), "b".into()], true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_event_stream_is_ended_and_silent_lines_are_not() {
        let env = Env::controlled(1);
        let began = env.clock.monotonic();
        assert_eq!(relayed(&["a\n"], None, true).await, (vec!["a\n".into()], false));
        assert_eq!(env.clock.monotonic() - began, FORWARD_EVENTS_SILENCE);
        let waiting = relayed(&["a\n"], None, false);
        assert!(env.timeout(Duration::from_secs(3_600), waiting).await.is_err());
    }
}
