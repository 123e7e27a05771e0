//! What the tests of the real programs share. Nothing here knows how the server works inside: it is started as a
//! process, spoken to over HTTP, and its files are read with `vault-format`.
//!
//! | module | subject |
//! |---|---|
//! | [`server`] | the `vault-server` process: start, kill, pause, restart, its log |
//! | [`replicas`] | two servers of one vault |
//! | [`failover`] | how long appends pause when a leader ends |
//! | [`access`] | access files, and what callers show |
//! | [`issuer`] | an issuer of signed tokens |
//! | [`azurite`] | the Azurite process, an emulator of Azure Storage |
//! | [`client`] | ordinary requests |
//! | [`mod@curl`] | the `curl` program, which speaks HTTP/2 and TLS |
//! | [`mvctl`] | the `mvctl` program |
//! | [`clients`] | clients that nobody here wrote |
//! | [`kafka`] | a broker of Apache Kafka |
//! | [`kinds`] | the operator's kinds as a cluster gets them |
//! | [`kubernetes`] | a control plane of Kubernetes, and pods that run as processes |
//! | [`prometheus`] | Prometheus, and its checker of metrics |
//! | [`certificates`] | certificates of an authority of their own |
//! | [`token_endpoint`] | what exchanges tokens of Kubernetes for those of Azure |
//! | [`raw`] | requests byte by byte, for clients that misbehave |
//! | [`message`] | messages as they go in and come out |
//! | [`collector`] | an OpenTelemetry Collector, and the traces that it got |
//! | [`shared_access`] | shared access signatures, as account keys make them |
//! | [`idempotent`] | a producer that sends everything until it is stored, once |
//! | [`ledger`] | what producers were told, held against what is stored |
//! | [`mistakes`] | mistakes that servers make on purpose |
//! | [`history`] | what happened in a run with faults, and whether that keeps the promises |
//! | [`signals`] | signals to processes |
//! | [`process`] | what a process has used |
//! | [`segments`] | segment files: reading and damaging them |
//! | [`operator`] | the operator as a process, under its own ServiceAccount |
//! | [`package_index`] | this machine's Debian package index, as real input |
//! | [`chance`] | throws that a seed decides |
//! | [`mod@proxy`] | a way that can be made to fail |
//! | [`faketime`] | a process's wall clock that is wrong |
//! | [`way`] | proxies between programs and the services that they use |
//! | [`wait`] | waits with an end |

pub mod access;
pub mod azurite;
pub mod certificates;
pub mod chance;
pub mod client;
pub mod clients;
pub mod collector;
pub mod curl;
pub mod failover;
pub mod faketime;
pub mod history;
pub mod idempotent;
pub mod issuer;
pub mod kafka;
pub mod kinds;
pub mod kubernetes;
pub mod ledger;
pub mod message;
pub mod mistakes;
pub mod mvctl;
pub mod operator;
pub mod package_index;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod raw;
pub mod replicas;
pub mod segments;
pub mod server;
pub mod shared_access;
pub mod signals;
pub mod token_endpoint;
pub mod wait;
pub mod way;
