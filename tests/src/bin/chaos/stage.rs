//! The servers, what they stand on, and what goes wrong with it.
//!
//! ```text
//!  clients --> proxy --> server --> proxy --> Azurite
//!                          ^
//!              other server --> proxy
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::runtime::Handle;
use vault_tests::azurite::{self, Azurite};
use vault_tests::chance::Dice;
use vault_tests::faketime;
use vault_tests::history::Event;
use vault_tests::mistakes;
use vault_tests::proxy::{Fault, Proxy};
use vault_tests::replicas::{free_port, on_account, status};
use vault_tests::server::{Server, Setup, temporary_directory};

use crate::record::Record;

/// How soon appends go on after a leader's death, or when nothing is in the way any more.
const WITHIN_MS: u64 = 6_000;

/// How soon they do after an orderly end.
const WITHIN_IN_ORDER_MS: u64 = 1_000;

/// How long that is waited for, before it counts as not at all.
const GOES_ON_AT_LAST: Duration = Duration::from_secs(60);

const PREFIX: &str = "chaos-";

/// One server, running or not, and the ways to and from it.
struct Place {
    setup: Setup,
    address: SocketAddr,
    server: Option<Server>,
    /// From it to storage.
    storage: Proxy,
    /// To it, from the other servers.
    peers: Proxy,
    /// To it, from clients.
    clients: Proxy,
    /// What is added to its wall clock.
    clock: PathBuf,
}

/// What can go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// A server is killed.
    Dies,
    /// A server ends in order.
    Ends,
    /// A server stands still, beyond its lease at times.
    Stops,
    /// Storage stands still.
    StorageStops,
    /// A wall clock steps.
    Clock,
    /// Something between servers and storage.
    Storage,
    /// Something before a server.
    Servers,
}

/// One for each part of the chance that something goes wrong: some do more often than others.
const KINDS: [Kind; 12] = [
    Kind::Dies,
    Kind::Dies,
    Kind::Ends,
    Kind::Stops,
    Kind::Stops,
    Kind::StorageStops,
    Kind::Clock,
    Kind::Storage,
    Kind::Storage,
    Kind::Storage,
    Kind::Servers,
    Kind::Servers,
];

/// What is played.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) servers: usize,
    pub(crate) seed: u64,
    /// What the machine is forgiven in the times that are promised.
    pub(crate) slack_ms: u64,
    /// The kinds of faults; all where it is empty.
    pub(crate) only: Vec<Kind>,
    /// A mistake that servers make.
    pub(crate) canary: Option<String>,
}

/// Everything that can go wrong.
pub(crate) struct Stage {
    azurite: Azurite,
    places: Vec<Place>,
    streams: Vec<String>,
    record: Arc<Record>,
    dice: Dice,
    kinds: Vec<Kind>,
    slack_ms: u64,
    /// How many faults there were.
    pub(crate) faults: u64,
    scratch: TempDir,
}

impl Stage {
    /// Servers that know nothing of each other yet.
    pub(crate) fn new(
        runtime: &Handle,
        plan: Plan,
        streams: Vec<String>,
        record: Arc<Record>,
    ) -> anyhow::Result<Self> {
        let Plan { servers, seed, slack_ms, only, canary } = plan;
        let azurite = azurite::Setup::in_memory().start();
        let scratch = temporary_directory();
        let mut dice = Dice::new(seed, 1);
        let mut places = Vec::new();
        for number in 0..servers {
            let port = free_port();
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let (storage, connection) = runtime.block_on(azurite.behind_proxy(dice.word()))?;
            let mut before = |target| runtime.block_on(Proxy::before(target, dice.word()));
            let (peers, clients) = (before(address)?, before(address)?);
            let clock = scratch.path().join(format!("clock-{number}"));
            std::fs::write(&clock, "+0")?;
            let setup = on_account(&connection, PREFIX, port)
                .with(["--advertise".to_owned(), format!("http://{}", peers.address())])
                .with(["--append-timeout", "15s"]);
            let setup = faketime::preload(setup, &clock);
            let setup = match &canary {
                Some(name) => mistakes::made(setup, name),
                None => setup,
            };
            let server = None;
            places.push(Place { setup, address, server, storage, peers, clients, clock });
        }
        let kinds: Vec<Kind> =
            KINDS.into_iter().filter(|kind| only.is_empty() || only.contains(kind)).collect();
        let mut stage = Self { azurite, places, streams, record, dice, kinds, slack_ms, faults: 0, scratch };
        for server in 0..servers {
            stage.start(server);
        }
        if canary.is_some() && !mistakes::is_admitted(&stage.logs()) {
            anyhow::bail!(
                "the servers make no mistakes on purpose: they are built without the feature `canaries`"
            );
        }
        Ok(stage)
    }

