//! Running a check, and telling what it has found.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::actions::Action;
use crate::promises;
use crate::state::{Protocol, State};

/// What a check has found.
#[derive(Debug)]
pub struct Outcome {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// The most steps from the beginning.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// The promises that are broken, each with what leads there: breadth first, so that it is short.
    pub broken: BTreeMap<&'static str, String>,
    /// What no state has shown although some should.
    pub never: Vec<&'static str>,
}

/// Tries every order of events. With a rule taken out it ends as soon as something is broken; with `until`, when that is.
#[must_use]
pub fn check(protocol: Protocol, until: Option<&'static str>) -> Outcome {
    let started = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let finish = match until {
        Some(promise) => HasDiscoveries::AnyOf(std::iter::once(promise).collect()),
        None if protocol.mutation.is_some() => HasDiscoveries::AnyFailures,
        None => HasDiscoveries::All,
    };
    let properties = protocol.properties();
    let checker = protocol.checker().threads(threads).finish_when(finish).spawn_bfs().join();
    let mut discoveries = checker.discoveries();
    let mut broken = BTreeMap::new();
    for promise in promises::ALWAYS {
        if let Some(path) = discoveries.remove(promise) {
            broken.insert(*promise, tell(&path));
        }
    }
    let sometimes =
        properties.iter().map(|property| property.name).filter(|name| !promises::ALWAYS.contains(name));
    let never = sometimes.filter(|name| !discoveries.contains_key(name)).collect();
    Outcome {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        took: started.elapsed(),
        broken,
        never,
    }
}

/// What happened on the way to a state, a line for each step, and the state.
fn tell(path: &Path<State, Action>) -> String {
    let mut told = String::new();
    for (number, action) in path.clone().into_actions().iter().enumerate() {
        let _ = writeln!(told, "{:>3}. {action}", number + 1);
    }
    let state = path.last_state();
    let _ = writeln!(told, "     messages: {:?}", state.noted.fates);
    let _ = writeln!(told, "     log, as (offset, message): {:?}", state.log());
    for segment in &state.storage.segments {
        let _ =
            writeln!(told, "     segment {}, number {}: {:?}", segment.base, segment.number, segment.pages);
    }
    for (name, server) in state.servers.iter().enumerate() {
        let _ = writeln!(told, "     server {name}: {server:?}");
    }
    if state.reader.place.is_some() {
        let _ = writeln!(told, "     follower: {:?}", state.reader);
    }
    told
}
