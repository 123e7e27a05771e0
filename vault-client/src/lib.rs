//! The Message Vault client: appends to streams, reads them, and looks after them, over HTTP.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use futures::TryStreamExt;
//! use vault_client::{Client, Message};
//!
//! let client = Client::connect("http://127.0.0.1:8480")?;
//! let producer = client.producer("orders").start()?;
//! let receipt = producer.send(Message::new("paid").key("42")).await?;
//! println!("stored at offset {}", receipt.await?.offset);
//! producer.close().await;
//!
//! let mut reader = client.reader("orders").follow().start();
//! while let Some(message) = reader.try_next().await? {
//!     println!("{} {:?}", message.offset(), message.value());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Read in this order:
//!
//! | module | subject |
//! |---|---|
//! | [`limits`] | every size, count and time |
//! | [`message`], [`run`] | messages as they are sent and as they come out; those of one request |
//! | [`client`], [`streams`] | which servers, as whom; streams are created, described, deleted |
//! | [`producer`] | sends messages: buffered, batched, in order, each stored once |
//! | [`reader`] | reads messages: from anywhere, through failovers, without gap or repeat |
//! | [`merge`] | several streams read as one, by the ids of their messages |
//! | [`parts`] | values that are longer than one message |
//! | [`error`] | what can go wrong, and whether it was carried out all the same |
//! | `builder` | how a client is made |
//! | `archive` | copies of streams: made, restored, repaired, verified (feature `embedded`) |
//! | `embedded` | a vault in this process, for tests and tools (feature `embedded`) |
//! | `simulated` | a network that a simulation stands in for (feature `testing`) |
//! | `transport`, `http_transport` | how requests reach a server |
//! | `retry`, `clock` | when a request is sent again; the wall clock and chance |

#[cfg(feature = "embedded")]
pub mod archive;
mod builder;
pub mod client;
mod clock;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod error;
mod http_transport;
pub mod limits;
pub mod merge;
pub mod message;
pub mod parts;
pub mod producer;
pub mod reader;
mod retry;
pub mod run;
#[cfg(test)]
mod scripted;
#[cfg(feature = "testing")]
pub mod simulated;
pub mod streams;
mod transport;

pub use vault_format::header::{Codec, Header, Kind};
pub use vault_format::ids::{MessageId, Offset, StreamId, Timestamp};
pub use vault_format::record::{InvalidRecord, InvalidRun};

pub use self::builder::ClientBuilder;
pub use self::client::{Appended, Client};
pub use self::error::{Error, Problem, SideEffects};
pub use self::merge::{MergeError, Merged, MergedMessage};
pub use self::message::{Message, Received};
pub use self::producer::{Acknowledged, Producer, ProducerBuilder, Receipt, Report, SendError};
pub use self::reader::{Batches, RawBatch, ReadError, Reader, ReaderBuilder, Start};
pub use self::run::Run;
pub use self::streams::{Created, Description, Settings, Summary};

/// The programs in the documentation are built, and those that can be are run.
#[cfg(all(doctest, feature = "embedded"))]
#[doc = include_str!("../../docs/client.md")]
struct Documentation;

#[cfg(test)]
mod tests {
    use super::*;

    fn shared<T: Send + Sync + Unpin>() {}

    /// A task holds them, and references to them, while it waits.
    #[test]
    fn tasks_hold_what_is_public() {
        shared::<Client>();
        shared::<Producer>();
        shared::<Receipt>();
        shared::<Reader>();
        shared::<Batches>();
        shared::<Merged>();
        #[cfg(feature = "embedded")]
        shared::<embedded::Embedded>();
    }
}
