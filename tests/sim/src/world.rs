//! What a run is about: the time, who lives, which ways are open, and what has happened so far.
//!
//! Everything runs on one thread, in one tokio runtime whose time is paused: it stands still while anybody has something
//! to do, and then jumps to the next moment at which somebody wants to go on. A server is a number of tasks that reach
//! the rest of the world only through what they are given: a clock, a storage, a network. Each of these is held by a
//! [`Life`]. A server that stands still gets nothing out of them until it goes on; a dead one never again, so that what is
//! left of its tasks, and whatever their destructors try, changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use vault_format::ids::Timestamp;
use vault_server::env::{Clock, Entropy, Env};
use vault_tests::history::Event;

use crate::chance::Dice;
use crate::late::put_off;

/// When a run begins, on a wall clock that is right: 1 July 2026.
const BEGUN_MS: u64 = 1_782_864_000_000;

/// Where the lines of a trace go.
pub type Lines = Box<dyn FnMut(&str) + Send>;

/// Where something stands in the network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// The page blob service.
    Storage,
    /// All clients.
    Clients,
    /// A server, by its number.
    Server(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage => f.write_str("storage"),
            Self::Clients => f.write_str("clients"),
            Self::Server(number) => write!(f, "server {number}"),
        }
    }
}

/// How requests to storage go wrong at the moment, in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Refused with a failure before anything is done.
    pub fails: u64,
    /// Carried out, but nobody hears of it.
    pub lost: u64,
    /// Kept somewhere on the way, for up to half a minute, while the sender gives up.
    pub strays: u64,
    /// Some pages of a write are stored, and the answer is a failure.
    pub torn: u64,
    /// How much longer than usual everything takes.
    pub slower: u64,
}

/// The world of one run. Clones are the same one.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    begun: Instant,
    state: Mutex<State>,
    /// Counts the changes of who lives and what is open.
    changes: watch::Sender<u64>,
}

