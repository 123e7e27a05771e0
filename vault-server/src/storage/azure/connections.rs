//! The connections to an account, and how they are left behind where one of them may have fallen silent.
//!
//! A connection whose other end is gone without a word looks like a slow one, and those that lie idle beside it may have
//! gone the same way. So nobody who sends a request again does that on a connection from before: all of them are left to
//! the requests that are on them, and to their end.

use std::sync::{PoisonError, RwLock};

use async_trait::async_trait;
use azure_core::http::{AsyncRawResponse, HttpClient, Request};
use reqwest::Client;

use crate::limits::{AZURE_CONNECT_TIME, AZURE_IDLE_CONNECTION};
use crate::storage::StorageError;

/// The connections that requests may go out on.
#[derive(Debug)]
pub(super) struct Connections {
    in_use: RwLock<Pool>,
}

/// Connections that were begun after the same moment.
#[derive(Clone, Debug)]
struct Pool {
    client: Client,
    age: Age,
}

/// Which pool of connections it is, counted from the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Age(u64);

impl Connections {
    /// Nothing is connected yet.
    pub(super) fn new() -> Result<Self, StorageError> {
        Ok(Self { in_use: RwLock::new(Pool { client: client()?, age: Age(0) }) })
    }

    /// The age of the connections that requests go out on now.
    pub(super) fn age(&self) -> Age {
        self.in_use.read().unwrap_or_else(PoisonError::into_inner).age
    }

    /// Sees to it that no request goes out any more on connections of that age.
    pub(super) fn leave(&self, age: Age) {
        // Made outside the lock, since it reads certificates; of several that do so at once, one is kept.
        if self.age() != age {
            return;
        }
        let client = match client() {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!(%error, "the connections to the storage account are kept although one is silent");
                return;
            }
        };
        let mut pool = self.in_use.write().unwrap_or_else(PoisonError::into_inner);
        if pool.age == age {
            *pool = Pool { client, age: Age(age.0 + 1) };
        }
    }
}

fn client() -> Result<Client, StorageError> {
    Client::builder()
        .connect_timeout(AZURE_CONNECT_TIME)
        .pool_idle_timeout(AZURE_IDLE_CONNECTION)
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| StorageError::Refused(format!("there can be no HTTPS client: {error}")))
}

#[async_trait]
impl HttpClient for Connections {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let client = self.in_use.read().unwrap_or_else(PoisonError::into_inner).client.clone();
        client.execute_request(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_who_find_the_same_connections_silent_one_makes_new_ones() {
        let connections = Connections::new().unwrap();
        let first = connections.age();
        connections.leave(first);
        let second = connections.age();
        assert_ne!(first, second);
        connections.leave(first);
        assert_eq!(connections.age(), second, "these are younger than what was found silent");
        connections.leave(second);
        assert_ne!(connections.age(), second);
    }
}
