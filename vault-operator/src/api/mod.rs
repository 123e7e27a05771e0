//! The resources `MessageVault` and `VaultStream`, group `messagevault.io`, version `v1alpha1`. Changes of this version
//! only add. What is documented here is what `kubectl explain` shows.
//!
//! | module | subject |
//! |---|---|
//! | [`vault`] | [`MessageVault`]: servers, where they keep messages, who may use them |
//! | [`stream`] | [`VaultStream`]: one stream, owned by whoever applies it |
//! | [`storage`] | the storage account and the way in |
//! | [`access`] | who may do what |
//! | [`placement`] | where pods run, and what stands in front of them |
//! | [`settings`] | a stream's settings, and what becomes of its data |
//! | [`status`] | what the operator says of both |
//! | [`names`] | labels, annotations, finalizers |

#![expect(unreachable_pub, reason = "the derive of KubeSchema copies each public struct into a function")]

pub mod access;
pub mod names;
pub mod placement;
pub mod settings;
pub mod status;
pub mod storage;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod vault;

pub use stream::{VaultStream, VaultStreamSpec};
pub use vault::{MessageVault, MessageVaultSpec};
