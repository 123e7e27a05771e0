//! `kubectl` and Helm, as whoever may do anything.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};

use super::cluster::Cluster;
use super::parts;
use crate::mvctl::Said;

/// The versions of Helm that are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helm {
    /// The one before.
    Three,
    /// The current one.
    Four,
}

impl Helm {
    /// What the program is called.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Three => "helm3",
            Self::Four => "helm",
        }
    }
}

impl Cluster {
    /// Runs `kubectl` to its end.
    #[must_use]
    pub fn kubectl<T: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = T>) -> Said {
        self.kubectl_in("", arguments)
    }

    /// The same with something on stdin, for `-f -`.
    #[must_use]
    pub fn kubectl_in<T: AsRef<OsStr>>(&self, input: &str, arguments: impl IntoIterator<Item = T>) -> Said {
        run(self.tool("kubectl").args(arguments), input)
    }

    /// Runs Helm to its end.
    #[must_use]
    pub fn helm<T: AsRef<OsStr>>(&self, version: Helm, arguments: impl IntoIterator<Item = T>) -> Said {
        run(self.tool(version.program()).args(arguments), "")
    }

    /// A program that knows this cluster and keeps what it keeps beside it.
    fn tool(&self, name: &str) -> Command {
        let home = self.path(&format!("home-{name}"));
        let mut command = Command::new(parts::program(name));
        command.env("KUBECONFIG", self.admin_kubeconfig()).env("HOME", &home);
        for (variable, folder) in [("CACHE", "cache"), ("CONFIG", "config"), ("DATA", "data")] {
            command.env(format!("HELM_{variable}_HOME"), home.join(folder));
        }
        command
    }
}

fn run(command: &mut Command, input: &str) -> Said {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be started");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // It may have had enough.
            let _ = stdin.write_all(input.as_bytes());
        });
        Said::of(child.wait_with_output().expect("the process is ours"))
    })
}
