//! Who is let in by servers that the operator made.

use serde_json::json;
use vault_tests::access::{as_user, user};
use vault_tests::kinds::apply_text;
use vault_tests::operator::{Field, SETTLES, VAULT};
use vault_tests::wait::until;

use crate::common::{client, ips};

#[test]
fn service_accounts_and_users_may_do_what_they_were_granted() {
    let field = Field::new().start();
    let namespace = field.namespace.clone();
    for account in ["till", "stranger"] {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace},
        });
        apply_text(&field.cluster, &account.to_string());
    }
    let users = format!("users:\n{}", user("clerk", 64, &["orders:read"]));
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "users", "namespace": namespace}, "stringData": {"access.yaml": users},
    });
    apply_text(&field.cluster, &secret.to_string());
    let mut spec = field.vault(&field.prefix());
    spec["streams"] = json!([{"name": "orders"}]);
    spec["access"] = json!({
        "serviceAccounts": [{"name": "till", "grants": ["orders:write"]}],
        "usersSecretRef": {"name": "users"},
    });
    field.apply(VAULT, "events", &spec);
    field.until_ready(VAULT, "events");
    let token = |account: &str, audience: Option<&str>| {
        format!("Bearer {}", field.cluster.token(&namespace, account, audience))
    };
    let (till, stranger) = (token("till", Some("messagevault")), token("stranger", Some("messagevault")));
    for ip in ips(&field, "events") {
        let client = client(&ip);
        let ask = |authorization: &str, method: &str, path: &str| {
            let mut headers = vec![("Content-Type", "text/plain"), ("Accept", "application/json")];
            if !authorization.is_empty() {
                headers.push(("Authorization", authorization));
            }
            let body = (method == "POST").then_some(b"hello" as &[u8]);
            client.send(method, path, &headers, body).unwrap().status
        };
        let orders = "/streams/orders/messages";
        assert_eq!(ask(&till, "POST", orders), 200, "it may write");
        assert_eq!(ask(&till, "GET", orders), 200);
        assert_eq!(ask(&till, "DELETE", "/streams/orders"), 403);
        assert_eq!(ask(&stranger, "POST", orders), 403);
        assert_eq!(ask("", "POST", orders), 401);
        assert_eq!(ask(&token("till", None), "POST", orders), 401, "a token for somebody else");
        assert_eq!(ask(&as_user("clerk"), "GET", orders), 200);
        assert_eq!(ask(&as_user("clerk"), "POST", orders), 403);
    }
    // A further grant comes into force in the pods that there are.
    spec["access"]["serviceAccounts"] = json!([
        {"name": "till", "grants": ["orders:write"]}, {"name": "stranger", "grants": ["orders:write"]}
    ]);
    field.apply(VAULT, "events", &spec);
    for ip in ips(&field, "events") {
        until("the stranger may write", SETTLES, || {
            let headers = [("Content-Type", "text/plain"), ("Authorization", stranger.as_str())];
            let answer = client(&ip).send("POST", "/streams/orders/messages", &headers, Some(b"hello"));
            (answer.unwrap().status == 200).then_some(())
        });
    }
}
