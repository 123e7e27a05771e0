//! What is measured on, and what of it is free.

use std::path::Path;

use anyhow::Context;
use vault_tests::process::field_bytes;

use crate::figures::gib;

/// The machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) available_bytes: u64,
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> anyhow::Result<Self> {
        let memory = std::fs::read_to_string("/proc/meminfo")?;
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        Ok(Self {
            kernel: format!("Linux {}", kernel.trim()),
            cores: std::thread::available_parallelism()?.get(),
            memory_bytes: field_bytes(&memory, "MemTotal:")?,
            available_bytes: field_bytes(&memory, "MemAvailable:")?,
        })
    }

    /// In a line.
    pub(crate) fn shown(&self) -> String {
        format!("{}, {} cores, {:.1} GiB of memory", self.kernel, self.cores, gib(self.memory_bytes))
    }
}

/// What may still be written to the disk of a directory.
pub(crate) fn free_bytes(directory: &Path) -> anyhow::Result<u64> {
    let disk =
        rustix::fs::statvfs(directory).with_context(|| format!("asking for {}", directory.display()))?;
    Ok(disk.f_bavail * disk.f_frsize)
}
