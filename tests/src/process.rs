//! Processes that end in time, and what a process has used, from `/proc`.

use std::io::{self, Read};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, getpgid, kill_process_group};

/// How often it is looked whether a process is over.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Runs a program to its end. `None` where it is not over after `limit`: it is killed then, with all of its process group
/// where it leads one. What it writes to stdout is kept, and to stderr where that is a pipe.
pub fn output_within(limit: Duration, command: &mut Command) -> io::Result<Option<Output>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let (said, told) = (kept(child.stdout.take()), kept(child.stderr.take()));
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(Output { status, stdout: all(said)?, stderr: all(told)? }));
        }
        if Instant::now() >= end {
            end_with_group(&mut child)?;
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn end_with_group(child: &mut Child) -> io::Result<()> {
    let pid = Pid::from_child(child);
    if getpgid(Some(pid))? == pid {
        kill_process_group(pid, Signal::KILL)?;
    }
    child.kill()?;
    child.wait().map(|_| ())
}

/// Ends with the process.
fn kept(output: Option<impl Read + Send + 'static>) -> JoinHandle<io::Result<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        output.map_or(Ok(0), |mut output| output.read_to_end(&mut all)).map(|_| all)
    })
}

fn all(kept: JoinHandle<io::Result<Vec<u8>>>) -> io::Result<Vec<u8>> {
    kept.join().expect("reading does not panic")
}

/// User and system time. Linux counts in hundredths of a second on every machine of today.
pub fn cpu(pid: Pid) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    // The name of the program stands in brackets and may hold spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// Memory that it holds now and held at most since [`forget_peak`], in bytes.
pub fn resident(pid: Pid) -> anyhow::Result<(u64, u64)> {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let status = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    Ok((field_bytes(&status, "VmRSS:")?, field_bytes(&status, "VmHWM:")?))
}

/// Lets the most that it held begin anew.
pub fn forget_peak(pid: Pid) -> anyhow::Result<()> {
    let path = format!("/proc/{}/clear_refs", pid.as_raw_nonzero());
    std::fs::write(&path, "5").with_context(|| format!("writing to {path}"))
}

/// A field of `/proc/PID/status` or `/proc/meminfo`, where it counts memory.
pub fn field_bytes(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib = kib.with_context(|| format!("the kernel gives no {name} in kB"))?;
    Ok(kib.parse::<u64>()? << 10)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_killed_with_those_that_it_started() {
        let mut ends = Command::new("sh");
        ends.args(["-c", "echo out; echo err >&2; exit 3"]).stderr(Stdio::piped());
        let output = output_within(crate::wait::LONG, &mut ends).unwrap().unwrap();
        assert_eq!(
            (output.status.code(), &*output.stdout, &*output.stderr),
            (Some(3), &b"out\n"[..], &b"err\n"[..])
        );
        let scratch = tempfile::tempdir().unwrap();
        let pid_of = scratch.path().join("pid");
        let mut goes_on = Command::new("sh");
        goes_on.args(["-c", "sleep 1000 & echo $! > \"$0\"; wait"]).arg(&pid_of).process_group(0);
        assert_eq!(output_within(Duration::from_secs(1), &mut goes_on).unwrap(), None);
        let pid: u32 = std::fs::read_to_string(pid_of).unwrap().trim().parse().unwrap();
        // Whoever takes orphans in may leave its entry for a while, as a zombie.
        crate::wait::until("what it started is over", crate::wait::LONG, || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z")).then_some(())
        });
    }
}
