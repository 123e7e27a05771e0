//! The SDK's clients as they are used here: on our connections, each request sent once, signed where a key is given.

use std::sync::Arc;

use azure_core::http::policies::Policy;
use azure_core::http::{ClientOptions, RetryOptions, Transport, UserAgentOptions};
use azure_storage_blob::{BlobServiceClient, BlobServiceClientOptions};

use super::connections::Connections;
use super::settings::{AzureSettings, Credential};
use super::shared_key::SharedKey;
use crate::env::Env;
use crate::storage::StorageError;

/// What Azure's logs call this program.
const APPLICATION: &str = "message-vault";

/// The client that all others are made from.
pub(super) fn service(
    settings: &AzureSettings,
    connections: Arc<Connections>,
    env: &Env,
) -> Result<BlobServiceClient, StorageError> {
    let refused = |what: &str, why: &dyn std::fmt::Display| StorageError::Refused(format!("{what}: {why}"));
    let mut client_options = ClientOptions {
        transport: Some(Transport::new(connections)),
        // The log sends again by itself, and must know of each request that was sent.
        retry: RetryOptions::none(),
        user_agent: UserAgentOptions { application_id: Some(APPLICATION.to_owned()) },
        ..ClientOptions::default()
    };
    let mut endpoint = settings.account.endpoint.clone();
    let mut token = None;
    match &settings.credential {
        Credential::Key(key) => {
            let policy = SharedKey::new(&settings.account.name, key.clone(), env.clone());
            client_options.per_try_policies.push(Arc::new(policy) as Arc<dyn Policy>);
        }
        Credential::Sas(sas) => endpoint.set_query(Some(sas.secret())),
        Credential::Identity(identity) => {
            let credential = identity.credential(&client_options, env);
            token = Some(credential.map_err(|error| refused("the identity cannot be used", &error))?);
        }
    }
    let options = BlobServiceClientOptions { client_options, ..BlobServiceClientOptions::default() };
    // The endpoint has no secret in it here: with a SAS there is no token, and only that can fail.
    BlobServiceClient::new(endpoint, token, Some(options))
        .map_err(|error| refused("there can be no client for the account", &error))
}
