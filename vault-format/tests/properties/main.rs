//! What holds for every batch, record, snapshot and chain, and for bytes that are none.

mod chain;
mod codec;
#[path = "../common/mod.rs"]
mod common;
mod header;
mod leader;
mod producers;
mod record;
mod snapshot;
