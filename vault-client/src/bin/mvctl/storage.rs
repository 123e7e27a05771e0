//! Vaults in storage, without a server.

use std::path::Path;

use vault_client::ReadError;
use vault_client::archive::{ArchiveError, Place};
use vault_format::names::{Prefix, StreamName};
use vault_server::env::Env;
use vault_server::log::inspect::InspectError;
use vault_server::storage::open::{OpenError, open_named};

use crate::failure::{Exit, Failure};

/// What is the same for all storage that a command works on.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// What the names of the vault's containers begin with: the servers' --prefix.
    #[arg(long, value_name = "PREFIX", default_value = "mv-", value_parser = prefix, help_heading = "Storage")]
    prefix: Prefix,

    /// Another storage account in which streams may live, as the servers have them; with commas between, or several times.
    #[arg(long = "account", value_name = "NAME", value_delimiter = ',', help_heading = "Storage")]
    accounts: Vec<String>,
}

fn prefix(text: &str) -> Result<Prefix, String> {
    Prefix::new(text).map_err(|error| error.to_string())
}

impl Options {
    /// The vault in storage that is named as for the server's --storage.
    pub(crate) async fn place(&self, storage: &str) -> Result<Place, Failure> {
        if storage == "memory:" {
            return Err(Failure::usage("memory: is gone with its process: name file:<directory> or azure:"));
        }
        let env = Env::real();
        let accounts = if storage.starts_with("azure:") { &self.accounts[..] } else { &[] };
        let opened = open_named(storage, accounts, &env).await.map_err(|error| match error {
            OpenError::Settings(sentence) => Failure::usage(sentence),
            error => Failure::new(Exit::Failed, format!("{storage}: {error}")),
        })?;
        let account = opened.accounts.first().cloned();
        Ok(Place { storage: opened.storage, env, prefix: self.prefix.clone(), account })
    }

    /// A vault that is only read: opening a directory that is not there would make it.
    pub(crate) async fn existing(&self, storage: &str) -> Result<Place, Failure> {
        if let Some(directory) = storage.strip_prefix("file:")
            && !Path::new(directory).is_dir()
        {
            return Err(Failure::usage(format!("{directory} is not a directory")));
        }
        self.place(storage).await
    }

    /// A vault in a directory.
    pub(crate) async fn directory(&self, directory: &Path) -> Result<Place, Failure> {
        self.place(&in_directory(directory)?).await
    }

    /// The streams that were named; all where none was.
    pub(crate) async fn streams(&self, place: &Place, names: &[String]) -> Result<Vec<StreamName>, Failure> {
        if names.is_empty() {
            return Ok(place.streams().await?);
        }
        names.iter().map(|name| self.stream(name)).collect()
    }

    /// A stream's name, checked.
    pub(crate) fn stream(&self, name: &str) -> Result<StreamName, Failure> {
        self.prefix.stream(name).map_err(|error| Failure::usage(format!("`{name}`: {error}")))
    }
}

/// How a directory is named as storage.
pub(crate) fn in_directory(directory: &Path) -> Result<String, Failure> {
    let text = directory.to_str().ok_or_else(|| Failure::usage("the directory's name is not UTF-8"))?;
    Ok(format!("file:{text}"))
}

/// Why something could not be done with a stream.
pub(crate) fn of_stream(error: ArchiveError, name: &StreamName) -> Failure {
    Failure::from(error).in_stream(name.as_str())
}

/// Streams that something could not be done with: the others are gone on with, so that one that is damaged does not keep
/// them from being copied or restored.
#[derive(Default)]
pub(crate) struct Failed {
    names: Vec<String>,
    exit: Option<Exit>,
}

impl Failed {
    /// Tells why it could not be done with one of so many streams. Fails where it is the only one, or the next ones would
    /// meet the same.
    pub(crate) fn take(&mut self, error: ArchiveError, name: &StreamName, of: usize) -> Result<(), Failure> {
        let goes_on = of > 1 && concerns_one_stream(&error);
        let failure = of_stream(error, name);
        if !goes_on {
            return Err(failure);
        }
        failure.tell();
        self.names.push(name.to_string());
        self.exit.get_or_insert(failure.exit);
        Ok(())
    }

    /// Fails where it could not be `done` with all of them; as the first one failed.
    pub(crate) fn end(self, done: &str) -> Result<(), Failure> {
        match self.exit {
            Some(exit) => Err(Failure::new(exit, format!("not {done}: {}", self.names.join(", ")))),
            None => Ok(()),
        }
    }
}

/// Whether it is a stream that is not as it should be, and not the storage or the servers.
fn concerns_one_stream(error: &ArchiveError) -> bool {
    let refused =
        |error: &vault_client::Error| matches!(error, vault_client::Error::Refused(why) if !why.retryable);
    match error {
        ArchiveError::Storage(_) | ArchiveError::Inspect(InspectError::Storage(_)) => false,
        ArchiveError::Source(source) => match source.downcast_ref::<ReadError>() {
            Some(ReadError::Request(error)) => refused(error),
            Some(_) => true,
            None => source.downcast_ref().is_some_and(refused),
        },
        _ => true,
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        let error = match error {
            ArchiveError::Source(source) => match source.downcast::<vault_client::Error>() {
                Ok(error) => return (*error).into(),
                Err(source) => match source.downcast::<vault_client::ReadError>() {
                    Ok(error) => return (*error).into(),
                    Err(source) => ArchiveError::Source(source),
                },
            },
            error => error,
        };
        let exit = match &error {
            ArchiveError::Inspect(InspectError::NotFound(_)) => Exit::NoStream,
            ArchiveError::Inspect(InspectError::Fault(_) | InspectError::TooNew { .. })
            | ArchiveError::Damaged(_)
            | ArchiveError::NotAsWritten(_) => Exit::Damage,
            _ => Exit::Failed,
        };
        let advice = match &error {
            ArchiveError::Damaged(_) => "; `mvctl restore --repair` saves what is intact",
            _ => "",
        };
        Self::new(exit, format!("{error}{advice}"))
    }
}
