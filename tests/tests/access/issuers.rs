//! Signed tokens.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use serde_json::{Value, json};
use vault_tests::access::{token, with_token};
use vault_tests::client::{Answer, Client};
use vault_tests::issuer::{Issuer, Key, Kind, Mood, now_s, signed};
use vault_tests::server::temporary_directory;
use vault_tests::wait::until;

use super::{Guarded, ask, problem, trouble};

const TILL: &str = "system:serviceaccount:shop:till";

/// How long it takes until an issuer may be asked again, and an answer besides.
const AGAIN: Duration = Duration::from_secs(25);

/// An access file that trusts this issuer, with these further lines about it.
fn trusting(issuer: &Issuer, more: &str) -> String {
    format!(
        "tokens:\n{}issuers:\n- url: {}\n  audience: messagevault\n{more}  grants:\n  \
         - subject: system:serviceaccount:shop:*\n    grants: ['orders:write']\n  \
         - claims: {{roles: vault-admin}}\n    grants: ['all:admin']\n",
        token("admin", &["all:admin"]),
        issuer.url()
    )
}

fn append(client: &Client, token: &str) -> Answer {
    ask(client, &format!("Bearer {token}"), "POST", "/streams/orders/messages")
}

/// The claims of the till, changed.
fn claims(issuer: &Issuer, changes: &Value) -> Value {
    let mut claims = issuer.claims(TILL);
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[test]
fn tokens_of_every_good_kind_are_taken_and_rules_give_the_grants() {
    let issuer = Issuer::plain();
    let keys = [("r", Kind::Rs256), ("p", Kind::Ps512), ("e", Kind::Es256), ("d", Kind::EdDsa)]
        .map(|(id, kind)| Key::new(id, kind));
    issuer.publish(&keys.each_ref());
    let guarded = Guarded::start(&trusting(&issuer, ""));
    let client = guarded.client();
    for key in &keys {
        append(&client, &key.token(&issuer.claims(TILL))).expect(200);
        let other = issuer.claims("system:serviceaccount:bar:till");
        problem(&append(&client, &key.token(&other)), 403, "forbidden");
        let admin = json!({"sub": "somebody", "roles": ["x", "vault-admin"]});
        append(&client, &key.token(&claims(&issuer, &admin))).expect(200);
        problem(&ask(&client, &format!("Bearer {}", key.token(&other)), "GET", "/status"), 403, "forbidden");
    }
    assert_eq!(issuer.asked(), 2, "the keys were asked for once");
    until("the log names the caller", AGAIN, || {
        guarded.server.log().contains("system:serviceaccount:bar:till of").then_some(())
    });
}

#[test]
fn every_other_token_is_refused_with_the_reason() {
    let (issuer, key, stranger) = (Issuer::plain(), Key::new("k", Kind::Rs256), Key::new("k", Kind::Rs256));
    issuer.publish(&[&key]);
    let guarded = Guarded::start(&trusting(&issuer, ""));
    let client = guarded.client();
    let good = issuer.claims(TILL);
    append(&client, &key.token(&good)).expect(200);
    let now = now_s();
    let changed = |changes: Value| key.token(&claims(&issuer, &changes));
    let header = |algorithm: &str| json!({ "alg": algorithm, "kid": "k", "typ": "JWT" });
    let with_public_key = |message: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key.public_der());
        hmac::sign(&key, message).as_ref().to_vec()
    };
    let token = key.token(&good);
    let (signed_part, signature) = token.rsplit_once('.').unwrap();
    let (head, _) = signed_part.split_once('.').unwrap();
    let other_claims = changed(json!({"roles": "vault-admin"}));
    let grafted = format!("{head}.{}.{signature}", other_claims.split('.').nth(1).unwrap());
    for (token, says) in [
        (changed(json!({"exp": now - 31})), "expired"),
        (changed(json!({"exp": null})), "when it expires"),
        (changed(json!({"nbf": now + 120})), "not good yet"),
        (changed(json!({"aud": "somebody else"})), "audience"),
        (changed(json!({"aud": ["https://kubernetes.default.svc"]})), "audience"),
        (changed(json!({"iss": "https://somebody.else"})), "issuer"),
        (changed(json!({"iss": format!("{}/", issuer.url())})), "issuer"),
        (changed(json!({"iss": null})), "issued"),
        (stranger.token(&good), "signature"),
        (grafted, "signature"),
        (format!("{signed_part}."), "signature"),
        (signed(&header("none"), &good, |_| Vec::new()), "neither"),
        (signed(&header("HS256"), &good, with_public_key), "neither"),
        (signed(&header("RS512"), &good, with_public_key), "does not publish"),
        (signed(&header("ES256"), &good, |_| vec![0; 64]), "does not publish"),
        (signed_part.to_owned(), "neither"),
        ("a.b.c".to_owned(), "neither"),
        (changed(json!({"padding": "x".repeat(13_000)})), "16 KiB"),
    ] {
        let detail = problem(&append(&client, &token), 401, "unauthenticated");
        assert!(detail.contains(says), "{says}: {detail}");
    }
    // Thirty seconds too late are borne with, and a long token as well.
    append(&client, &changed(json!({"exp": now - 5}))).expect(200);
    append(&client, &changed(json!({"padding": "x".repeat(10_000)}))).expect(200);
}

