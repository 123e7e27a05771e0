//! What a system and this program use while something is measured.

use std::time::Duration;

use rustix::process::{Pid, getpid};
use vault_tests::process::{cpu, forget_peak, resident};

/// What is measured of a process over a while.
#[derive(Debug)]
pub(crate) struct Watch {
    pid: Pid,
    cpu: Duration,
    own_cpu: Duration,
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
}

impl Watch {
    /// Begins.
    pub(crate) fn begin(pid: Pid) -> anyhow::Result<Self> {
        forget_peak(pid)?;
        Ok(Self { pid, cpu: cpu(pid)?, own_cpu: cpu(getpid())? })
    }

    /// Ends.
    pub(crate) fn end(self) -> anyhow::Result<Used> {
        Ok(Used {
            cpu: cpu(self.pid)? - self.cpu,
            own_cpu: cpu(getpid())? - self.own_cpu,
            resident_at_most: resident(self.pid)?.1,
        })
    }
}
