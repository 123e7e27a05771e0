//! Deterministic simulation of Message Vault: the real servers and the real client on a simulated network, clock and page
//! blob service, in one thread. A seed decides everything, and the same seed gives the same run, byte for byte.
//!
//! | module | subject |
//! |---|---|
//! | [`chance`] | all randomness, from the seed |
//! | [`world`] | time, who lives, which ways are open, the trace |
//! | [`storage`] | the page blob service and the ways to it |
//! | [`network`] | HTTP between clients and servers |
//! | [`load`] | what clients do |
//! | [`run`] | one seed from beginning to end |
//! | [`child`] | a seed in a process of its own |
//! | [`totals`] | what many seeds come to |
//! | [`panics`] | panics of tasks, which are mistakes |
//! | `late` | beats of the dead, which put off when appends must go on |
//! | [`targets`] | page blobs at the speed that Azure states, for figures instead of faults |
//!
//! What comes of a run is a history, and [`vault_tests::history`] holds it against the promises.
//!
//! # Why not turmoil
//!
//! turmoil (0.7, made by the people of tokio) simulates sockets: a program is built against its `TcpStream`. Of what runs
//! here only forwarding uses sockets, inside reqwest, which cannot be given others; storage is a trait. And it does not
//! make a run repeat: the random order of `HashMap`, `select!` and `watch` stays. tokio's own seed for that needs
//! `--cfg tokio_unstable` for the whole build, the released programs included. So this is a runtime of tokio with one thread
//! and paused time, a network of messages, and a symbol in the place of the operating system's randomness ([`chance`]).

mod late;

pub mod chance;
pub mod child;
pub mod load;
pub mod network;
pub mod panics;
pub mod run;
pub mod storage;
pub mod targets;
pub mod totals;
pub mod world;
