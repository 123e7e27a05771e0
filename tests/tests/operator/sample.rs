//! The sample for trying things out: its Azurite with the arguments that the manifest gives, and its vault on it.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use vault_tests::azurite::Setup;
use vault_tests::kubernetes::Cluster;
use vault_tests::operator::{Field, VAULT};

use crate::common::{append, texts};

#[test]
fn the_sample_for_trying_things_out_works() {
    let sample = include_str!("../../../manifests/samples/azurite.yaml");
    let documents: Vec<_> =
        serde_yaml::Deserializer::from_str(sample).map(|it| Value::deserialize(it).unwrap()).collect();
    let of_kind = |kind: &str| documents.iter().find(|document| document["kind"] == kind).unwrap();
    let container = &of_kind("Deployment")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["command"], json!(["azurite-blob"]));
    let arguments: Vec<_> =
        container["args"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect();
    let azurite = Arc::new(Setup::with_arguments(&arguments).start());
    let port = format!("--blobPort={}", of_kind("Service")["spec"]["ports"][0]["port"]);
    assert!(arguments.contains(&port), "the Service leads to where Azurite listens");

    let field = Field::with(Cluster::shared(), azurite).start();
    let vault = of_kind(VAULT);
    let name = vault["metadata"]["name"].as_str().unwrap();
    let mut spec = vault["spec"].clone();
    let (service, account) = (of_kind("Service"), field.azurite.endpoint());
    let address = format!(
        "http://{}.{}.svc:{}/{}",
        service["metadata"]["name"].as_str().unwrap(),
        service["metadata"]["namespace"].as_str().unwrap(),
        service["spec"]["ports"][0]["port"],
        account.rsplit('/').next().unwrap()
    );
    assert_eq!(spec["storage"]["endpoint"], address);
    spec["storage"]["endpoint"] = json!(account);
    field.apply(VAULT, name, &spec);
    field.until_ready(VAULT, name);
    let stream = spec["streams"][0]["name"].as_str().unwrap();
    append(&field, name, stream, "hello");
    assert_eq!(texts(&field, name, stream), ["hello"]);
}
