//! One seed: servers, clients, and what goes wrong; then all is healed, and what happened is held against the promises.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use vault_client::{ReadError, Settings};
use vault_format::names::Prefix;
use vault_server::access::Access;
use vault_server::http::app::HttpSettings;
use vault_server::limits::HANDOVER_GRACE;
use vault_server::log::Options;
use vault_server::node::Node;
use vault_tests::history::{Event, Reached, Tally, Verdict, check};

use crate::chance::{self, Dice};
use crate::load::{Load, Stream};
use crate::network::{Listening, Seen, url};
use crate::panics;
use crate::storage::Service;
use crate::world::{Life, Lines, Place, Weather, World};

/// What the containers of the vault begin with.
pub const PREFIX: &str = "mv-";

/// How soon appends go on when nothing is in the way any more.
const WITHIN_MS: u64 = 6_000;

/// How soon they do after an orderly end.
const WITHIN_IN_ORDER_MS: u64 = 1_000;

/// For how long they do not pause for longer again: whoever is about to go takes some at first. What comes next in
/// `play` comes ten seconds later, so that clients append all the time until then, and a second longer.
const UNTIL_AFTER_MS: u64 = 9_000;

/// How many strong reads are answered at least in a run that tells something of them. It is no more, since in some runs
/// all servers are dead, or stand still, for most of the time.
const STRONG_READS: u64 = 4;

/// How long servers may take to tell of damage that they have come upon, while they also give reasons that may pass.
const DAMAGE_TOLD_MS: u64 = 60_000;

/// The words for damage in answers.
const DAMAGE: [&str; 2] = ["corrupt", "data_missing"];

/// How many broken promises are told of.
const BROKEN_TOLD: usize = 20;

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// How many faults there were.
    pub faults: u64,
    /// What the checker says.
    pub verdict: Verdict,
    /// How long it was for those in it.
    pub simulated: Duration,
    /// What the trace comes to: the same for the same seed.
    pub trace: u64,
    /// What happened.
    pub events: Vec<Event>,
}

impl Outcome {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.verdict.broken.is_empty()
    }

    /// What was broken, how to see it again, and in the last line how it went.
    #[must_use]
    pub fn told(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        for broken in self.verdict.broken.iter().take(BROKEN_TOLD) {
            let _ = writeln!(text, "BROKEN {broken}");
        }
        if !self.is_well() {
            let _ = writeln!(text, "again: ./tests/run sim --seed {}", self.seed);
        }
        let _ = write!(text, "{self}");
        text
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, Tally::new(self.faults, &self.verdict))
    }
}

/// How a seed is played.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Manner {
    /// With this mistake.
    #[cfg(feature = "canaries")]
    pub canary: Option<vault_format::canary::Canary>,
}

/// Plays a seed, in a thread of its own. Only the first run of a process is the same each time: see [`child`](crate::child).
#[must_use]
pub fn run(seed: u64, manner: Manner, lines: Option<Lines>) -> Outcome {
    let played = std::thread::Builder::new().name(format!("seed {seed}")).stack_size(8 << 20);
    let played = played.spawn(move || {
        chance::begin(seed);
        panics::begin();
        #[cfg(feature = "canaries")]
        if let Some(canary) = manner.canary {
            canary.switch_on();
        }
        #[cfg(not(feature = "canaries"))]
        let Manner {} = manner;
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime needs nothing");
        let mut outcome = runtime.block_on(play(seed, lines));
        drop(runtime);
        outcome.verdict.broken.extend(panics::seen());
        outcome
    });
    let played = played.expect("there is a thread");
    played
        .join()
        .expect("panics of the program are seen through, and those of the simulation are mistakes in it")
}

/// A server that lives.
struct Living {
    node: Node,
    life: Life,
}

/// The run as it goes on.
struct Stage {
    world: World,
    service: Arc<Service>,
    listening: Listening,
    servers: Vec<Option<Living>>,
    dice: Dice,
    patience: Duration,
}

impl Stage {
    fn start(&mut self, server: usize) {
        let life = self.world.bear(server);
        self.world.trace(format_args!("{life} begins"));
        let env = life.env();
        let prefix = Prefix::new(PREFIX).expect("it is one");
        let settings = HttpSettings {
            append_timeout: self.patience,
            carrier: Some(Arc::new(Seen::from(&life, &self.listening))),
            ..HttpSettings::new(url(server), "simulated", &prefix, Access::for_everybody(env.clone()))
        };
        let options = Options::new(self.patience);
        let node = Node::start(self.service.link(&life), env, prefix, None, options, settings);
        self.listening.set(server, Some((life.clone(), node.router())));
        self.servers[server] = Some(Living { node, life });
    }

