//! What the kernel knows of this process, under the names that Prometheus' own libraries give it.

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::measured::gauge;

/// The number of the field after the name in `/proc/self/stat` that has the user time in ticks.
const USER_TICKS: usize = 11;
/// The same for the time in the kernel.
const SYSTEM_TICKS: usize = 12;
/// The same for the start of the process, in ticks since the boot.
const START_TICKS: usize = 19;
/// The same for the resident memory in pages.
const RESIDENT_PAGES: usize = 21;

/// The metrics of this process. What cannot be read is left out.
pub(super) fn registry() -> Registry {
    let mut registry = Registry::with_prefix("process");
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let field = |number| field(&stat, number);
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    if let (Some(user), Some(system)) = (field(USER_TICKS), field(SYSTEM_TICKS)) {
        let seconds = ConstCounter::new((user + system) as f64 / ticks);
        registry.register_with_unit("cpu", "Processor time of this process", Unit::Seconds, seconds);
    }
    if let Some(pages) = field(RESIDENT_PAGES) {
        let bytes = gauge(pages.saturating_mul(rustix::param::page_size() as u64));
        registry.register_with_unit("resident_memory", "Resident memory of this process", Unit::Bytes, bytes);
    }
    if let (Some(booted), Some(since)) = (booted(), field(START_TICKS)) {
        let seconds = ConstGauge::new(booted as f64 + since as f64 / ticks);
        let help = "When this process started, in seconds since 1970";
        registry.register_with_unit("start_time", help, Unit::Seconds, seconds);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        registry.register("open_fds", "Open file descriptors", gauge(files.count() as u64));
    }
    if let Some(max) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        registry.register("max_fds", "Open file descriptors that this process may have", gauge(max));
    }
    registry
}

/// A field of `/proc/self/stat` behind the name of the program, which may contain spaces and brackets.
fn field(stat: &str, number: usize) -> Option<u64> {
    stat.rsplit(')').next()?.split_whitespace().nth(number)?.parse().ok()
}

/// When the machine was booted, in seconds since 1970.
fn booted() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_started_holds_memory_and_has_computed() {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry()).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6, "{text}");
        assert!(value("process_cpu_seconds_total") >= 0.0 && value("process_open_fds") >= 3.0, "{text}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..3_600.0).contains(&age), "it began {age} s ago: {text}");
    }
}
