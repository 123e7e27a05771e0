//! The control plane of Kubernetes, as tests of the operator need it: the real API server with its store and its
//! controllers, and nodes that are played.
//!
//! | module | subject |
//! |---|---|
//! | [`parts`] | where the programs are |
//! | [`cluster`] | the control plane: start, stop and start the API server, namespaces, clients |
//! | [`accounts`] | who may ask: clients and files with tokens of ServiceAccounts |
//! | [`tools`] | `kubectl` and Helm |
//! | [`gate`] | a way to the API server that can be shut |
//! | [`kubelet`] | nodes: pods run as processes of this machine |
//! | [`authority`] | the cluster's certificates and keys |
//! | [`process`] | a process with a log that ends with its value |
//!
//! Nothing is routed: a Service has no endpoints here, and its address leads nowhere. Pods are reached at their own
//! addresses, [`Cluster::pod_ips`].

pub mod accounts;
pub mod authority;
pub mod cluster;
pub mod gate;
pub mod kubelet;
pub mod parts;
pub mod process;
pub mod tools;

pub use cluster::Cluster;
pub use gate::Gate;
pub use kubelet::Kubelet;
pub use tools::Helm;