    /// The process is gone, and what it was about to do is not done.
    fn kill(&mut self, server: usize) {
        self.world.kill(server);
        self.listening.set(server, None);
        self.servers[server] = None;
    }

    /// As SIGTERM does it.
    async fn stop_in_order(&mut self, server: usize) {
        let Some(Living { node, life }) = self.servers[server].take() else { return };
        node.app().stopping.cancel();
        tokio::time::sleep(HANDOVER_GRACE).await;
        if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(30), node.hand_over()).await {
            self.world.complain(format!("{life} ends with {error}"));
        }
        self.listening.set(server, None);
        self.world.kill(server);
    }

    fn leader(&self) -> Option<usize> {
        self.servers.iter().position(|server| {
            server.as_ref().is_some_and(|Living { node, .. }| node.app().vault.term().is_some())
        })
    }

    /// One of the servers, the leader more often than others.
    fn pick(&mut self) -> usize {
        match self.leader() {
            Some(leader) if self.dice.per_mille(500) => leader,
            _ => usize::try_from(self.dice.below(self.servers.len() as u64)).expect("few"),
        }
    }

    async fn rest(&mut self, least_ms: u64, most_ms: u64) {
        let ms = self.dice.between(least_ms, most_ms);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Lets something go wrong. What is to be undone later undoes itself.
    async fn go_wrong(&mut self) {
        let world = self.world.clone();
        let server = self.pick();
        let later = Duration::from_millis(if self.dice.per_mille(700) {
            self.dice.between(200, 5_000)
        } else {
            self.dice.between(5_000, 25_000)
        });
        match self.dice.below(10) {
            0 => {
                if self.servers[server].is_some() {
                    world.fault(true, format_args!("{} dies", Place::Server(server)));
                    self.kill(server);
                } else {
                    self.start(server);
                }
            }
            1 => {
                if self.servers[server].is_some() && self.dice.per_mille(500) {
                    world.fault(true, format_args!("{} ends in order", Place::Server(server)));
                    self.stop_in_order(server).await;
                    self.start(server);
                }
            }
            2 | 3 => {
                world.fault(true, format_args!("{} stands still for {later:?}", Place::Server(server)));
                world.set_paused(server, true);
                let life = self.servers[server].as_ref().map(|living| living.life.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(later).await;
                    if life.is_some_and(|life| life.lives()) {
                        world.fault(false, format_args!("{} goes on", Place::Server(server)));
                        world.set_paused(server, false);
                    }
                });
            }
            4..=6 => {
                let here = Place::Server(server);
                let there = match self.dice.below(4) {
                    0 => Place::Clients,
                    1 => Place::Server((server + 1) % self.servers.len()),
                    _ => Place::Storage,
                };
                let ways = match self.dice.below(3) {
                    0 => vec![(here, there), (there, here)],
                    1 => vec![(here, there)],
                    _ => vec![(there, here)],
                };
                for (from, to) in &ways {
                    world.fault(true, format_args!("from {from} to {to} nothing passes for {later:?}"));
                    world.set_open(*from, *to, false);
                }
                tokio::spawn(async move {
                    tokio::time::sleep(later).await;
                    for (from, to) in &ways {
                        world.set_open(*from, *to, true);
                    }
                });
            }
            7 => {
                let mut weather = Weather::default();
                for _ in 0..self.dice.between(1, 2) {
                    match self.dice.below(5) {
                        0 => weather.fails = self.dice.between(50, 900),
                        1 => weather.lost = self.dice.between(20, 300),
                        2 => weather.strays = self.dice.between(20, 300),
                        3 => weather.torn = self.dice.between(20, 300),
                        _ => weather.slower = self.dice.between(5, 300),
                    }
                }
                world.fault(true, format_args!("{weather:?} for {later:?}"));
                world.set_weather(weather);
                tokio::spawn(async move {
                    tokio::time::sleep(later).await;
                    world.set_weather(Weather::default());
                });
            }
            8 => {
                let most = if self.dice.per_mille(800) { 3_000 } else { 600_000 };
                let step = i64::try_from(self.dice.below(2 * most)).expect("small");
                let wrong_by = step - i64::try_from(most).expect("small");
                world.fault(
                    true,
                    format_args!("the clock of {} is wrong by {wrong_by} ms", Place::Server(server)),
                );
                world.set_wrong_by(server, wrong_by);
            }
            _ => {
                world.fault(true, format_args!("somebody breaks the leader's lease"));
                self.service.break_leaders_lease();
            }
        }
    }

    /// Nothing is wrong any more, but for clocks.
    fn heal(&mut self) {
        self.world.fault(false, format_args!("healed"));
        self.world.set_weather(Weather::default());
        self.world.open_all();
        for server in 0..self.servers.len() {
            self.world.set_paused(server, false);
            if self.servers[server].is_none() {
                self.start(server);
            }
        }
    }

    /// One bit turns over while no server lives. What was acknowledged must be there all the same, or be reported as
    /// damaged: never left out, and never taken for the end of the log.
    async fn rot(&mut self, load: &Load, stream: &Stream) {
        for server in 0..self.servers.len() {
            self.kill(server);
        }
        let Some(place) = self.service.turn_a_bit(stream, &mut self.dice) else { return };
        self.world.fault(true, format_args!("a bit turns over in {place}"));
        for server in 0..self.servers.len() {
            self.start(server);
        }
        tokio::time::sleep(Duration::from_secs(15)).await;
        let until_ms = self.world.now_ms() + DAMAGE_TOLD_MS;
        let reader = format!("who came after the bit in {place}");
        while let Some(error) = load.read_what_is_there(&reader, stream).await {
            self.world.trace(format_args!("{error:?}"));
            match Told::by(&error) {
                Told::Damage => break,
                Told::Passing if self.world.now_ms() < until_ms => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Told::Passing | Told::Otherwise => {
                    self.world.complain(format!("{reader} was not told of damage, but: {error}"));
                    break;
                }
            }
        }
    }

    fn goes_on(&self, streams: &[Stream], what: &str, within_ms: u64) {
        let from_ms = self.world.now_ms();
        for stream in streams {
            self.world.record(Event::GoesOn {
                stream: stream.name.clone(),
                what: what.to_owned(),
                from_ms,
                until_ms: from_ms + UNTIL_AFTER_MS,
                within_ms,
            });
        }
    }

    /// Puts down what retention had to keep, all clocks of the run considered. Where they were further apart than it keeps
    /// anything, it had to keep nothing.
    fn keeps(&self, streams: &[Stream]) {
        let spread_ms = self.world.clock_spread_ms();
        for stream in streams {
            let for_ms = stream.retention_ms.map_or(0, |kept_ms| kept_ms.saturating_sub(spread_ms));
            if for_ms > 0 {
                self.world.record(Event::Keeps { stream: stream.name.clone(), for_ms });
            }
        }
    }
}

