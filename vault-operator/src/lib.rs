//! The Message Vault operator: turns `MessageVault` and `VaultStream` resources into servers and streams.
//!
//! ```text
//!  api (what people write) --> desired (objects, pure) --------> applied, pruned
//!                          \-> streams::plan (containers, pure) -> made, changed, deleted in Blob storage
//!                                                                 \-> controller: status, events, metrics
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`api`] | the resources |
//! | [`crds`] | their definitions as YAML |
//! | [`desired`] | what a vault consists of in Kubernetes. Pure |
//! | [`conditions`] | what a status says. Pure |
//! | [`streams`] | what a stream's container is to be like, and making it so |
//! | [`vaults`] | the vaults' storage as the operator reaches it |
//! | [`servers`] | asking servers about themselves |
//! | [`controller`] | reconciling |
//! | [`bootstrap`] | vaults that come with the installation |
//! | [`lease`] | of several operators one works |
//! | [`cluster`] | what is asked of the API server about the cluster |
//! | [`connection`] | the API server, with time limits |
//! | [`config`], [`program`], [`health`], [`metrics`], [`limits`] | the program |

pub mod api;
pub mod bootstrap;
pub mod cluster;
pub mod conditions;
pub mod config;
pub mod connection;
pub mod controller;
pub mod crds;
pub mod desired;
pub mod health;
pub mod lease;
pub mod limits;
pub mod metrics;
pub mod program;
pub mod servers;
pub mod streams;
pub mod vaults;
