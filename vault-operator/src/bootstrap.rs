//! Vaults that come with the installation: resources in files, which the operator applies. A chart cannot hold a resource
//! of a kind that the same chart brings.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use vault_server::env::Env;

use crate::api::{MessageVault, VaultStream};
use crate::limits::{LOOK_AT_FILES_EVERY, MAX_BOOTSTRAP_BYTES};

/// The field manager of what is applied from files.
const MANAGER: &str = "message-vault-bootstrap";

/// Applies what stands in the files of a directory, and again when they change, until `stop`. What was applied and stands
/// there no longer is left as it is.
pub async fn run(client: Client, env: Env, directory: &Path, namespace: &str, stop: &CancellationToken) {
    let mut applied = BTreeMap::new();
    // What goes on to fail in the same way is told once.
    let mut failures = BTreeMap::new();
    loop {
        match read(directory) {
            Ok(files) => {
                failures.remove("");
                for (name, text) in files {
                    if applied.get(&name) == Some(&text) {
                        continue;
                    }
                    match apply(&client, &text, namespace).await {
                        Ok(count) => {
                            tracing::info!(file = name, count, "applied");
                            failures.remove(&name);
                            applied.insert(name, text);
                        }
                        Err(error) => {
                            let error = format!("{error:#}");
                            if failures.get(&name) != Some(&error) {
                                tracing::warn!(file = name, error, "cannot be applied; it is tried again");
                                failures.insert(name, error);
                            }
                        }
                    }
                }
            }
            Err(error) => {
                let error = error.to_string();
                if failures.get("") != Some(&error) {
                    tracing::warn!(directory = %directory.display(), error, "cannot be read; it is tried again");
                    failures.insert(String::new(), error);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = env.clock.sleep(LOOK_AT_FILES_EVERY) => {}
        }
    }
}

/// The YAML files of a directory. Kubernetes keeps what it mounts behind names that begin with two dots.
fn read(directory: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if name.starts_with("..") || !is_yaml {
            continue;
        }
        let mut text = String::new();
        std::fs::File::open(&path)?.take(MAX_BOOTSTRAP_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_BOOTSTRAP_BYTES {
            let why = format!("{name} has more than {MAX_BOOTSTRAP_BYTES} bytes");
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, why));
        }
        files.insert(name, text);
    }
    Ok(files)
}

/// The documents of a file.
fn parse(text: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = serde_yaml::Value::deserialize(document)?;
        if !value.is_null() {
            objects.push(serde_json::from_value(serde_json::to_value(value)?)?);
        }
    }
    Ok(objects)
}

/// Applies the resources of a file; answers how many they are.
async fn apply(client: &Client, text: &str, namespace: &str) -> anyhow::Result<usize> {
    let objects = parse(text)?;
    let count = objects.len();
    for object in objects {
        let kind = object.types.as_ref().map(|types| types.kind.as_str()).unwrap_or_default();
        let resource = match kind {
            "MessageVault" => ApiResource::erase::<MessageVault>(&()),
            "VaultStream" => ApiResource::erase::<VaultStream>(&()),
            other => anyhow::bail!("it holds a `{other}`; only MessageVault and VaultStream are applied"),
        };
        let to = object.namespace().unwrap_or_else(|| namespace.to_owned());
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &to, &resource);
        api.patch(&object.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yaml_files_are_read_and_not_the_links_of_kubernetes() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a.yaml", "b.yml", "c.txt", "..data.yaml"] {
            std::fs::write(directory.path().join(name), name).unwrap();
        }
        let files = read(directory.path()).unwrap();
        assert_eq!(files.keys().map(String::as_str).collect::<Vec<_>>(), ["a.yaml", "b.yml"]);
        let long = " ".repeat(usize::try_from(MAX_BOOTSTRAP_BYTES).unwrap() + 1);
        std::fs::write(directory.path().join("long.yaml"), long).unwrap();
        assert!(read(directory.path()).unwrap_err().to_string().contains("long.yaml has more than"));
    }
}
