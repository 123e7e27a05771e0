//! A request on its way to the service, and the answer on its way back.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use vault_server::storage::StorageError;
use vault_server::storage::operation::Operation;

use super::Service;
use crate::chance::Dice;
use crate::world::{Life, Place, Weather, World};

/// How long the way takes, in ms, when nothing is wrong.
const LATENCY_MS: (u64, u64) = (1, 12);

/// How long a request may be held up somewhere and still land.
const STRAY_MS: (u64, u64) = (2_000, 40_000);

/// How long it takes until a sender notices that its connection has broken, once bytes pass again: TCP sends what was not
/// acknowledged again, and hears that nobody knows of it.
const NOTICE_MS: (u64, u64) = (1, 2_000);

pub(super) type Request<T> = Box<dyn FnOnce(&Service, Carried) -> Result<T, StorageError> + Send>;

/// How much of a request is carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Carried {
    Whole,
    /// Some of its pages.
    Torn,
}

/// A request on its way.
pub(super) struct Travelling<T> {
    pub(super) service: Arc<Service>,
    pub(super) life: Life,
    pub(super) number: u64,
    pub(super) operation: Operation,
    pub(super) what: String,
    pub(super) request: Request<T>,
    pub(super) answer: oneshot::Sender<Result<T, StorageError>>,
}

pub(super) fn unavailable(why: &str) -> StorageError {
    StorageError::Unavailable(why.to_owned())
}

impl<T: Debug + Send + 'static> Travelling<T> {
    /// There and back.
    pub(super) async fn travel(self) {
        let Self { service, life, number, operation, what, request, answer } = self;
        let (world, here) = (life.world().clone(), life.place());
        let weather = world.weather();
        let (fate, there, back) = world
            .draw(|dice| (Fate::drawn(weather, dice), Way::drawn(weather, dice), Way::drawn(weather, dice)));
        let (stray_ms, notice_ms, breaks) = world.draw(|dice| {
            let stray_ms = dice.between(STRAY_MS.0, STRAY_MS.1);
            (stray_ms, dice.between(NOTICE_MS.0, NOTICE_MS.1), dice.per_mille(500))
        });
        let failed = Way { ms: notice_ms, slower: 0 };
        world.trace(format_args!("{here} #{number} {what} {fate:?}"));
        there.go(&world).await;
        if fate == Fate::Fails {
            return reply(&life, back, answer, Err(unavailable("503 as planned"))).await;
        }
        let mut answer = Some(answer);
        if fate == Fate::Strays {
            // The sender sees its connection break, long before the request lands.
            let (life, answer) = (life.clone(), answer.take());
            tokio::spawn(async move {
                reply_to(&life, failed, answer, Err(unavailable("the connection broke"))).await;
            });
            tokio::time::sleep(Duration::from_millis(stray_ms)).await;
        }
        if !world.is_open(here, Place::Storage) {
            world.until_open(here, Place::Storage).await;
            // What is under way when a connection breaks is gone, or waits in a buffer and arrives later.
            if breaks {
                world.trace(format_args!("{here} #{number} gone"));
                return reply_to(&life, failed, answer, Err(unavailable("the connection is gone"))).await;
            }
            there.go(&world).await;
        }
        let mut carried = if fate == Fate::Torn { Carried::Torn } else { Carried::Whole };
        if !life.lives() {
            // Its connection was broken by the sender's end.
            let (left, later_ms) = world.draw(|dice| (dice.below(3), dice.below(10_000)));
            if left == 0 {
                return world.trace(format_args!("{here} #{number} gone with its sender"));
            }
            if left == 1 {
                carried = Carried::Torn;
            }
            tokio::time::sleep(Duration::from_millis(later_ms)).await;
        }
        let outcome = request(&service, carried);
        if !life.lives() && operation == Operation::RewritePage && outcome.is_ok() {
            world.late_beat();
        }
        world.trace(format_args!("{here} #{number} -> {}", shown(&outcome)));
        let broke = || Err(unavailable("the connection broke"));
        let outcome = if carried == Carried::Torn { outcome.and(broke()) } else { outcome };
        let (back, outcome) = if fate == Fate::Lost { (failed, broke()) } else { (back, outcome) };
        reply_to(&life, back, answer, outcome).await;
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Done,
    Fails,
    Lost,
    Strays,
    Torn,
}

impl Fate {
    fn drawn(weather: Weather, dice: &mut Dice) -> Self {
        let mut roll = dice.below(1_000);
        for (chance, fate) in [
            (weather.fails, Self::Fails),
            (weather.lost, Self::Lost),
            (weather.strays, Self::Strays),
            (weather.torn, Self::Torn),
        ] {
            if roll < chance {
                return fate;
            }
            roll -= chance;
        }
        Self::Done
    }
}

/// How long one way takes.
#[derive(Clone, Copy)]
struct Way {
    ms: u64,
    slower: u64,
}

impl Way {
    fn drawn(weather: Weather, dice: &mut Dice) -> Self {
        let seldom = if dice.per_mille(10) { 20 } else { 1 };
        Self { ms: dice.between(LATENCY_MS.0, LATENCY_MS.1) * seldom, slower: weather.slower }
    }

    /// What is slow gets faster when the weather does.
    async fn go(self, world: &World) {
        let all = Duration::from_millis(self.ms * (1 + self.slower));
        let faster = async {
            if self.slower == 0 {
                std::future::pending::<()>().await;
            }
            world.until_faster_than(self.slower).await;
            tokio::time::sleep(Duration::from_millis(self.ms)).await;
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep(all) => {}
            () = faster => {}
        }
    }
}

/// A success is shown by its kind alone where it holds much.
fn shown<T: Debug>(outcome: &Result<T, StorageError>) -> String {
    match outcome {
        Ok(value) => {
            let text = format!("{value:?}");
            if text.len() <= 120 {
                text
            } else {
                format!("{} bytes, {:08x}", text.len(), crc32c::crc32c(text.as_bytes()))
            }
        }
        Err(error) => format!("{error:?}"),
    }
}

/// Replies where nobody has yet.
async fn reply_to<T>(
    life: &Life,
    back: Way,
    answer: Option<oneshot::Sender<Result<T, StorageError>>>,
    outcome: Result<T, StorageError>,
) {
    if let Some(answer) = answer {
        reply(life, back, answer, outcome).await;
    }
}

async fn reply<T>(
    life: &Life,
    back: Way,
    answer: oneshot::Sender<Result<T, StorageError>>,
    outcome: Result<T, StorageError>,
) {
    let world = life.world();
    back.go(world).await;
    if !world.is_open(Place::Storage, life.place()) {
        world.until_open(Place::Storage, life.place()).await;
        back.go(world).await;
    }
    life.awake().await;
    // Nobody may be waiting any more.
    let _ = answer.send(outcome);
}
