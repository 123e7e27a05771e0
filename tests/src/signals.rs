//! Signals to processes that a test started and has not awaited.

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{LONG, until};

/// Sends a signal. After [`Signal::STOP`] it waits until every thread stands still: the kernel says at once that the
/// signal is sent, and on a busy machine some threads go on for a moment and may still answer.
pub fn send(pid: Pid, signal: Signal) {
    kill_process(pid, signal).expect("the process is ours and was not awaited");
    if signal == Signal::STOP {
        until("every thread of the process stands still", LONG, || stands_still(pid).then_some(()));
    }
}

/// Whether every thread of a process is stopped, or has ended.
fn stands_still(pid: Pid) -> bool {
    let threads =
        std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).expect("the process runs");
    let mut states = threads.filter_map(|thread| {
        let stat = std::fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
        // The name before the state stands in brackets and may have brackets and spaces of its own.
        stat.rsplit_once(") ")?.1.chars().next()
    });
    states.all(|state| matches!(state, 'T' | 't' | 'Z' | 'X'))
}