    /// Where clients find the servers.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.places.iter().map(|place| format!("http://{}", place.clients.address())).collect()
    }

    fn start(&mut self, server: usize) {
        let place = &mut self.places[server];
        if place.server.is_none() {
            place.server = Some(place.setup.start_unready(place.address));
        }
    }

    fn leader(&self) -> Option<usize> {
        self.places.iter().position(|place| status(place.address).is_some_and(|it| it["role"] == "leader"))
    }

    /// One of the servers, the leader more often than others.
    fn pick(&mut self) -> usize {
        match self.leader().filter(|_| self.dice.per_mille(600)) {
            Some(leader) => leader,
            None => self.dice.index(self.places.len()),
        }
    }

    fn rest(&mut self, least_ms: u64, most_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.dice.between(least_ms, most_ms)));
    }

    fn tell(&mut self, what: &str) {
        self.faults += 1;
        say(&format!("{:>7} ms  {what}", self.record.now_ms()));
    }

    /// Waits until every stream takes appends that begin from now on, and puts down how soon they had to.
    pub(crate) fn goes_on(&self, what: &str, within_ms: u64) {
        self.goes_on_from(self.record.now_ms(), what, within_ms);
    }

    fn goes_on_from(&self, from_ms: u64, what: &str, within_ms: u64) {
        let end = Instant::now() + GOES_ON_AT_LAST;
        while !self.record.went_on(&self.streams, from_ms) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        for stream in &self.streams {
            self.record.put(Event::GoesOn {
                stream: stream.clone(),
                what: what.to_owned(),
                from_ms,
                within_ms: within_ms + self.slack_ms,
            });
        }
    }

    /// Lets something go wrong, and right again, and sees that appends go on.
    pub(crate) fn go_wrong(&mut self) {
        match self.kinds[self.dice.index(self.kinds.len())] {
            Kind::Dies => self.dies(),
            Kind::Ends => self.ends_in_order(),
            Kind::Stops => self.stands_still(),
            Kind::StorageStops => self.storage_stands_still(),
            Kind::Clock => self.clock_steps(),
            Kind::Storage => self.storage_is_hard_to_reach(),
            Kind::Servers => self.servers_are_hard_to_reach(),
        }
        self.rest(100, 2_000);
    }

    fn dies(&mut self) {
        let server = self.pick();
        self.tell(&format!("server {server} dies"));
        let from_ms = self.record.now_ms();
        if let Some(mut killed) = self.places[server].server.take() {
            killed.kill();
        }
        if self.dice.per_mille(300) {
            // It is back before anybody has noticed, or while the others contend.
            self.rest(0, 3_000);
            self.start(server);
        }
        self.goes_on_from(from_ms, &format!("server {server} died"), WITHIN_MS);
        self.start(server);
    }

    fn ends_in_order(&mut self) {
        let server = self.pick();
        self.tell(&format!("server {server} ends in order"));
        let from_ms = self.record.now_ms();
        if let Some(stopping) = &self.places[server].server {
            stopping.signal(Signal::TERM);
        }
        self.goes_on_from(from_ms, &format!("server {server} ended in order"), WITHIN_IN_ORDER_MS);
        if let Some(mut stopping) = self.places[server].server.take() {
            let status = stopping.wait_for_end(Duration::from_secs(60));
            if status.code() != Some(0) {
                self.record.complain(format!("server {server} was to end in order and ended with {status}"));
            }
        }
        self.start(server);
    }

    fn stands_still(&mut self) {
        let server = self.pick();
        let time = Duration::from_millis(self.dice.between(500, 25_000));
        self.tell(&format!("server {server} stands still for {time:?}"));
        let end = Instant::now() + time;
        let signal = |place: &Place, signal| {
            if let Some(server) = &place.server {
                server.signal(signal);
            }
        };
        signal(&self.places[server], Signal::STOP);
        if time > Duration::from_millis(WITHIN_MS) {
            // Where the machine is slow it stands still for longer, until they do.
            self.goes_on(&format!("server {server} stands still"), WITHIN_MS);
        }
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        signal(&self.places[server], Signal::CONT);
        self.goes_on(&format!("server {server} stood still"), WITHIN_MS);
    }

    fn storage_stands_still(&mut self) {
        let time = Duration::from_millis(self.dice.between(500, 20_000));
        self.tell(&format!("storage stands still for {time:?}"));
        self.azurite.pause();
        std::thread::sleep(time);
        self.azurite.resume();
        self.goes_on("storage stood still", WITHIN_MS);
    }

    fn clock_steps(&mut self) {
        let server = self.pick();
        let most = if self.dice.per_mille(700) { 5 } else { 900 };
        let seconds =
            i64::try_from(self.dice.below(2 * most)).unwrap_or(0) - i64::try_from(most).unwrap_or(0);
        self.tell(&format!("the clock of server {server} is wrong by {seconds} s from now on"));
        let wrong = std::fs::write(&self.places[server].clock, format!("{seconds:+}"));
        wrong.expect("there is room for a clock");
        self.rest(1_000, 4_000);
        self.goes_on("a clock was wrong", WITHIN_MS);
    }

    fn storage_is_hard_to_reach(&mut self) {
        let fault = if self.dice.per_mille(150) {
            Fault::FallsSilent(self.dice.below(300_000))
        } else {
            self.any_fault()
        };
        let time = Duration::from_millis(self.dice.between(500, 20_000));
        let who: Vec<usize> =
            if self.dice.per_mille(400) { (0..self.places.len()).collect() } else { vec![self.pick()] };
        self.tell(&format!("between {who:?} and storage: {fault:?} for {time:?}"));
        for server in &who {
            self.places[*server].storage.set(fault);
        }
        std::thread::sleep(time);
        for server in &who {
            self.places[*server].storage.set(Fault::None);
        }
        self.goes_on("storage could hardly be reached", WITHIN_MS);
    }

    fn servers_are_hard_to_reach(&mut self) {
        let server = self.pick();
        let (peers, clients) = (self.any_fault(), self.any_fault());
        let time = Duration::from_millis(self.dice.between(500, 10_000));
        let (peers, clients) = match self.dice.below(3) {
            0 => (peers, Fault::None),
            1 => (Fault::None, clients),
            _ => (peers, clients),
        };
        self.tell(&format!(
            "to server {server} from others: {peers:?}, from clients: {clients:?}, for {time:?}"
        ));
        self.places[server].peers.set(peers);
        self.places[server].clients.set(clients);
        std::thread::sleep(time);
        self.places[server].peers.set(Fault::None);
        self.places[server].clients.set(Fault::None);
        self.goes_on("servers could hardly be reached", WITHIN_MS);
    }

    fn any_fault(&mut self) -> Fault {
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        match self.dice.below(8) {
            0 => Fault::Silent,
            1 => Fault::RepliesWithheld,
            2 => Fault::Broken,
            3 => Fault::Late(Duration::from_millis(self.dice.between(5, 400))),
            4 => Fault::Trickle(number(self.dice.between(1, 200_000))),
            5 | 6 => Fault::RepliesLost(number(self.dice.between(20, 400))),
            _ => Fault::Busy(number(self.dice.between(50, 900))),
        }
    }

    /// What the servers said, for whoever looks into what went wrong.
    pub(crate) fn logs(&self) -> String {
        let logs = self.places.iter().enumerate().map(|(number, place)| {
            let log = place.server.as_ref().map(Server::log).unwrap_or_default();
            format!("--- server {number}\n{log}")
        });
        format!("{}--- scratch files were in {}\n", logs.collect::<String>(), self.scratch.path().display())
    }
}

#[expect(clippy::print_stderr, reason = "whoever runs it sees what happens")]
fn say(line: &str) {
    eprintln!("{line}");
}
