//! Which of the servers of a vault leads it.
//!
//! ```text
//!              page free, or silent for 4 s             answered Set Sequence Number
//!   follower ------------------------------> holder ---------------------------------> leader
//!      ^   \ break the lease, take it          |  ^                                       |  beats every 1 s,
//!      |                                       |  +--- outrun while the lease is held ----+  renews every 5 s
//!      +---------------------------------------+                                          |
//!      +---- lease lost, ran out, or told to end: streams end, page free, lease released -+
//! ```
//!
//! A lease decides who may try; it protects nothing. What protects the data is the term: see
//! [`reign`](crate::log::reign) and `log::recover`.
//!
//! | module | subject |
//! |---|---|
//! | `watch` | what a follower makes of its looks at the leader's page. Pure |
//! | `tenure` | how long a leader may believe that it leads; the next term. Pure |
//! | `joining` | making or finding the vault, and refusing another one's |
//! | `follow` | a follower's work: look, list, take the lease |
//! | `hold` | a holder's work: renew, obtain a term, lead, hand over |
//! | `page` | the leader's page: written every second, and in order |
//! | [`standing`] | what the rest of the server sees of it |

mod follow;
mod hold;
mod joining;
mod page;
pub mod standing;
mod tenure;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{mpsc, watch as channel};
use tokio_util::sync::CancellationToken;
use vault_format::names::LEADER_BLOB;

pub use self::joining::{Conflict, VAULT_UID};
use self::standing::Standing;
use crate::env::Env;
use crate::limits::LOOK_EVERY;
use crate::log::context::Context;
use crate::log::reign::ReignEnd;
use crate::log::vault::Vault;
use crate::storage::{BlobName, LeaseTarget, Storage};

/// What a server brings along to an election.
#[derive(Clone, Debug)]
pub struct Candidacy {
    /// The URL at which other servers reach this one; at most
    /// [`MAX_ENDPOINT_BYTES`](vault_format::limits::MAX_ENDPOINT_BYTES) long.
    pub endpoint: String,
    /// The vault that this server is for; `None`: for whichever is there.
    pub vault_uid: Option<String>,
}

/// One server's part in the election of its vault's leader.
#[derive(Debug)]
pub struct Election {
    seat: Seat,
    reign_over: mpsc::Receiver<ReignEnd>,
}

/// What does not change while a server takes part.
#[derive(Debug)]
struct Seat {
    vault: Vault,
    candidacy: Candidacy,
    blob: BlobName,
    standing: channel::Sender<Standing>,
    /// The highest term that this server has seen. A leader blob that is made anew may not know of it.
    seen: AtomicU64,
}

impl Election {
    /// For a vault and the receiver that was made with it.
    #[must_use]
    pub fn new(vault: Vault, reign_over: mpsc::Receiver<ReignEnd>, candidacy: Candidacy) -> Self {
        let container = vault.context.prefix.system_container();
        let blob = BlobName { container, name: LEADER_BLOB.to_owned() };
        let standing = channel::Sender::new(Standing::default());
        let seat = Seat { vault, candidacy, blob, standing, seen: AtomicU64::new(0) };
        Self { seat, reign_over }
    }

    /// What others see of the election, as it goes on.
    #[must_use]
    pub fn standing(&self) -> channel::Receiver<Standing> {
        self.seat.standing.subscribe()
    }

    /// Follows and leads, as it comes, until `stop`; then hands over in order. Ends with an error where this server must
    /// never work for this vault, found out before it did so for the first time.
    pub async fn run(&mut self, stop: &CancellationToken) -> Result<(), Conflict> {
        let mut fell = false;
        loop {
            let Some((lease, sent)) = self.seat.follow(fell, stop).await? else { return Ok(()) };
            let held = self.seat.hold(&mut self.reign_over, &lease, sent, stop).await;
            match held {
                None => return Ok(()),
                Some(fallen) => tracing::warn!(%fallen, "this server no longer leads"),
            }
            fell = true;
            // Storage that fails at once is not asked again at once.
            self.seat.env().clock.sleep(LOOK_EVERY).await;
        }
    }
}

impl Seat {
    fn context(&self) -> &Context {
        &self.vault.context
    }

    fn storage(&self) -> &Arc<dyn Storage> {
        &self.vault.context.storage
    }

    fn env(&self) -> &Env {
        &self.vault.context.env
    }

    fn target(&self) -> LeaseTarget {
        LeaseTarget::Blob(self.blob.clone())
    }

    /// Notes what keeps this server from its work. Whether that is news.
    fn trouble(&self, why: String) -> bool {
        self.standing.send_if_modified(|standing| {
            let news = standing.trouble.as_ref() != Some(&why);
            standing.trouble = Some(why);
            news
        })
    }
}