#[test]
fn a_remembered_token_is_good_until_it_expires() {
    let (issuer, key) = (Issuer::plain(), Key::new("k", Kind::Es256));
    issuer.publish(&[&key]);
    let guarded = Guarded::start(&trusting(&issuer, ""));
    let client = guarded.client();
    let token = key.token(&claims(&issuer, &json!({"exp": now_s() - 26})));
    append(&client, &token).expect(200);
    append(&client, &token).expect(200);
    until("it has expired", Duration::from_secs(10), || {
        (append(&client, &token).status == 401).then_some(())
    });
    assert!(problem(&append(&client, &token), 401, "unauthenticated").contains("expired"));
}

#[test]
fn signing_keys_change_while_the_server_runs() {
    let (issuer, old, new) = (Issuer::plain(), Key::new("old", Kind::Rs256), Key::new("new", Kind::Rs256));
    issuer.publish(&[&old]);
    let guarded = Guarded::start(&trusting(&issuer, ""));
    let client = guarded.client();
    let (first, second) = (old.token(&issuer.claims(TILL)), new.token(&issuer.claims(TILL)));
    append(&client, &first).expect(200);
    assert!(problem(&append(&client, &second), 401, "unauthenticated").contains("does not publish"));
    issuer.publish(&[&old, &new]);
    until("the new key is known", AGAIN, || (append(&client, &second).status == 200).then_some(()));
    append(&client, &first).expect(200);
    // What a key has signed that is withdrawn is not remembered either.
    issuer.publish(&[&new]);
    let stranger = Key::new("unknown", Kind::Rs256).token(&issuer.claims(TILL));
    let began = Instant::now();
    let before = issuer.asked();
    until("the old key is gone", AGAIN, || {
        append(&client, &stranger).expect(401);
        (append(&client, &first).status == 401).then_some(())
    });
    append(&client, &second).expect(200);
    let most = 2 * (began.elapsed().as_secs() / 10 + 1);
    assert!(issuer.asked() - before <= most, "{} requests for unknown keys", issuer.asked() - before);
}

