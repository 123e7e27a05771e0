//! What a process has used, from `/proc`.

use std::time::Duration;

use anyhow::Context;
use rustix::process::Pid;

/// User and system time. Linux counts in hundredths of a second on every machine of today.
pub(crate) fn cpu(pid: Pid) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    // The name of the program stands in brackets and may hold spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// Memory that it holds now and held at most since `forget_peak`, in bytes.
pub(crate) fn resident(pid: Pid) -> anyhow::Result<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let field = |name: &str| -> anyhow::Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("memory is given in kB")?;
        Ok(kib.parse::<u64>()? << 10)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// Lets the most that it held begin anew.
pub(crate) fn forget_peak(pid: Pid) -> anyhow::Result<()> {
    let path = format!("/proc/{}/clear_refs", pid.as_raw_nonzero());
    std::fs::write(&path, "5").with_context(|| format!("writing to {path}"))
}

/// What is measured of a process over a while.
#[derive(Debug)]
pub(crate) struct Watch {
    pid: Pid,
    cpu: Duration,
    own_cpu: Duration,
    resident: u64,
}

/// What it used in that while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    /// User and system time of the process.
    pub(crate) cpu: Duration,
    /// The same of this program.
    pub(crate) own_cpu: Duration,
    /// The most memory that it held, in bytes.
    pub(crate) resident_at_most: u64,
    /// How much more it held at the end than at the beginning.
    pub(crate) resident_more: u64,
}

impl Watch {
    /// Begins.
    pub(crate) fn begin(pid: Pid) -> anyhow::Result<Self> {
        forget_peak(pid)?;
        let own_cpu = cpu(rustix::process::getpid())?;
        Ok(Self { pid, cpu: cpu(pid)?, own_cpu, resident: resident(pid)?.0 })
    }

    /// Ends.
    pub(crate) fn end(self) -> anyhow::Result<Used> {
        let (now, at_most) = resident(self.pid)?;
        Ok(Used {
            cpu: cpu(self.pid)? - self.cpu,
            own_cpu: cpu(rustix::process::getpid())? - self.own_cpu,
            resident_at_most: at_most,
            resident_more: now.saturating_sub(self.resident),
        })
    }
}
