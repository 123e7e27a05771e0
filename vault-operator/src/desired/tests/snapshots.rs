//! Whole vaults, beside files that people can read. `UPDATE_SNAPSHOTS=1` writes them anew; a reviewer reads what differs.

use std::path::Path;

use super::*;

fn matches(name: &str, spec: &Value, options: &Options, facts: &Facts) {
    let vault = vault(spec);
    check(&vault, options).unwrap();
    let objects = desired(&vault, options, facts);
    let documents: Vec<_> = objects.iter().map(|object| serde_yaml::to_string(object).unwrap()).collect();
    let is = documents.join("---\n");
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/desired/snapshots").join(format!("{name}.yaml"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &is).unwrap();
    }
    let was = std::fs::read_to_string(&path).unwrap_or_default();
    let line = is.lines().zip(was.lines()).position(|(is, was)| is != was);
    let line = line.unwrap_or_else(|| is.lines().count().min(was.lines().count()));
    assert!(
        is == was,
        "{}:{}: was `{}`, is `{}`; UPDATE_SNAPSHOTS=1 takes it over",
        path.display(),
        line + 1,
        was.lines().nth(line).unwrap_or_default(),
        is.lines().nth(line).unwrap_or_default(),
    );
}

#[test]
fn a_vault_of_which_little_is_said() {
    matches("minimal", &minimal(), &options(), &facts());
}

#[test]
fn a_vault_of_which_all_is_said() {
    matches("full", &full(), &options(), &facts());
}

#[test]
fn a_vault_with_a_connection_string() {
    matches("secret-ref", &secret_ref(), &options(), &facts());
}

#[test]
fn a_vault_on_an_emulator() {
    matches("emulator", &emulator(), &options(), &facts());
}

#[test]
fn a_vault_on_aks_where_the_issuer_is_public() {
    let issuer = ClusterIssuer {
        url: "https://westeurope.oic.prod-aks.azure.com/33333333-3333-3333-3333-333333333333/44444444-4444-4444-4444-444444444444/".to_owned(),
        in_cluster: false,
    };
    let options = Options { cluster_issuer: Some(issuer), monitoring: false, ..options() };
    matches("aks", &minimal(), &options, &Facts { tenant_id: None, ..facts() });
}
