//! What this process has taken of the machine so far.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// Processor time of this process so far, seconds.
pub fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Some(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// Largest resident size of this process so far, bytes.
pub fn peak_memory_bytes() -> Option<u64> {
    // What `getrusage` says begins, on Linux, with what the process had that started this one.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
        return peak.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|n| n * 1024);
    }
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    // Linux counts kilobytes, macOS bytes.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    u64::try_from(usage.max_rss()).ok().map(|n| n * unit)
}
