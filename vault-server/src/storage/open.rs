//! Opening storage as settings name it: the server's and those of whoever works on its streams without it.

use std::sync::Arc;

use thiserror::Error;

use super::accounts::Accounts;
use super::azure::{self, AzureSettings, AzureStorage};
use super::file::FileStorage;
use super::memory::MemoryStorage;
use super::{Storage, StorageError};
use crate::config::StorageSetting;
use crate::env::Env;

/// Storage as the settings name it.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The storage.
    pub storage: Arc<dyn Storage>,
    /// The accounts in which streams may live, the main one first; empty where the storage has none.
    pub accounts: Vec<String>,
}

/// Why storage cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// The settings are wrong or incomplete; the sentence says what to set.
    #[error("{0}")]
    Settings(String),
    /// It refuses, or is not there.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A storage account of a kind that cannot hold a vault.
    #[error("{0}")]
    Unfit(String),
}

/// The storage accounts, the main one first; none where storage is something else. `variable` looks up a variable of the
/// environment.
///
/// # Errors
///
/// One sentence that says what to set.
pub fn azure_settings(
    setting: &StorageSetting,
    accounts: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<AzureSettings>, String> {
    let StorageSetting::Azure(spec) = setting else { return Ok(Vec::new()) };
    let mut all = vec![azure::from_environment(spec, &variable)?];
    for name in accounts {
        let settings = azure::from_environment_named(name, &variable)?;
        if all.iter().any(|other| other.account().name == settings.account().name) {
            return Err(format!("the storage account `{}` is named twice", settings.account().name));
        }
        all.push(settings);
    }
    Ok(all)
}

/// Opens storage. `azure` are the settings of its accounts, as [`azure_settings`] gives them.
pub async fn open(
    setting: &StorageSetting,
    azure: Vec<AzureSettings>,
    env: &Env,
) -> Result<Opened, OpenError> {
    let storage: Arc<dyn Storage> = match setting {
        StorageSetting::Memory => Arc::new(MemoryStorage::new(env.clone())),
        StorageSetting::File(directory) => Arc::new(FileStorage::open(directory, env.clone())?),
        StorageSetting::Azure(_) => return open_azure(azure, env).await,
    };
    Ok(Opened { storage, accounts: Vec::new() })
}

/// Opens storage that is named as for the server's `--storage`, with further accounts, by the variables of this process'
/// environment.
pub async fn open_named(text: &str, accounts: &[String], env: &Env) -> Result<Opened, OpenError> {
    let setting = StorageSetting::parse(text).map_err(OpenError::Settings)?;
    let azure = azure_settings(&setting, accounts, |name| std::env::var(name).ok());
    open(&setting, azure.map_err(OpenError::Settings)?, env).await
}

async fn open_azure(all: Vec<AzureSettings>, env: &Env) -> Result<Opened, OpenError> {
    let mut accounts: Vec<(String, Arc<dyn Storage>)> = Vec::new();
    for settings in all {
        let name = settings.account().name.clone();
        let storage = AzureStorage::connect(settings, env)?;
        match storage.why_unfit().await {
            Ok(None) => {}
            Ok(Some(why)) => return Err(OpenError::Unfit(why)),
            // It may come back, and a key or a role may be put right: the status tells until then.
            Err(error) => {
                tracing::warn!(account = name, %error, "the storage account cannot be asked what it is");
            }
        }
        accounts.push((name, Arc::new(storage)));
    }
    let names = accounts.iter().map(|(name, _)| name.clone()).collect();
    Ok(Opened { storage: Arc::new(Accounts::new(accounts)), accounts: names })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn storage_is_opened_by_its_name() {
        let (env, root) = (Env::real(), tempfile::tempdir().unwrap());
        let named = format!("file:{}", root.path().join("data").display());
        assert!(open_named(&named, &[], &env).await.unwrap().accounts.is_empty());
        assert!(root.path().join("data").is_dir());
        let wrong = open_named("s3:x", &[], &env).await.unwrap_err();
        assert!(wrong.to_string().contains("azure:, file:<directory> or memory:"), "{wrong}");
    }

    #[test]
    fn accounts_are_named_once() {
        let variable = |name: &str| {
            name.starts_with("AZURE_STORAGE_CONNECTION_STRING").then(|| {
                "DefaultEndpointsProtocol=https;AccountName=one;AccountKey=a2V5;EndpointSuffix=core.windows.net"
                    .to_owned()
            })
        };
        let azure = StorageSetting::Azure(String::new());
        assert_eq!(azure_settings(&azure, &[], variable).unwrap().len(), 1);
        let twice = azure_settings(&azure, &["one".to_owned()], variable).unwrap_err();
        assert!(twice.contains("named twice"), "{twice}");
        assert!(azure_settings(&StorageSetting::Memory, &[], |_| None).unwrap().is_empty());
    }
}
