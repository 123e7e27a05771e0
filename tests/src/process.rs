//! What a process has used, from `/proc`.

use std::time::Duration;

use anyhow::Context;
use rustix::process::Pid;

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
