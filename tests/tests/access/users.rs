//! Names with passwords, tokens, and files that are wrong from the start.

use std::time::Duration;

use vault_tests::access::{AccessFile, as_user, basic, token, user, with_token};
use vault_tests::client::Client;
use vault_tests::server::{Setup, temporary_directory};

use super::{CHEAP, Guarded, ask, problem, setup};

fn file() -> String {
    format!(
        "users:\n{}{}tokens:\n{}",
        user("shop", CHEAP, &["orders:write", "shop-*:admin"]),
        user("nothing", CHEAP, &[]),
        token("reader", &["all:read"]),
    )
}

#[test]
fn callers_do_what_they_were_granted_and_nothing_else() {
    let guarded = Guarded::start(&file());
    let client = guarded.client();
    let (shop, reader) = (as_user("shop"), with_token("reader"));
    // Appending makes the stream, which needs no more than the grant to write.
    ask(&client, &shop, "POST", "/streams/orders/messages").expect(200);
    ask(&client, &shop, "PUT", "/streams/shop-one").expect(201);
    for path in ["/streams/orders/messages", "/streams/orders", "/status", "/"] {
        ask(&client, &reader, "GET", path).expect(200);
    }
    for path in ["/streams/orders", "/streams/other", "/streams/%6frders"] {
        let detail = problem(&ask(&client, &shop, "DELETE", path), 403, "forbidden");
        assert!(detail.contains("`admin`"), "{detail}");
    }
    // Names are compared as they are decoded: this is the stream `orders`.
    ask(&client, &shop, "GET", "/streams/%6frders/messages").expect(200);
    problem(&ask(&client, &shop, "GET", "/streams/orders%2Fx/messages"), 403, "forbidden");
    problem(&ask(&client, &reader, "POST", "/streams/orders/messages"), 403, "forbidden");
    // An unknown stream and one that is there look the same to who may not see them.
    let [hidden, unknown] = ["/streams/orders", "/streams/unknown"].map(|path| {
        let mut answer = ask(&client, &as_user("nothing"), "GET", path);
        answer.headers.remove("date");
        (answer.status, answer.headers, answer.body)
    });
    assert_eq!(hidden, unknown);
    problem(&ask(&client, &as_user("nothing"), "GET", "/status"), 403, "forbidden");
    let listed = |who: &str| {
        let page = ask(&client, who, "GET", "/streams?limit=1").expect(200).json();
        let names: Vec<_> = page["streams"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
        (serde_json::Value::from(names).to_string(), page["next_start_after"].to_string())
    };
    assert_eq!(listed(&reader), (r#"["orders"]"#.to_owned(), r#""orders""#.to_owned()));
    guarded.file.replace(&token("admin", &["all:admin"]).replacen("- name", "tokens:\n- name", 1));
}

#[test]
fn a_list_holds_what_the_caller_may_read() {
    let admin = token("admin", &["all:admin"]);
    let guarded = Guarded::start(&format!("tokens:\n{admin}{}", token("b", &["b*:read", "d:write"])));
    let client = guarded.client();
    for name in ["a", "b1", "b2", "c", "d"] {
        ask(&client, &with_token("admin"), "PUT", &format!("/streams/{name}")).expect(201);
    }
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/streams?limit=1{after}");
        let page = ask(&client, &with_token("b"), "GET", &path).expect(200).json();
        found.extend(
            page["streams"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()),
        );
        match page["next_start_after"].as_str() {
            Some(next) => after = format!("&start_after={next}"),
            None => break,
        }
    }
    assert_eq!(found, ["b1", "b2", "d"]);
}

#[test]
fn who_is_not_known_is_told_what_is_wrong_and_no_secret() {
    let guarded = Guarded::start(&file());
    let client = guarded.client();
    for path in ["/livez", "/readyz"] {
        ask(&client, "", "GET", path).expect(200);
        ask(&client, "Bearer rubbish", "GET", path).expect(200);
    }
    for (shown, says) in [
        (String::new(), "send an Authorization header"),
        (basic("shop", "hunter2"), "user name or the password is wrong"),
        (basic("hunter2", "hunter2"), "user name or the password is wrong"),
        ("Basic hunter2".to_owned(), "base64"),
        ("Bearer hunter2".to_owned(), "not known"),
        ("hunter2".to_owned(), "`Basic ...` or `Bearer ...`"),
        (format!("Bearer {}", "hunter2".repeat(3_000)), "16 KiB"),
    ] {
        for path in ["/", "/status", "/streams", "/streams/orders/messages", "/no/such/route"] {
            let answer = ask(&client, &shown, "GET", path);
            let detail = problem(&answer, 401, "unauthenticated");
            assert!(detail.contains(says) && !detail.contains("hunter2"), "{detail}");
            let asked: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
            assert_eq!(asked.len(), 2, "{asked:?}");
        }
    }
    // Nor is a token taken from anywhere but the header.
    let path = "/streams/orders/messages?access_token=reader-token";
    problem(&ask(&client, "", "GET", path), 401, "unauthenticated");
    let log = guarded.server.log();
    assert!(!log.contains("hunter2") && !log.contains("argon2id") && !log.contains("reader-token"), "{log}");
}

#[test]
fn a_refused_append_is_answered_although_its_body_is_large() {
    let guarded = Guarded::start(&file());
    let body = vec![b'x'; 4 << 20];
    let headers = [("Content-Type", "text/plain")];
    let answer = guarded.client().send("POST", "/streams/orders/messages", &headers, Some(&body)).unwrap();
    problem(&answer, 401, "unauthenticated");
}

#[test]
fn a_wrong_file_ends_the_server_with_a_sentence() {
    let ends = |setup: Setup, says: &[&str]| {
        let (status, said) = setup.run_to_end(Duration::from_secs(10));
        assert_eq!(status, Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(says.iter().all(|part| said.contains(part)), "{said}");
    };
    for (content, says) in [
        ("users:\n- name: shop\n  password: hunter2\n", &["access.yaml", "line 3", "users[0].password"][..]),
        ("users:\n- name: shop\n  pasword: hunter2\n", &["access.yaml", "line 3", "unknown field `pasword`"]),
        (
            "issuers:\n- url: https://a\n  audience: b\n  ca_file: /none\n  grants: []\n",
            &["issuers[0].ca_file", "/none"],
        ),
    ] {
        let folder = temporary_directory();
        ends(setup(&folder, &AccessFile::new(folder.path(), content)), says);
    }
    let folder = temporary_directory();
    let with = |arguments: &[&str]| Setup::in_directory(folder.path()).with(arguments.iter().copied());
    ends(with(&["--access", "/does/not/exist"]), &["/does/not/exist"]);
    ends(with(&["--access", "/dev/null", "--allow-anonymous"]), &["--access", "--allow-anonymous"]);
}

#[test]
fn without_the_file_nobody_is_asked_and_only_on_loopback() {
    let folder = temporary_directory();
    let server = Setup::in_directory(&folder.path().join("vault")).start();
    ask(&server.client(), "", "PUT", "/streams/orders").expect(201);
    ask(&server.client(), "Basic rubbish", "DELETE", "/streams/orders").expect(204);
    // With it, the server may listen anywhere.
    let file = AccessFile::new(folder.path(), &file());
    let access = ["--access".into(), file.path().into_os_string()];
    let server = Setup::at(&folder.path().join("another"), "0.0.0.0:0").with(access).start();
    let client = Client::new(([127, 0, 0, 1], server.address().port()).into());
    problem(&ask(&client, "", "GET", "/"), 401, "unauthenticated");
    ask(&client, &with_token("reader"), "GET", "/").expect(200);
}