struct State {
    dice: Dice,
    trace: DefaultHasher,
    lines: Option<Lines>,
    events: Vec<Event>,
    complaints: Vec<String>,
    /// When beats landed of leaders that were dead by then.
    late_beats: Vec<u64>,
    /// One-way streets that are closed.
    closed: BTreeSet<(Place, Place)>,
    /// Which life each server is in, while it lives.
    living: BTreeMap<usize, u64>,
    lives: u64,
    paused: BTreeSet<usize>,
    /// How far the wall clock of each server is off, in ms.
    wrong_by: BTreeMap<usize, i64>,
    /// The least and the most that any has been off.
    wrong_within: (i64, i64),
    weather: Weather,
    faults: u64,
    requests: u64,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl World {
    /// A world in which nothing is wrong, inside a runtime whose time is paused. Each line of the trace goes to `lines`.
    #[must_use]
    pub fn new(seed: u64, lines: Option<Lines>) -> Self {
        let state = State {
            dice: Dice::new(seed, 0),
            trace: DefaultHasher::new(),
            lines,
            events: Vec::new(),
            complaints: Vec::new(),
            late_beats: Vec::new(),
            closed: BTreeSet::new(),
            living: BTreeMap::new(),
            lives: 0,
            paused: BTreeSet::new(),
            wrong_by: BTreeMap::new(),
            wrong_within: (0, 0),
            weather: Weather::default(),
            faults: 0,
            requests: 0,
        };
        Self(Arc::new(Inner {
            begun: Instant::now(),
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.0.changes.send_modify(|count| *count += 1);
    }

    /// Waits until something is so.
    async fn until<T>(&self, mut is_so: impl FnMut(&State) -> Option<T>) -> T {
        let mut changes = self.0.changes.subscribe();
        loop {
            if let Some(found) = is_so(&self.state()) {
                return found;
            }
            // The sender lives as long as this world.
            let _ = changes.changed().await;
        }
    }

    // --- time ---

    /// How long the run has been going on, in ms.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The wall clock of a place.
    #[must_use]
    pub fn wall_clock(&self, place: Place) -> Timestamp {
        let off = match place {
            Place::Server(server) => self.state().wrong_by.get(&server).copied().unwrap_or(0),
            Place::Storage | Place::Clients => 0,
        };
        Timestamp((BEGUN_MS + self.now_ms()).saturating_add_signed(off))
    }

    // --- what is put down ---

    /// Adds a line to the trace.
    pub fn trace(&self, line: fmt::Arguments<'_>) {
        let line = format!("{:>9} {line}", self.now_ms());
        let mut state = self.state();
        state.trace.write(line.as_bytes());
        state.trace.write_u8(b'\n');
        if let Some(lines) = &mut state.lines {
            lines(&line);
        }
    }

    /// A fault begins or ends; beginnings are counted.
    pub fn fault(&self, begins: bool, line: fmt::Arguments<'_>) {
        if begins {
            self.state().faults += 1;
        }
        self.trace(format_args!("=== {line}"));
    }

    /// Adds to the history.
    pub fn record(&self, event: Event) {
        self.state().events.push(event);
    }

    /// Puts down what must not happen.
    pub fn complain(&self, sentence: String) {
        self.trace(format_args!("!!! {sentence}"));
        self.state().complaints.push(sentence);
    }

    /// Puts down that a leader's beat has landed after its death.
    pub fn late_beat(&self) {
        let now = self.now_ms();
        self.state().late_beats.push(now);
    }

    /// Ends the history: the events, the complaints, how many faults there were, and what the trace comes to.
    #[must_use]
    pub fn end(&self) -> (Vec<Event>, Vec<String>, u64, u64) {
        let mut state = self.state();
        let late_beats = std::mem::take(&mut state.late_beats);
        put_off(&mut state.events, &late_beats);
        let (events, complaints) = (std::mem::take(&mut state.events), std::mem::take(&mut state.complaints));
        (events, complaints, state.faults, state.trace.finish())
    }

    /// Numbers a request, for the trace.
    #[must_use]
    pub fn number(&self) -> u64 {
        let mut state = self.state();
        state.requests += 1;
        state.requests
    }

    // --- chance ---

    /// Draws something.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Dice) -> T) -> T {
        draw(&mut self.state().dice)
    }

    // --- faults ---

    /// The present weather of storage.
    #[must_use]
    pub fn weather(&self) -> Weather {
        self.state().weather
    }

    /// Changes it.
    pub fn set_weather(&self, weather: Weather) {
        self.change(|state| state.weather = weather);
    }

    /// Waits until storage is faster than it was when it was so slow.
    pub async fn until_faster_than(&self, slower: u64) {
        self.until(|state| (state.weather.slower < slower).then_some(())).await;
    }

    /// Closes or opens the way from one place to another; not the way back.
    pub fn set_open(&self, from: Place, to: Place, open: bool) {
        self.change(|state| {
            if open {
                state.closed.remove(&(from, to));
            } else {
                state.closed.insert((from, to));
            }
        });
    }

    /// Opens all ways.
    pub fn open_all(&self) {
        self.change(|state| state.closed.clear());
    }

    /// Whether the way is open.
    #[must_use]
    pub fn is_open(&self, from: Place, to: Place) -> bool {
        !self.state().closed.contains(&(from, to))
    }

    /// Waits until it is.
    pub async fn until_open(&self, from: Place, to: Place) {
        self.until(|state| (!state.closed.contains(&(from, to))).then_some(())).await;
    }

    /// Stops a server, as SIGSTOP does, or lets it go on.
    pub fn set_paused(&self, server: usize, paused: bool) {
        self.change(|state| {
            if paused {
                state.paused.insert(server);
            } else {
                state.paused.remove(&server);
            }
        });
    }

    /// Sets a server's wall clock wrong by so much.
    pub fn set_wrong_by(&self, server: usize, ms: i64) {
        let mut state = self.state();
        state.wrong_by.insert(server, ms);
        let (least, most) = state.wrong_within;
        state.wrong_within = (least.min(ms), most.max(ms));
    }

    /// How far apart two wall clocks have shown the same moment at most, at any time of the run: what one server stamped may
    /// look so much older to another, or to itself later.
    #[must_use]
    pub fn clock_spread_ms(&self) -> u64 {
        let (least, most) = self.state().wrong_within;
        most.abs_diff(least)
    }

    /// A server begins to live.
    #[must_use]
    pub fn bear(&self, server: usize) -> Life {
        let mut number = 0;
        self.change(|state| {
            state.lives += 1;
            number = state.lives;
            state.living.insert(server, number);
            state.paused.remove(&server);
        });
        Life { world: self.clone(), place: Place::Server(server), number }
    }

    /// A server dies at once.
    pub fn kill(&self, server: usize) {
        self.change(|state| {
            state.living.remove(&server);
            state.paused.remove(&server);
        });
    }

    /// The clients, who never die.
    #[must_use]
    pub fn clients(&self) -> Life {
        Life { world: self.clone(), place: Place::Clients, number: 0 }
    }
}

/// One life of a server; or the clients.
#[derive(Clone, Debug)]
pub struct Life {
    world: World,
    place: Place,
    number: u64,
}

impl Life {
    /// The world that it is lived in.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    fn lives_in(&self, state: &State) -> bool {
        match self.place {
            Place::Server(server) => state.living.get(&server) == Some(&self.number),
            Place::Storage | Place::Clients => true,
        }
    }

    /// Whether it goes on.
    #[must_use]
    pub fn lives(&self) -> bool {
        self.lives_in(&self.world.state())
    }

    /// Ends when it is over.
    pub async fn over(&self) {
        self.world.until(|state| (!self.lives_in(state)).then_some(())).await;
    }

    /// Waits until it can take something in: at once as a rule, when it goes on where it is paused, never where it is over.
    pub async fn awake(&self) {
        let awake = |state: &State| match self.place {
            Place::Server(server) => self.lives_in(state) && !state.paused.contains(&server),
            Place::Storage | Place::Clients => true,
        };
        self.world.until(|state| awake(state).then_some(())).await;
    }

    /// Time and randomness as it gets them.
    #[must_use]
    pub fn env(&self) -> Env {
        self.env_from(self.world.draw(Dice::word))
    }

    /// The same, with randomness from a seed of the caller's.
    #[must_use]
    pub fn env_from(&self, seed: u64) -> Env {
        // It has a part that nobody else can make.
        let mut env = Env::controlled(seed);
        env.clock = Arc::new(LifeClock(self.clone()));
        env.entropy = Arc::new(LifeEntropy(Mutex::new(Dice::new(seed, 1))));
        env
    }
}

#[derive(Debug)]
struct LifeClock(Life);

impl Clock for LifeClock {
    fn now(&self) -> Timestamp {
        self.0.world.wall_clock(self.0.place)
    }

    fn monotonic(&self) -> Duration {
        self.0.world.0.begun.elapsed()
    }

    fn sleep(&self, duration: Duration) -> futures::future::BoxFuture<'static, ()> {
        let life = self.0.clone();
        let slept = tokio::time::sleep(duration);
        Box::pin(async move {
            slept.await;
            life.awake().await;
        })
    }
}

#[derive(Debug)]
struct LifeEntropy(Mutex<Dice>);

impl Entropy for LifeEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (life {})", self.place, self.number)
    }
}