/// What a reader is told by an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Damage,
    /// What may be otherwise the next time.
    Passing,
    Otherwise,
}

impl Told {
    fn by(error: &ReadError) -> Self {
        match error {
            ReadError::Request(error) if error.code().is_some_and(|code| DAMAGE.contains(&code)) => {
                Self::Damage
            }
            ReadError::Request(error) if error.is_retryable() => Self::Passing,
            _ => Self::Otherwise,
        }
    }
}

/// The streams of a run.
fn streams(dice: &mut Dice) -> Vec<(Stream, Settings)> {
    let codec = |dice: &mut Dice| {
        Some(["none", "lz4", "zstd"][usize::try_from(dice.below(3)).expect("few")].to_owned())
    };
    let short = Some(4 << 20);
    let long = Settings { segment_bytes: short, codec: codec(dice), ..Settings::default() };
    let trimmed = Settings {
        segment_bytes: short,
        codec: codec(dice),
        retention_seconds: Some(Some(dice.between(10, 60))),
        ..Settings::default()
    };
    let of = |name: &str, long, settings: Settings| {
        let retention_ms = settings.retention_seconds.flatten().map(|seconds| seconds * 1_000);
        (Stream { name: name.to_owned(), long, retention_ms }, settings)
    };
    vec![of("long", true, long), of("trimmed", false, trimmed)]
}

