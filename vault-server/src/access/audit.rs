//! The audit log: who changed streams or asked for ways round the servers, and who was refused. It goes to the log under
//! the target `audit`, which is logged whatever `--log` says unless that names `audit` itself.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::env::Env;
use crate::limits::{AUDIT_REFUSALS, AUDIT_WINDOW};

/// The target of the audit log's events.
pub const TARGET: &str = "audit";

/// The place from which a request came.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// What is told of a request.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Who made it; nobody knows where that is why it was refused.
    pub(crate) who: Option<String>,
    /// The other end of the connection.
    pub(crate) peer: Option<SocketAddr>,
    /// From where it came to the server that handed it on, as that server says.
    pub(crate) handed_on_for: Option<String>,
    /// The method and the route.
    pub(crate) what: String,
    /// The stream.
    pub(crate) stream: Option<String>,
}

/// How many refusals were told of, and how many not.
#[derive(Debug)]
pub(crate) struct Audit {
    env: Env,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    began: Duration,
    told: u32,
    left_out: u64,
}

impl Audit {
    pub(crate) fn new(env: Env) -> Self {
        Self { env, window: Mutex::new(Window::default()) }
    }

    /// A request was carried out, or tried: `status` is the answer's, none where nobody waited for it.
    pub(crate) fn carried_out(entry: &Entry, status: Option<u16>) {
        tracing::info!(
            target: TARGET,
            who = entry.who,
            peer = entry.peer.map(tracing::field::display),
            handed_on_for = entry.handed_on_for,
            what = entry.what,
            stream = entry.stream,
            status,
            "audit: carried out"
        );
    }

    /// A request was refused. A flood of them is told of in part.
    pub(crate) fn refused(&self, entry: &Entry, status: u16, why: &str) {
        if !self.counts() {
            return;
        }
        tracing::info!(
            target: TARGET,
            who = entry.who,
            peer = entry.peer.map(tracing::field::display),
            handed_on_for = entry.handed_on_for,
            what = entry.what,
            stream = entry.stream,
            status,
            why,
            "audit: refused"
        );
    }

    /// Whether another refusal is told of.
    fn counts(&self) -> bool {
        self.tell_of_the_left_out(false);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.told == 0 {
            window.began = self.env.clock.monotonic();
        }
        let told = window.told < AUDIT_REFUSALS;
        if told {
            window.told += 1;
        } else {
            window.left_out += 1;
        }
        told
    }

    /// Says how many refusals were left out, once their time is over or, at the end, `now`.
    pub(crate) fn tell_of_the_left_out(&self, now: bool) {
        let left_out = {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            let age = self.env.clock.monotonic().saturating_sub(window.began);
            if window.told == 0 || (age < AUDIT_WINDOW && !now) {
                return;
            }
            std::mem::take(&mut *window).left_out
        };
        if left_out > 0 {
            tracing::info!(target: TARGET, left_out, "audit: refused, and not told one by one");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_told_of_in_part() {
        let audit = Audit::new(Env::controlled(1));
        for _ in 0..3 {
            let told = (0..1_000).filter(|_| audit.counts()).count();
            assert_eq!(told, AUDIT_REFUSALS as usize);
            assert_eq!(audit.window.lock().unwrap().left_out, 1_000 - u64::from(AUDIT_REFUSALS));
            audit.env.clock.sleep(AUDIT_WINDOW).await;
        }
        audit.tell_of_the_left_out(false);
        assert_eq!(audit.window.lock().unwrap().left_out, 0);
    }
}
