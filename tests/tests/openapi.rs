//! A client that a generator makes of the server's OpenAPI document works.

use std::process::Command;

use vault_tests::clients::{python, scripts};
use vault_tests::server::{Setup, temporary_directory};

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
