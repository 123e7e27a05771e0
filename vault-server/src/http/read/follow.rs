//! An answer without an end: what is there, then what comes.
//!
//! Who is behind reads the log; who has reached the tail takes what the [feed](super::feed) has written for all who
//! follow. Who filters has only the feed's word that there is more, and reads the log.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use vault_format::ids::Offset;

use crate::http::app::App;
use crate::http::breaking;
use crate::http::problem::Problem;
use crate::http::read::feed::{Found, Tap};
use crate::http::read::leave::Leave;
use crate::http::read::messages::{Room, Separator, write_number};
use crate::http::read::parameters::{Format, Request};
use crate::http::read::replay::Replay;
use crate::limits::{COUNTED_PIECE_BYTES, EVENTS_RETRY_MS, FOLLOW_PIECE_BYTES, PING_EVERY};
use crate::log::error::{ReadError, Unusable};
use crate::log::reading::StreamReader;

/// The body of an answer that goes on at the tail.
pub(crate) fn body(
    app: Arc<App>,
    reader: StreamReader,
    request: Request,
    start: Offset,
    leave: Leave,
) -> Body {
    let follower = Follower::new(app, reader, request, start, leave);
    let env = follower.app.env.clone();
    let pieces = futures::stream::unfold(Some(follower), |follower| async move {
        let mut follower = follower?;
        match follower.piece().await {
            Ok(piece) => piece.map(|piece| (Ok(piece), Some(follower))),
            Err(over) => Some((follower.last_piece(over)?, None)),
        }
    });
    breaking::body(&env, pieces)
}

/// Why following ends before its end.
enum Over {
    Failed(ReadError),
    /// The caller may not any more.
    Refused(Problem),
}

impl From<ReadError> for Over {
    fn from(error: ReadError) -> Self {
        Self::Failed(error)
    }
}

struct Follower {
    app: Arc<App>,
    reader: StreamReader,
    request: Request,
    /// Everything in front of it was sent or filtered out.
    place: Offset,
    /// Where it ends all the same.
    end: Offset,
    /// How many messages may still be sent.
    left: u64,
    /// Where the tail was at first, until the client is told that it has caught up.
    behind: Option<Offset>,
    /// Reads the log.
    replay: Option<Replay>,
    /// How that ended, which comes after the messages that were written before it.
    failed: Option<ReadError>,
    /// Waits for more.
    tap: Option<Tap>,
    greeted: bool,
    /// Whether the client has still to be told that it is at the end, where what comes last may have been filtered out.
    owes_end: bool,
    ping: Ping,
    leave: Leave,
}

/// When a sign of life is due.
struct Ping {
    timer: Option<BoxFuture<'static, ()>>,
    due: bool,
}

impl Follower {
    fn new(app: Arc<App>, reader: StreamReader, request: Request, start: Offset, leave: Leave) -> Self {
        let events = request.format == Format::Events;
        // Offsets are messages: only who filters has to count.
        let by_limit =
            if request.filter.is_empty() { start.0.saturating_add(request.limit) } else { u64::MAX };
        Self {
            place: start,
            end: Offset(by_limit).min(request.to.unwrap_or(Offset(u64::MAX))),
            left: request.limit,
            behind: events.then(|| reader.tail().next_offset()),
            replay: None,
            failed: None,
            tap: None,
            greeted: !events,
            owes_end: events && !request.filter.is_empty(),
            ping: Ping { timer: events.then(|| app.env.clock.sleep(PING_EVERY)), due: false },
            leave,
            app,
            reader,
            request,
        }
    }

    fn separator(&self) -> Separator {
        if self.request.format == Format::Events { Separator::Event } else { Separator::LineEnd }
    }

    fn filters(&self) -> bool {
        !self.request.filter.is_empty()
    }

    /// The next piece of the body. `None` at its end.
    async fn piece(&mut self) -> Result<Option<Bytes>, Over> {
        if !std::mem::replace(&mut self.greeted, true) {
            return Ok(Some(format!("retry: {EVENTS_RETRY_MS}\n\n").into()));
        }
        loop {
            if let Some(refused) = self.leave.refused() {
                return Err(Over::Refused(refused));
            }
            if let Some(error) = self.failed.take() {
                return Err(error.into());
            }
            if self.left == 0 || self.app.stopping.is_cancelled() {
                return Ok(None);
            }
            if self.place >= self.end {
                let owed = std::mem::take(&mut self.owes_end);
                return Ok(owed.then(|| self.ping()));
            }
            if self.ping.is_due() {
                self.ping = Ping { timer: Some(self.app.env.clock.sleep(PING_EVERY)), due: false };
                self.reader.check_end()?;
                return Ok(Some(self.ping()));
            }
            if self.replay.is_some() {
                let (piece, more) = self.replayed().await?;
                if piece.is_some() {
                    return Ok(piece);
                }
                if more {
                    continue;
                }
            }
            if let Some(piece) = self.live().await? {
                return Ok(Some(piece));
            }
        }
    }

