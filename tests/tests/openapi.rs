//! The server's OpenAPI document is true: a client that a generator makes of it works, and whatever else a generator of
//! requests makes of it finds nothing that the document does not say.

use std::process::Command;

use vault_tests::access::{AccessFile, token, with_token};
use vault_tests::clients::{python, scripts};
use vault_tests::server::{Server, Setup, temporary_directory};

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the interpreter was found");
    let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
    assert!(output.status.success(), "{command:?}\n{}\n{}", said[0], said[1]);
    said[0].clone()
}

#[test]
fn a_generated_client_works() {
    let (directory, made) = (temporary_directory(), temporary_directory());
    let server = Setup::in_directory(directory.path()).start();
    let [document, config, package] =
        ["openapi.json", "config.yaml", "made"].map(|name| made.path().join(name));
    std::fs::write(&document, server.client().get("/openapi.json").expect(200).body).unwrap();
    // Making its code pretty needs a program that nothing else needs.
    std::fs::write(&config, "post_hooks: []\n").unwrap();
    let generator = python().with_file_name("openapi-python-client");
    run(Command::new(generator)
        .args(["generate", "--path"])
        .arg(&document)
        .arg("--config")
        .arg(&config)
        .arg("--output-path")
        .arg(&package));
    let script = scripts().join("openapi.py");
    let url = format!("http://{}", server.address());
    let said = run(Command::new(python()).arg("-B").arg(script).arg(&package).arg(url));
    assert_eq!(said.trim(), "all is as it is described");
}

/// What no schema says, such as which parameters go together, makes a request that looks right and is refused.
const NOT_CHECKED: &str = "positive_data_acceptance";

/// What is asked for is read at once, and comes to an end.
const CONFIG: &str = "[parameters]\n\"query.wait\" = 0\n";

/// Has schemathesis send right requests, wrong ones, and such that follow on each other, and judge the answers.
fn judge(server: &Server, further: &[&str]) {
    let folder = temporary_directory();
    std::fs::write(folder.path().join("schemathesis.toml"), CONFIG).expect("there is room for a small file");
    let url = format!("http://{}/openapi.json", server.address());
    run(Command::new(python().with_file_name("st"))
        .current_dir(folder.path())
        .args(["run", &url, "--checks", "all", "--exclude-checks", NOT_CHECKED, "--max-examples", "60"])
        .args([
            "--seed",
            "1",
            "--request-timeout",
            "10",
            "--no-color",
            "--header",
            "Accept: application/json",
        ])
        .args(further));
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    server.client().get("/readyz").expect(200);
}

#[test]
fn requests_of_any_kind_are_answered_as_the_document_says() {
    let directory = temporary_directory();
    let server = Setup::in_directory(directory.path()).start();
    server.client().create("orders", 4 << 20);
    judge(&server, &[]);
}

#[test]
fn so_they_are_where_callers_must_say_who_they_are() {
    let directory = temporary_directory();
    let file = AccessFile::new(directory.path(), &format!("tokens:\n{}", token("root", &["all:admin"])));
    let setup = Setup::in_directory(&directory.path().join("data"));
    let server = setup.with(["--access".into(), file.path().into_os_string()]).start();
    // It knows that whoever leaves this out, or shows another, must be sent away.
    judge(&server, &["--header", &format!("Authorization: {}", with_token("root"))]);
}
