//! Two servers of one vault: both ask who it is, with the caller's own credentials.

use vault_tests::access::{AccessFile, as_user, token, user, with_token};
use vault_tests::client::Client;
use vault_tests::replicas::free_port;
use vault_tests::server::{Server, Setup, temporary_directory};
use vault_tests::wait::{LONG, until};

use super::{CHEAP, ask, problem};

/// A leader and a follower on one directory; each has an access file of its own.
struct Pair {
    leader: Server,
    follower: Server,
}

impl Pair {
    fn start(folder: &std::path::Path, leader: &str, follower: &str) -> Self {
        let start = |name: &str, content: &str| {
            let own = folder.join(name);
            std::fs::create_dir(&own).unwrap();
            let file = AccessFile::new(&own, content);
            let access = ["--access".into(), file.path().into_os_string()];
            let address = format!("127.0.0.1:{}", free_port());
            Setup::at(&folder.join("vault"), &address).with(access).start()
        };
        let pair = Self { leader: start("leader", leader), follower: start("follower", follower) };
        let status = |client: Client| ask(&client, &with_token("admin"), "GET", "/status").expect(200).json();
        until("one leads and the other follows", LONG, || {
            let (leads, follows) = (status(pair.leader.client()), status(pair.follower.client()));
            (leads["role"] == "leader" && follows["leader"] == leads["leader"]).then_some(())
        });
        pair
    }
}

fn told<'a>(server: &Server, log: &'a mut String, parts: &[&str]) -> Vec<&'a str> {
    *log = server.log();
    let fits = |line: &&str| line.contains("audit: ") && parts.iter().all(|part| line.contains(part));
    log.lines().filter(fits).collect()
}

#[test]
fn both_ask_and_the_one_that_carries_it_out_tells() {
    let folder = temporary_directory();
    let file = format!(
        "users:\n{}tokens:\n{}",
        user("shop", CHEAP, &["orders:write"]),
        token("admin", &["all:admin"])
    );
    let pair = Pair::start(folder.path(), &file, &file);
    let client = pair.follower.client();
    ask(&client, &with_token("admin"), "PUT", "/streams/orders").expect(201);
    ask(&client, &as_user("shop"), "POST", "/streams/orders/messages").expect(200);
    let read = ask(&client, &as_user("shop"), "GET", "/streams/orders/messages?consistency=strong");
    assert_eq!(read.expect(200).messages().len(), 1);
    problem(&ask(&client, "", "POST", "/streams/orders/messages"), 401, "unauthenticated");
    problem(&ask(&client, &as_user("shop"), "POST", "/streams/others/messages"), 403, "forbidden");
    problem(&ask(&client, &as_user("shop"), "GET", "/streams/others/messages?wait=1"), 403, "forbidden");
    let mut log = String::new();
    until("the leader tells of the stream", LONG, || {
        let parts = ["carried out", "token admin", "PUT", "201", "handed_on_for", "127.0.0.1:"];
        (told(&pair.leader, &mut log, &parts).len() == 1).then_some(())
    });
    until("the follower tells of the refusals", LONG, || {
        (told(&pair.follower, &mut log, &["refused"]).len() == 3).then_some(())
    });
    assert!(told(&pair.leader, &mut log, &["refused"]).is_empty(), "{log}");
    assert!(told(&pair.follower, &mut log, &["carried out"]).is_empty(), "{log}");
}

#[test]
fn the_leader_does_not_take_a_followers_word() {
    let folder = temporary_directory();
    let admin = token("admin", &["all:admin"]);
    let strict = format!("tokens:\n{admin}");
    let lenient = format!("tokens:\n{admin}{}", token("shop", &["orders:write"]));
    let pair = Pair::start(folder.path(), &strict, &lenient);
    let answer = ask(&pair.follower.client(), &with_token("shop"), "POST", "/streams/orders/messages");
    problem(&answer, 401, "unauthenticated");
    // Nor that of anybody who says that they are one.
    let term = ask(&pair.leader.client(), &with_token("admin"), "GET", "/status").json()["term"].to_string();
    let headers = [("Message-Vault-Forwarded", term.as_str()), ("Content-Type", "text/plain")];
    let client = pair.leader.client();
    let answer = client.send("POST", "/streams/orders/messages", &headers, Some(b"x")).unwrap();
    problem(&answer, 401, "unauthenticated");
}
