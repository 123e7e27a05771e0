//! What arbitrary bytes must not do to Message Vault.
//!
//! Each target is a function of bytes that panics where something is wrong. libFuzzer calls it with what it makes up
//! (`libfuzzer`, a package of its own), and a test calls it with all that was kept of that (`corpus`).
//!
//! | target | bytes | what must hold |
//! |---|---|---|
//! | [`decode`](decode::decode) | a structure of the format | what decodes is encoded again to the same bytes |
//! | [`stored`](stored::stored) | a segment, or what befalls two of them | what a server shows was written, and what is missing is reported |
//! | [`append`](append::append) | a request to append, without a server | what is taken is records, and the same again by way of JSON |
//! | [`requests`](requests::requests) | what a client sends | every answer is one that the documentation knows |
//! | [`access`](access::access) | an access file, keys, a token | nobody is let in |
#![expect(clippy::missing_panics_doc, reason = "a panic is how a target says that something is wrong")]

pub mod access;
pub mod append;
#[path = "../../../vault-format/tests/common/mod.rs"]
mod common;
pub mod decode;
mod head;
pub mod requests;
mod server;
pub mod stored;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its directory in the corpus too.
pub const TARGETS: [(&str, Target); 5] = [
    ("access", access::access),
    ("append", append::append),
    ("decode", decode::decode),
    ("requests", requests::requests),
    ("stored", stored::stored),
];
