//! The Message Vault server: an append-only log on page blobs, and HTTP in front of it.

pub mod access;
pub mod authorities;
pub mod config;
pub mod election;
pub mod env;
pub mod http;
pub mod limits;
pub mod log;
pub mod logging;
pub(crate) mod metrics;
pub mod node;
pub mod storage;
pub mod traces;
pub mod watched;
