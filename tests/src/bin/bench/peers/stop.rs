//! What a signal that ends this program ends with it: the servers that it started, and its data.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::progress;

/// How long processes may take to end in order.
const IN_ORDER: Duration = Duration::from_secs(1);

static HAS_BEGUN: AtomicBool = AtomicBool::new(false);

/// From now on, SIGINT and SIGTERM end every process that this one started, and remove the directory.
pub(crate) fn at_signals(directory: PathBuf) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        let number = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = terminate.recv() => SignalKind::terminate(),
            }
        });
        HAS_BEGUN.store(true, Ordering::SeqCst);
        progress("a signal came: what was started ends, what was written goes");
        end(children);
        // What somebody writes meanwhile makes it fail.
        while directory.exists() && std::fs::remove_dir_all(&directory).is_err() {
            end(children);
        }
        std::process::exit(128 + number.as_raw_value());
    });
    Ok(())
}

/// Rests until this program ends where a signal came: what fails then fails for it.
pub(crate) fn rest() {
    while HAS_BEGUN.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// Asks processes to end, and ends those that take long, until there is none.
fn end(running: impl Fn() -> Vec<Pid>) {
    let started = Instant::now();
    for pid in running() {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::TERM);
    }
    loop {
        let left = running();
        if left.is_empty() {
            return;
        }
        if started.elapsed() > IN_ORDER {
            for pid in left {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processes of this one that run.
fn children() -> Vec<Pid> {
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = getpid().as_raw_nonzero().to_string();
    let child = |entry: std::io::Result<std::fs::DirEntry>| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which stands in brackets and may hold spaces: state and parent.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let (state, parent) = (fields.next()?, fields.next()?);
        (parent == own && state != "Z").then(|| Pid::from_raw(pid))?
    };
    all.filter_map(child).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn children_are_found_and_ended() {
        let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
        let mut child =
            Command::new("sh").args(["-c", stubborn]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        // It does not listen once it has said something.
        let mut said = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        let pid = Pid::from_child(&child);
        assert!(children().contains(&pid));
        // Other tests have children, too.
        end(|| children().into_iter().filter(|it| *it == pid).collect());
        assert!(!children().contains(&pid));
        assert!(!child.wait().unwrap().success());
    }
}
