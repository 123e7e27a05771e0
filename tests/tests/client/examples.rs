//! The example programs: that they do what they say, and how much memory they take.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use vault_tests::azurite::Azurite;
use vault_tests::replicas::{free_port, on_azurite};
use vault_tests::server::{program, temporary_directory};

use crate::{STREAM, at_fixed_port, client, small_segments, url};

const MIB: u64 = 1 << 20;

/// An example that runs. It ends with the value.
struct Example(Child);

impl Example {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let path = program().with_file_name("examples").join(name);
        assert!(
            path.is_file(),
            "{} is not there: run cargo build -p vault-client --examples",
            path.display()
        );
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Memory that it holds now and held at most.
    fn resident_bytes(&self) -> (u64, u64) {
        vault_tests::process::resident(rustix::process::Pid::from_child(&self.0)).unwrap()
    }

    fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.0.stdout.take().unwrap()).lines().map(Result::unwrap)
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_sends_the_other_shows_and_both_are_small() {
    let directory = temporary_directory();
    let mut server = at_fixed_port(directory.path()).start();
    let url = url(server.address());
    client(&server).create_stream(STREAM, &small_segments()).await.unwrap();
    let mut producer = Example::start("producer", &[&url, STREAM]);
    let file = directory.path().join("place");
    let arguments = [&url, STREAM, file.to_str().unwrap()];
    let mut consumer = Example::start("tailing_consumer", &arguments);
    let mut shown = consumer.lines();
    let mut input = producer.0.stdin.take().unwrap();
    let mut send = |line: &str| {
        writeln!(input, "{line}").unwrap();
        input.flush().unwrap();
    };
    send("one");
    assert_eq!(shown.next().unwrap(), "0 one");
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (name, example) in [("producer", &producer), ("consumer", &consumer)] {
        let (now, _) = example.resident_bytes();
        assert!(now < 30 * MIB, "an idle {name} takes {} KiB", now >> 10);
    }
    server.kill();
    server.restart();
    send("two");
    assert_eq!(shown.next().unwrap(), "1 two");
    // Started again, it goes on where it was.
    drop((consumer, shown));
    send("three");
    let mut consumer = Example::start("tailing_consumer", &arguments);
    let next = consumer.lines().next().unwrap();
    assert!(["1 two", "2 three"].contains(&next.as_str()), "{next}");
    drop(input);
    assert_eq!(producer.lines().collect::<Vec<_>>(), ["0", "1", "2"]);
    assert!(producer.0.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_replayed_does_not_stay_in_memory() {
    let azurite = Azurite::shared();
    let server = on_azurite(&azurite, "client-e-", free_port()).start();
    let url = url(server.address());
    let client = client(&server);
    client.create_stream(STREAM, &small_segments()).await.unwrap();
    let sender = client.producer(STREAM).start().unwrap();
    for number in 0..1_000 {
        sender.send(format!("{number} {}", "x".repeat(60_000))).await.unwrap();
    }
    assert_eq!(sender.close().await.acknowledged, 1_000);
    // Nobody takes what this one writes, so that it reads no further.
    let stuck = Example::start("tailing_consumer", &[&url, STREAM]);
    let mut direct = Example::start("direct_replay", &[&url, STREAM]);
    assert_eq!(direct.lines().next().unwrap(), "1000 messages, 60003890 bytes");
    assert!(direct.0.wait().unwrap().success());
    let mut consumer = Example::start("tailing_consumer", &[&url, STREAM]);
    assert_eq!(consumer.lines().take(1_000).count(), 1_000);
    for (name, example) in [("one that is stuck", &stuck), ("one that reads", &consumer)] {
        let (_, most) = example.resident_bytes();
        assert!(most < 50 * MIB, "{name} takes {} KiB", most >> 10);
    }
}