    /// What the log has next. And whether it has more.
    async fn replayed(&mut self) -> Result<(Option<Bytes>, bool), ReadError> {
        let Some(replay) = &mut self.replay else { return Ok((None, false)) };
        let filter = Some(&self.request.filter).filter(|filter| !filter.is_empty());
        let (mut out, mut more) = (Vec::new(), true);
        let mut room = Room { bytes: FOLLOW_PIECE_BYTES, messages: self.left };
        while more && out.len() < room.bytes && room.messages > 0 {
            if self.ping.is_due() || self.leave.is_over() {
                break;
            }
            more = match replay.step(filter, &mut room, &mut out).await {
                Ok(more) => more,
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            };
            // What is in memory already costs no waiting: the others get their turn all the same.
            tokio::task::consume_budget().await;
        }
        (self.place, self.left) = (replay.place(), room.messages);
        if !more && filter.is_none() {
            self.replay = None;
        }
        let piece = match out.len() {
            0 => None,
            short if short < COUNTED_PIECE_BYTES => Some(out.into()),
            _ => Some(self.reader.counted(out).await?),
        };
        Ok((piece, more))
    }

    /// What those who follow are given, or how to get there.
    async fn live(&mut self) -> Result<Option<Bytes>, ReadError> {
        let Some(tap) = &self.tap else {
            let tail = self.reader.tail().next_offset();
            if self.place < tail {
                self.read_log(tail).await?;
            } else {
                let written = if self.filters() { None } else { Some(self.separator()) };
                self.tap = Some(self.app.feeds.tap(&self.app, &self.reader, written));
            }
            return Ok(None);
        };
        match tap.at(self.place) {
            Found::Piece(piece, end) if end <= self.end => {
                self.place = end;
                return Ok(Some(piece));
            }
            Found::Piece(_, end) => self.read_log(end).await?,
            Found::Behind(tip) => self.read_log(tip).await?,
            Found::Over(None) => (self.end, self.owes_end) = (self.place, false),
            Found::Over(Some(error)) => return Err(error),
            Found::Tip => {
                if self.behind.take_if(|tail| *tail <= self.place).is_some() {
                    return Ok(Some(self.event("caught-up", "next_offset", self.place)));
                }
                self.wait().await;
            }
        }
        Ok(None)
    }

    /// Goes on in the log, up to where pieces begin. Who filters takes no pieces and goes on as far as there is more.
    async fn read_log(&mut self, until: Offset) -> Result<(), ReadError> {
        if self.replay.is_none() {
            let end = if self.filters() { self.end } else { self.end.min(until) };
            self.replay = Some(Replay::new(&self.reader, self.place, end, self.separator()).await?);
        }
        Ok(())
    }

    async fn wait(&mut self) {
        let Some(tap) = &mut self.tap else { return };
        let timer = async {
            match &mut self.ping.timer {
                Some(timer) => timer.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = tap.until_beyond(self.place) => {}
            () = self.leave.until_over() => {}
            () = timer => self.ping.due = true,
        }
    }

    fn ping(&self) -> Bytes {
        self.event("ping", "end_offset", self.reader.tail().next_offset())
    }

    /// An event of ours. It names the place reached, so that a client that was sent no message for long need not have
    /// everything looked through again.
    fn event(&self, name: &str, member: &str, offset: Offset) -> Bytes {
        let mut out = b"id: ".to_vec();
        write_number(self.place.0, &mut out);
        out.extend_from_slice(format!("\nevent: {name}\ndata: {{\"{member}\":").as_bytes());
        write_number(offset.0, &mut out);
        out.extend_from_slice(b"}\n\n");
        out.into()
    }

    /// What is left to say where following ends before its end. What breaks for many at once is told the log once, by
    /// who finds it: the feed, or the stream that takes note of damage.
    fn last_piece(&self, over: Over) -> Option<Result<Bytes, std::io::Error>> {
        let stream = self.reader.stream().name();
        match over {
            Over::Failed(error) => {
                tracing::debug!(%error, %stream, "what followed ends");
                if self.request.format == Format::Events {
                    Some(Ok(error_event(error.into())))
                } else if is_expected(&error) {
                    None
                } else {
                    // Lines have no way to say it but to break off.
                    Some(Err(std::io::Error::other(error)))
                }
            }
            Over::Refused(problem) => {
                tracing::debug!(why = problem.detail(), %stream, "who followed may not any more");
                (self.request.format == Format::Events).then(|| Ok(error_event(problem)))
            }
        }
    }
}

/// Whether this is no failure: whoever followed comes again and is told by the status.
pub(super) fn is_expected(error: &ReadError) -> bool {
    matches!(error, ReadError::Unusable(Unusable::NoLeader | Unusable::NotFound))
}

fn error_event(problem: Problem) -> Bytes {
    let mut out = b"event: error\ndata: ".to_vec();
    out.extend_from_slice(&problem.document());
    out.extend_from_slice(b"\n\n");
    out.into()
}

impl Ping {
    fn is_due(&mut self) -> bool {
        self.due = self.due || self.timer.as_mut().is_some_and(|timer| timer.now_or_never().is_some());
        if self.due {
            self.timer = None;
        }
        self.due
    }
}