async fn play(seed: u64, lines: Option<Lines>) -> Outcome {
    let world = World::new(seed, lines);
    let mut dice = Dice::new(seed, 2);
    let service = Service::new(&world);
    let count = usize::try_from(dice.between(2, 3)).expect("few");
    let listening = Listening::default();
    let patience = Duration::from_millis(dice.between(1_000, 15_000));
    let mut stage = Stage {
        world: world.clone(),
        service: Arc::clone(&service),
        listening: listening.clone(),
        servers: (0..count).map(|_| None).collect(),
        dice: Dice::new(seed, 3),
        patience,
    };
    for server in 0..count {
        stage.start(server);
    }
    let over = Arc::new(AtomicBool::new(false));
    let reached = Arc::new(Reached::default());
    let load = Load {
        world: world.clone(),
        listening,
        servers: count,
        over: Arc::clone(&over),
        reached: Arc::clone(&reached),
    };
    let made = streams(&mut dice);
    for (stream, settings) in &made {
        if let Err(error) = load.create(stream, settings).await {
            world.complain(format!("{} cannot be created: {error}", stream.name));
        }
    }
    let streams: Vec<Stream> = made.into_iter().map(|(stream, _)| stream).collect();
    let (mut clients, mut followers) = (JoinSet::new(), JoinSet::new());
    for (number, stream) in streams.iter().enumerate() {
        let dice = |client: u64| Dice::new(seed, 100 + 10 * number as u64 + client);
        let name = |kind: &str| format!("{kind}-{}", stream.name);
        clients.spawn(load.clone().produce_plainly(name("plain"), stream.clone(), dice(0)));
        clients.spawn(load.clone().produce_in_batches(name("batches"), stream.clone(), dice(1)));
        clients.spawn(load.clone().produce_impatiently(name("impatient"), stream.clone(), dice(2)));
        followers.spawn(load.clone().follow(name("follower"), stream.clone(), dice(3)));
        clients.spawn(load.clone().look(name("reader"), stream.clone(), dice(4)));
    }
    let until_ms = world.now_ms() + dice.between(30_000, 90_000);
    while world.now_ms() < until_ms {
        stage.rest(100, 6_000).await;
        stage.go_wrong().await;
    }
    stage.heal();
    for stream in &streams {
        for server in 0..count {
            clients.spawn(load.clone().probe(server, stream.clone()));
        }
    }
    stage.goes_on(&streams, "all is healed", WITHIN_MS);
    tokio::time::sleep(Duration::from_secs(10)).await;
    stage.goes_on(&streams, "all has been well for a while", WITHIN_MS);
    tokio::time::sleep(Duration::from_secs(10)).await;
    if let Some(leader) = stage.leader().filter(|_| dice.per_mille(700)) {
        if dice.per_mille(500) {
            world.fault(true, format_args!("{} dies", Place::Server(leader)));
            stage.goes_on(&streams, "the leader died", WITHIN_MS);
            stage.kill(leader);
        } else {
            world.fault(true, format_args!("{} ends in order", Place::Server(leader)));
            stage.goes_on(&streams, "the leader ended in order", WITHIN_IN_ORDER_MS);
            stage.stop_in_order(leader).await;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    over.store(true, Ordering::Relaxed);
    let ended = tokio::time::timeout(Duration::from_secs(300), async {
        while clients.join_next().await.is_some() {}
        // What was acknowledged in this millisecond counts too.
        tokio::time::sleep(Duration::from_millis(1)).await;
        reached.settle(world.now_ms());
        while followers.join_next().await.is_some() {}
    });
    if ended.await.is_err() {
        world.complain("clients do not come to an end although all is well".to_owned());
    }
    // What strays lands, and commit batches are written.
    tokio::time::sleep(Duration::from_secs(20)).await;
    for stream in &streams {
        if let Some(error) = load.read_what_is_there("the last reader", stream).await {
            world.complain(format!("{} cannot be read in the end: {error}", stream.name));
        }
    }
    service.keep_all_messages();
    if dice.per_mille(300) {
        stage.rot(&load, &streams[0]).await;
    }
    stage.keeps(&streams);
    let simulated = Duration::from_millis(world.now_ms());
    let (events, complaints, faults, trace) = world.end();
    let mut verdict = check(&events);
    verdict.expect_strong_reads(STRONG_READS);
    verdict.broken.extend(complaints);
    Outcome { seed, faults, verdict, simulated, trace, events }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_of_by_its_code_alone() {
        let told = |status: u16, code: &str, retryable: bool| {
            let problem = serde_json::json!({
                "status": status, "code": code, "detail": "d", "retryable": retryable, "side_effects": "none",
            });
            let problem = serde_json::from_value(problem).unwrap();
            Told::by(&ReadError::Request(vault_client::Error::Refused(Box::new(problem))))
        };
        assert_eq!(told(500, "corrupt", false), Told::Damage);
        assert_eq!(told(500, "data_missing", false), Told::Damage);
        assert_eq!(told(503, "timed_out", true), Told::Passing);
        assert_eq!(told(404, "stream_not_found", false), Told::Otherwise);
    }
}
