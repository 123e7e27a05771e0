//! The stored bytes of Message Vault, and nothing else: no I/O, no time, no randomness.
//!
//! Read in this order:
//!
//! | module | subject |
//! |---|---|
//! | [`limits`] | every size that the format fixes, in one place |
//! | [`ids`] | offset, position, term, timestamp, stream id, message id |
//! | [`names`] | names of streams, containers and segments |
//! | [`layout`] | how a segment is divided into blocks and pages |
//! | [`header`] | the 128 bytes in front of every batch |
//! | [`batch`] | a header and its payload: encoding, decoding, checksums |
//! | [`codec`] | how the records of a batch are compressed |
//! | [`record`] | one message inside a batch |
//! | [`snapshot`] | the producers known at the head of a block, as they are stored |
//! | [`producers`] | what the log up to a place says of producers |
//! | [`chain`] | whether a batch continues the log where it stands |
//! | [`audit`] | checks batches one after the other, down to their records |
//! | [`leader`] | the page that says who leads |
//!
//! ```text
//! segment (a page blob, sparse)
//! +---------------- block 0, 4 MiB ----------------+---------------- block 1 --------
//! | snapshot | messages | messages | ... | filler  | snapshot | messages | ...
//! +----------+----------+----------+-----+---------+----------+----------+-----------
//!            ^ header 128 B | record record record | zeros to a multiple of 512 B
//! ```

pub mod audit;
pub mod batch;
#[cfg(feature = "canaries")]
pub mod canary;
pub mod chain;
pub mod codec;
pub mod header;
pub mod ids;
pub mod layout;
pub mod leader;
pub mod limits;
pub mod names;
pub mod producers;
pub mod record;
pub mod snapshot;
mod varint;
