//! A model of how servers write to one stream through storage that loses answers and delivers requests late. Every order
//! of events is tried, within bounds, and the promises are checked in every state.
//!
//! It is not the server's code but a second telling of its protocol: who changes the one changes the other. `docs/model.md`
//! says what is left out, how large the bounds are and how to run it.
//!
//! | module | stands for |
//! |---|---|
//! | [`batch`] | the stored format: batches, pages, the chain, the scan |
//! | [`storage`] | a storage account: the blob `leader`, segments, the stream's metadata |
//! | [`network`] | requests on their way, which may arrive late, or not at all |
//! | [`state`] | everything at one moment, and what an observer has noted |
//! | [`election`] | the lease and the term |
//! | [`recovery`] | `log::recover`: claim, scan, clear, leftovers, the claim of the oldest segment |
//! | [`claim`] | `log::claim`: how a segment is claimed |
//! | [`making`] | how the next segment is made |
//! | [`leading`] | `log::appender` and `log::writer`: puts in flight, seals, commits, strong reads |
//! | [`retention`] | `log::writer::retaining`: the deletion of the oldest segment |
//! | [`reader`] | `log::following`: a follower that reads as the log grows |
//! | [`actions`] | everything that can happen next |
//! | [`promises`] | what must hold in every state, and what some state must show |
//! | [`bounds`] | how much of everything there is |
//! | [`mutation`] | one rule of the protocol taken out |
//! | [`check`] | running it, and telling a counterexample |

pub mod actions;
pub mod batch;
pub mod bounds;
pub mod check;
pub mod claim;
pub mod election;
pub mod leading;
pub mod making;
pub mod mutation;
pub mod network;
pub mod promises;
pub mod reader;
pub mod recovery;
pub mod retention;
pub mod state;
pub mod storage;

/// What a write is fenced with; 0 is before the first leader.
pub type Term = u8;
/// Counts messages.
pub type Offset = u8;
/// Counts the pages of a segment.
pub type Position = u8;
/// A message, by the number of the request that brings it: each is a request of its own.
pub type Message = u8;
/// One of the servers, counted from 0.
pub type Name = usize;

/// The most messages that any bounds allow.
pub const MESSAGES: usize = 4;