#[test]
fn an_issuer_may_be_down_at_the_start_and_later() {
    let (issuer, key, other) = (Issuer::plain(), Key::new("k", Kind::Es256), Key::new("other", Kind::Es256));
    issuer.publish(&[&key]);
    issuer.be(Mood::Down);
    let guarded = Guarded::start(&trusting(&issuer, ""));
    let (client, admin) = (guarded.client(), with_token("admin"));
    let token = key.token(&issuer.claims(TILL));
    let answer = append(&client, &token);
    problem(&answer, 503, "issuer_unavailable");
    assert!(answer.headers.contains_key("retry-after") && answer.json()["retryable"] == true);
    assert!(trouble(&client, &admin).unwrap().contains(issuer.url()));
    // Others are served meanwhile, and what is wrong for sure is refused for good.
    ask(&client, &admin, "GET", "/streams").expect(200);
    problem(&append(&client, "rubbish"), 401, "unauthenticated");
    issuer.be(Mood::Well);
    until("the issuer is back", AGAIN, || (append(&client, &token).status == 200).then_some(()));
    assert_eq!(trouble(&client, &admin), None);
    for mood in [Mood::Failing(500), Mood::Endless, Mood::Impostor] {
        issuer.be(mood.clone());
        let unknown = other.token(&issuer.claims(TILL));
        until("the issuer is in trouble", AGAIN, || (append(&client, &unknown).status == 503).then_some(()));
        append(&client, &token).expect(200);
        append(&client, &key.token(&claims(&issuer, &json!({"jti": "another"})))).expect(200);
        assert!(trouble(&client, &admin).is_some(), "{mood:?}");
    }
    // A new file that leaves the issuer as it is leaves its keys as well.
    guarded.file.replace(&trusting(&issuer, "").replace("orders:write", "orders:admin"));
    until("the new file is in force", super::SOON, || {
        let answer = ask(&client, &format!("Bearer {token}"), "DELETE", "/streams/orders");
        (answer.status != 403).then_some(())
    });
    append(&client, &token).expect(200);
}

#[test]
fn an_issuer_works_as_kube_apiserver_does() {
    let folder = temporary_directory();
    let (ca, pod) = (folder.path().join("ca.crt"), folder.path().join("token"));
    let (issuer, key) = (Issuer::https(&ca), Key::new("k", Kind::Rs256));
    issuer.publish(&[&key]);
    issuer.want("the-servers-own-token");
    std::fs::write(&pod, "an-old-token\n").unwrap();
    let files = format!("  ca_file: {}\n  token_file: {}\n", ca.display(), pod.display());
    let guarded = Guarded::start_in(folder, &trusting(&issuer, &files));
    let client = guarded.client();
    // What the kubelet mounts as a projected token.
    let now = now_s();
    let token = key.token(&json!({
        "aud": ["messagevault"], "exp": now + 3_607, "iat": now, "nbf": now, "iss": issuer.url(),
        "jti": "3ea6ae55-6e1e-4a3b-bdf2-2bd0e9f5d6b7", "sub": TILL,
        "kubernetes.io": {
            "namespace": "shop",
            "node": {"name": "node-1", "uid": "5b9d4bf7-3d0c-4a53-9f0b-1d2a1f0fb0b1"},
            "pod": {"name": "till-6d4cf56db6-7xk2q", "uid": "f5f5b3ef-3c4b-4a9c-8f9a-0a5ad6f0dd3a"},
            "serviceaccount": {"name": "till", "uid": "bb3a3c1b-0a5e-4b3c-a9a5-4f6f3f1f6c77"},
            "warnafter": now + 3_007,
        },
    }));
    problem(&append(&client, &token), 503, "issuer_unavailable");
    let said = trouble(&client, &with_token("admin")).unwrap();
    assert!(said.contains("401") && !said.contains("an-old-token"), "{said}");
    // The kubelet replaces it long before it runs out.
    std::fs::write(&pod, "the-servers-own-token\n").unwrap();
    until("the issuer is asked with the new token", AGAIN, || {
        (append(&client, &token).status == 200).then_some(())
    });
    let log = guarded.server.log();
    assert!(!log.contains("the-servers-own-token") && !log.contains(&token), "{log}");
}

#[test]
fn an_issuer_whose_certificate_nobody_vouches_for_is_not_believed() {
    let folder = temporary_directory();
    let (ca, other) = (folder.path().join("ca"), folder.path().join("other"));
    let (issuer, _) = (Issuer::https(&ca), Issuer::https(&other));
    let key = Key::new("k", Kind::Es256);
    issuer.publish(&[&key]);
    let files = format!("  ca_file: {}\n", other.display());
    let guarded = Guarded::start_in(folder, &trusting(&issuer, &files));
    problem(&append(&guarded.client(), &key.token(&issuer.claims(TILL))), 503, "issuer_unavailable");
    let said = trouble(&guarded.client(), &with_token("admin")).unwrap();
    assert!(said.contains("certificate"), "{said}");
}
