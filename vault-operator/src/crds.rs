//! The definitions of the resources, as `vault-operator crds` prints them and as `manifests/` and the chart hold them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::api::{MessageVault, VaultStream};
use crate::desired::labels_of_installation;

/// What the text begins with.
const HEADER: &str = "\
# The kinds MessageVault and VaultStream of messagevault.io. Made by `vault-operator crds`: change the types in
# vault-operator/src/api, and run UPDATE_SNAPSHOTS=1 cargo test -p vault-operator crds.
";

/// Both CustomResourceDefinitions, as YAML documents: always the same text for one version of the program.
#[must_use]
pub fn yaml() -> String {
    let mut text = HEADER.to_owned();
    for definition in all() {
        text.push_str("---\n");
        text.push_str(&serde_yaml::to_string(&definition).expect("a definition is plain data"));
    }
    text
}

/// Both definitions.
#[must_use]
pub fn all() -> [CustomResourceDefinition; 2] {
    [MessageVault::crd(), VaultStream::crd()].map(|mut definition| {
        definition.metadata.labels = Some(labels_of_installation());
        definition
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The API server refuses annotations of more bytes, and `kubectl apply` puts the whole object in one.
    const MAX_APPLIED_BYTES: usize = 262_144;

    #[test]
    fn what_is_installed_is_what_the_program_prints() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for copy in ["manifests/crds/messagevault.io.yaml", "charts/message-vault/files/crds.yaml"] {
            let path = workspace.join(copy);
            if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
                std::fs::write(&path, yaml()).unwrap();
            }
            let there = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(there == yaml(), "{copy} is not what is printed; UPDATE_SNAPSHOTS=1 takes it over");
        }
    }

    #[test]
    fn the_text_is_the_same_each_time_and_holds_both_kinds() {
        assert_eq!(yaml(), yaml());
        assert!(yaml().starts_with('#'));
        assert_eq!(yaml().matches("\nkind: CustomResourceDefinition\n").count(), 2);
    }

    #[test]
    fn kubectl_apply_can_keep_each_in_an_annotation() {
        for definition in all() {
            let bytes = serde_json::to_string(&definition).unwrap().len();
            assert!(bytes < MAX_APPLIED_BYTES, "{bytes}");
        }
    }
}
