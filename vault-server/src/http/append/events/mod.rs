//! CloudEvents 1.0, in the three modes of the HTTP protocol binding.
//!
//! | module | subject |
//! |---|---|
//! | `attributes` | the rules for attributes, and the message headers that they become |
//! | `json` | structured and batched: events in JSON |
//! | `binary` | binary: attributes in headers, data in the body |
//!
//! An event is stored as the binary mode of the Kafka protocol binding has it: attributes are message headers
//! `ce_<name>`, `datacontenttype` is `content-type`, the data is the value, and `partitionkey` is the key as well. So
//! whoever reads needs not know in which mode an event came.

mod attributes;
mod binary;
mod json;

pub(super) use binary::{PREFIX, encode as binary};
pub(super) use json::{batch, one};

/// One event in JSON.
pub(super) const ONE: &str = "application/cloudevents+json";

/// A list of events in JSON.
pub(super) const BATCH: &str = "application/cloudevents-batch+json";
