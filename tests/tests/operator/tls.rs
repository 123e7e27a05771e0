//! A vault with certificates.

use serde_json::json;
use vault_tests::certificates::Certificates;
use vault_tests::curl::curl;
use vault_tests::kinds::apply_text;
use vault_tests::operator::{Field, VAULT};

use crate::common::ips;

#[test]
fn servers_with_the_certificate_of_their_service_hand_on_to_each_other() {
    let field = Field::new().start();
    let name = format!("events.{}.svc", field.namespace);
    let certificates = Certificates::of(&[&name]);
    let file = |name: &str| std::fs::read_to_string(certificates.path(name)).unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "certificate", "namespace": field.namespace},
        "stringData": {"tls.crt": file("leaf"), "tls.key": file("key"), "ca.crt": file("ca")},
    });
    apply_text(&field.cluster, &secret.to_string());
    let mut spec = field.vault(&field.prefix());
    spec["tls"] = json!({"secretName": "certificate", "caKey": "ca.crt"});
    spec["streams"] = json!([{"name": "orders"}]);
    field.apply(VAULT, "events", &spec);
    let vault = field.until_ready(VAULT, "events");
    assert_eq!(vault["status"]["endpoint"], format!("https://{name}:8480"));
    let ips = ips(&field, "events");
    assert_eq!(ips.len(), 2, "one leads, and the other hands on");
    for ip in ips {
        let (ca, resolved) = (certificates.path("ca"), format!("{name}:8480:{ip}"));
        let url = format!("https://{name}:8480/streams/orders/messages");
        let kind = "Content-Type: text/plain";
        let answer = curl([
            "--cacert",
            ca.to_str().unwrap(),
            "--resolve",
            &resolved,
            "--header",
            kind,
            "--data",
            "hello",
            &url,
        ]);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}
