//! Access files that change while the server runs.

use std::time::Instant;

use vault_tests::access::{as_user, token, user, with_token};
use vault_tests::wait::until;

use super::{CHEAP, Guarded, SOON, ask, problem, trouble};

fn file(grants: &[&str]) -> String {
    format!("users:\n{}tokens:\n{}", user("shop", CHEAP, grants), token("admin", &["all:admin"]))
}

#[test]
fn a_new_file_comes_into_force_and_nothing_of_the_old_one_is_remembered() {
    let guarded = Guarded::start(&file(&["orders:write"]));
    let client = guarded.client();
    ask(&client, &as_user("shop"), "POST", "/streams/orders/messages").expect(200);
    let began = Instant::now();
    guarded.file.replace(&file(&["orders:read"]));
    until("the right to write is gone", SOON, || {
        let answer = ask(&client, &as_user("shop"), "POST", "/streams/orders/messages");
        (answer.status == 403).then_some(())
    });
    ask(&client, &as_user("shop"), "GET", "/streams/orders/messages").expect(200);
    guarded.file.replace(&format!("tokens:\n{}", token("other", &["all:read"])));
    until("the user is gone", SOON, || {
        let answer = ask(&client, &as_user("shop"), "GET", "/streams/orders/messages");
        (answer.status == 401).then_some(())
    });
    problem(&ask(&client, &with_token("admin"), "GET", "/"), 401, "unauthenticated");
    ask(&client, &with_token("other"), "GET", "/streams/orders/messages").expect(200);
    assert!(began.elapsed() < 2 * SOON);
}

#[test]
fn an_invalid_file_is_reported_and_the_old_one_stays_in_force() {
    let guarded = Guarded::start(&file(&["orders:write"]));
    let client = guarded.client();
    let admin = with_token("admin");
    assert_eq!(trouble(&client, &admin), None);
    guarded.file.replace("users:\n- name: shop\n  password: hunter2\n  grants: []\n");
    let said = until("the file is reported", SOON, || trouble(&client, &admin));
    assert!(
        said.contains("users[0].password") && said.contains("line 3") && !said.contains("hunter2"),
        "{said}"
    );
    ask(&client, &as_user("shop"), "POST", "/streams/orders/messages").expect(200);
    // It is told once, however often it is looked at.
    std::thread::sleep(SOON / 2);
    let log = guarded.server.log();
    assert_eq!(log.lines().filter(|line| line.contains("stays in force")).count(), 1, "{log}");
    std::fs::remove_file(guarded.folder.path().join("..data")).unwrap();
    let gone = |said: &String| said.contains("cannot be read");
    until("that it is gone is reported", SOON, || trouble(&client, &admin).filter(gone));
    ask(&client, &as_user("shop"), "POST", "/streams/orders/messages").expect(200);
    guarded.file.replace(&file(&["orders:read"]));
    until("the new file is in force", SOON, || trouble(&client, &admin).is_none().then_some(()));
    problem(&ask(&client, &as_user("shop"), "POST", "/streams/orders/messages"), 403, "forbidden");
}
