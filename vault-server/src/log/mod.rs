//! The log: streams of messages on page blobs.
//!
//! | module | subject |
//! |---|---|
//! | [`vault`] | the set of streams; creating, listing, deleting |
//! | [`stream`] | one stream: opened on first use, appended to, read |
//! | [`reading`] | places and batches for readers, waiting at the tail |
//! | [`segments`] | where each segment's messages stand, for those who read storage by themselves |
//! | [`inspect`] | walking a stream at rest, batch by batch, past damage where that is wanted |
//! | [`rate`] | how fast a stream may be appended to. Pure |
//! | `let_go` | streams that were let go of, and may come back. Pure |
//! | `retention` | what is sealed early and what is deleted; how far sealed segments go |
//! | [`reign`] | the term under which a server writes |
//! | `writer`, `put_sender` | the task that appends; one put until its outcome is known |
//! | [`pacing`] | how the puts of a stream follow each other |
//! | `asked` | listings that somebody asks for |
//! | `appender` | what the next put holds. Pure |
//! | `recover`, `scan` | taking a stream over; finding its tail |
//! | `claim` | claiming a segment, so that nothing of an earlier term lands in it |
//! | `beyond` | what lies beyond the tail: damage, or remains that are cleared |
//! | `making` | making segments; telling those that nobody uses |
//! | `following`, `fresh` | reading what another server appends; one look for many who ask |
//! | `reader`, [`blocks`], `recent`, `store` | finding places; verified batches; the newest puts; block heads |
//! | `steady` | a wall clock that does not jump ahead. Pure |
//! | [`settings`], `meta`, `codec` | what a stream's container says about it |
//! | [`error`] | how each operation fails, and whether that is definite |

mod appender;
pub(crate) mod asked;
mod beyond;
pub mod blocks;
mod claim;
mod codec;
pub(crate) mod context;
pub mod error;
mod following;
mod fresh;
pub mod inspect;
pub(crate) mod let_go;
mod making;
mod meta;
pub mod pacing;
mod put_sender;
pub mod rate;
mod reader;
pub mod reading;
mod recent;
mod recover;
pub mod reign;
mod retention;
pub mod retry;
mod scan;
pub mod segments;
pub mod settings;
pub(crate) mod steady;
mod store;
pub mod stream;
pub mod tail;
#[cfg(test)]
pub(crate) mod tests;
pub mod vault;
pub(crate) mod writer;

pub use appender::Appended;
pub use context::Options;
pub use reader::Cursor;
