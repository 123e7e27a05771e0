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

use crate::kind::{Bag, Kind};
use crate::record::Record;

/// How soon appends go on after a leader's death, or when nothing is in the way any more.
const WITHIN_MS: u64 = 6_000;

/// How soon they do after an orderly end.
const WITHIN_IN_ORDER_MS: u64 = 1_000;

/// How long that is waited for, before it counts as not at all.
const GOES_ON_AT_LAST: Duration = Duration::from_secs(60);

/// How long the last replies of a process that has ended may be on their way to clients, which put them down then.
const LAST_REPLIES_MS: u64 = 100;

/// How long whoever leads holds a lease without renewing it.
const LEASE_MS: u64 = 15_000;

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
    /// What goes wrong next.
    bag: Bag,
    /// How often a server stood still: every other time for longer than a lease lasts, beginning with the first.
    stand_stills: u64,
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
        let bag = Bag::new(seed, &only);
        let mut stage = Self {
            azurite,
            places,
            streams,
            record,
            dice,
            bag,
            stand_stills: 0,
            slack_ms,
            faults: 0,
            scratch,
        };
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

    /// One of the servers: the leader more often than others, and throughout the first round, so that a short run has struck
    /// it in each way. It throws as often whether anybody leads or not: what is thrown next is the seed's.
    fn pick(&mut self) -> usize {
        let is_leader = self.dice.per_mille(600) || self.bag.is_in_first_round();
        let any = self.dice.index(self.places.len());
        self.leader().filter(|_| is_leader).unwrap_or(any)
    }

    fn all(&self) -> Vec<usize> {
        (0..self.places.len()).collect()
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
        self.goes_on_through(from_ms, from_ms, what, within_ms);
    }

    /// Waits until every stream takes appends that begin at `until_ms` or later, and puts down for how long at most they may
    /// have paused from `from_ms` until then.
    fn goes_on_through(&self, from_ms: u64, until_ms: u64, what: &str, within_ms: u64) {
        let end = Instant::now() + GOES_ON_AT_LAST;
        while !self.record.went_on(&self.streams, until_ms) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        for stream in &self.streams {
            self.record.put(Event::GoesOn {
                stream: stream.clone(),
                what: what.to_owned(),
                from_ms,
                until_ms,
                within_ms: within_ms + self.slack_ms,
            });
        }
    }

    /// Lets something go wrong, and right again, and sees that appends go on.
    pub(crate) fn go_wrong(&mut self) {
        match self.bag.draw() {
            Kind::Dies => self.dies(),
            Kind::Ends => self.ends_in_order(),
            Kind::Stops => self.stands_still(),
            Kind::StorageStops => self.storage_stands_still(),
            Kind::Clock => self.clock_steps(),
            Kind::RepliesLost => self.replies_get_lost(),
            Kind::OneWay => self.replies_are_withheld(),
            Kind::Cut => self.connections_are_cut(),
            Kind::Slow => self.storage_is_slow(),
            Kind::Refused => self.storage_refuses(),
            Kind::Servers => self.servers_are_hard_to_reach(),
        }
        self.rest(100, 2_000);
    }

    /// Whether each kind of what can go wrong did so.
    pub(crate) fn has_played_each(&self) -> bool {
        self.bag.has_drawn_each()
    }

    fn dies(&mut self) {
        let server = self.pick();
        self.tell(&format!("server {server} dies"));
        if let Some(mut killed) = self.places[server].server.take() {
            killed.kill();
        }
        // Its process is over: it does not acknowledge an append that begins from now on with its last breath.
        let from_ms = self.record.now_ms();
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
        if let Some(mut stopping) = self.places[server].server.take() {
            let status = stopping.stop(Duration::from_secs(60));
            if status.code() != Some(0) {
                self.record.complain(format!("server {server} was to end in order and ended with {status}"));
            }
        }
        // It may have gone on to acknowledge for a moment: a pause that begins when it has stopped counts as well.
        let until_ms = self.record.now_ms() + LAST_REPLIES_MS;
        let what = format!("server {server} ended in order");
        self.goes_on_through(from_ms, until_ms, &what, WITHIN_IN_ORDER_MS);
        self.start(server);
    }

    fn stands_still(&mut self) {
        let server = self.pick();
        let is_beyond = self.stand_stills.is_multiple_of(2);
        self.stand_stills += 1;
        let (least_ms, most_ms) =
            if is_beyond { (LEASE_MS + 500, LEASE_MS + 10_000) } else { (500, LEASE_MS - 500) };
        let time = Duration::from_millis(self.dice.between(least_ms, most_ms));
        let how = if is_beyond { ", longer than a lease lasts" } else { "" };
        self.tell(&format!("server {server} stands still for {time:?}{how}"));
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
        let seconds = self.dice.between(1, most);
        let signs = if self.dice.per_mille(500) { ['+', '-'] } else { ['-', '+'] };
        let [wrong, otherwise] = signs.map(|sign| format!("{sign}{seconds}"));
        let before = std::fs::read_to_string(&self.places[server].clock);
        // A clock that is wrong by just that already would not step.
        let wrong = if before.is_ok_and(|before| before == wrong) { otherwise } else { wrong };
        self.tell(&format!("the clock of server {server} is wrong by {wrong} s from now on"));
        let written = std::fs::write(&self.places[server].clock, wrong);
        written.expect("there is room for a clock");
        self.rest(1_000, 4_000);
        self.goes_on("a clock was wrong", WITHIN_MS);
    }

    fn replies_get_lost(&mut self) {
        let lost = self.lost_replies();
        let fault = Fault::RepliesLost(lost);
        self.play_before_storage(fault, |who| {
            format!("of 1000 replies from storage to {who} {lost} get lost")
        });
    }

    fn replies_are_withheld(&mut self) {
        self.play_before_storage(Fault::RepliesWithheld, |who| {
            format!("requests of {who} reach storage, and no reply comes back")
        });
    }

    fn connections_are_cut(&mut self) {
        let fault = match self.dice.below(3) {
            0 => Fault::Broken,
            1 => Fault::Silent,
            _ => Fault::FallsSilent(self.dice.below(300_000)),
        };
        self.play_before_storage(fault, |who| format!("connections of {who} to storage are cut, {fault:?}"));
    }

    fn storage_is_slow(&mut self) {
        let fault = if self.dice.per_mille(500) { self.late() } else { self.trickle() };
        self.play_before_storage(fault, |who| format!("storage is slow for {who}, {fault:?}"));
    }

    fn storage_refuses(&mut self) {
        let refused = self.refusals();
        let fault = Fault::Busy(refused);
        self.play_before_storage(fault, |who| format!("storage refuses {refused} of 1000 requests of {who}"));
    }

    /// Lets a fault be between storage and all servers, or one, for a while.
    fn play_before_storage(&mut self, fault: Fault, tell: impl FnOnce(&str) -> String) {
        let time = Duration::from_millis(self.dice.between(500, 20_000));
        let who = if self.dice.per_mille(400) { self.all() } else { vec![self.pick()] };
        self.tell(&format!("{} for {time:?}", tell(&format!("{who:?}"))));
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
        if self.dice.per_mille(250) {
            return Fault::RepliesLost(self.lost_replies());
        }
        match self.dice.below(6) {
            0 => Fault::Silent,
            1 => Fault::RepliesWithheld,
            2 => Fault::Broken,
            3 => self.late(),
            4 => self.trickle(),
            _ => Fault::Busy(self.refusals()),
        }
    }

    fn late(&mut self) -> Fault {
        Fault::Late(Duration::from_millis(self.dice.between(5, 400)))
    }

    fn trickle(&mut self) -> Fault {
        Fault::Trickle(self.number(1, 200_000))
    }

    /// How many in a thousand.
    fn lost_replies(&mut self) -> u32 {
        self.number(20, 400)
    }

    /// How many in a thousand.
    fn refusals(&mut self) -> u32 {
        self.number(50, 900)
    }

    fn number(&mut self, least: u32, most: u32) -> u32 {
        u32::try_from(self.dice.between(least.into(), most.into())).unwrap_or(most)
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
