//! What the system says of this process, under the names that Prometheus' own libraries use.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What the process takes at a moment. What the system does not tell is missing.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// Time of all cores that it has used.
    pub(crate) cpu: Duration,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) open_fds: Option<usize>,
    /// `None`: as many as it likes.
    pub(crate) max_fds: Option<u64>,
}

impl Process {
    /// Asks the system, which answers from memory.
    pub(crate) fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::new(
            u64::try_from(cpu.tv_sec).unwrap_or_default(),
            u32::try_from(cpu.tv_nsec).unwrap_or_default(),
        );
        let status = std::fs::read_to_string("/proc/self/status").ok();
        Self {
            cpu,
            resident_bytes: status.as_deref().and_then(resident_bytes),
            // One of them is the directory itself, open for as long as this looks.
            open_fds: std::fs::read_dir("/proc/self/fd").ok().map(|open| open.count().saturating_sub(1)),
            max_fds: getrlimit(Resource::Nofile).current,
        }
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_all_of_it() {
        let _open = std::fs::File::open("/proc/self/status").unwrap();
        let process = Process::now();
        assert!(process.resident_bytes.unwrap() > 1 << 20);
        assert!(process.open_fds.unwrap() >= 4, "{process:?}");
        assert!(process.max_fds.is_none_or(|most| most >= 4));
        assert!(process.cpu > Duration::ZERO);
    }

    #[test]
    fn memory_is_found_among_other_lines() {
        assert_eq!(resident_bytes("VmHWM:\t   9 kB\nVmRSS:\t  12 kB\n"), Some(12 << 10));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }
}
