//! The operator on a real API server, with servers as pods and Azurite in the place of Azure. Run
//! `tests/install-kubernetes` and `tests/install-azurite` once before.
#![expect(clippy::unwrap_used, reason = "a test that finds what it needs missing has failed")]

mod access;
mod changes;
mod common;
mod deletion;
mod drift;
mod hanging;
mod identity;
mod invalid;
mod late;
mod lease;
mod life;
mod looks;
mod monitoring;
mod operators;
mod owners;
mod rolling;
mod sample;
mod secrets;
mod streams;
mod tenancy;
mod tls;
mod trouble;
mod upgrade;
