//! How much memory this process may have: the machine's memory, unless a control group or a resource limit allows less.

use rustix::process::{Resource, getrlimit};

/// The memory that this process may have, in bytes.
#[must_use]
pub fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    let machine = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit));
    // `RLIMIT_AS` does not count: guests reserve far more address space than they may use.
    let limits = [Resource::Rss, Resource::Data].into_iter().filter_map(|resource| getrlimit(resource).current);
    limits.chain(control_group()).fold(machine, u64::min)
}

/// What an engine needs for itself, in bytes: its code, its threads, its database connections, and what its allocators keep.
const ENGINE_BYTES: u64 = 512 << 20;

/// The memory that this process may have for guests and clients, in bytes: [`memory_bytes`] without what the engine itself
/// needs, but at least a quarter.
#[must_use]
pub fn memory_to_share() -> u64 {
    let all = memory_bytes();
    all.saturating_sub(ENGINE_BYTES).max(all / 4)
}

/// This bound, or one of `parts` parts of the memory that this process may have if that is less.
#[must_use]
pub fn at_most_one_of(parts: u64, bytes_max: usize) -> usize {
    usize::try_from(memory_bytes() / parts).map_or(bytes_max, |part| bytes_max.min(part))
}

/// The smallest memory limit of this process's control groups, version 2 or 1.
fn control_group() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().filter_map(|line| smallest(line, |path| std::fs::read_to_string(path).ok())).min()
}

/// The smallest limit from a group up to the root. `line` is a line of `/proc/self/cgroup`.
fn smallest(line: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, mut path) = (parts.next()?, parts.next()?);
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        names if names.split(',').any(|name| name == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return None,
    };
    let mut found = None;
    loop {
        let text = read(&format!("{root}{}/{file}", path.trim_end_matches('/')));
        let limit = text.and_then(|text| text.trim().parse::<u64>().ok());
        found = found.into_iter().chain(limit).min();
        match path.trim_end_matches('/').rsplit_once('/') {
            Some((parent, _)) => path = parent,
            None => return found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, files: &[(&str, &str)], expected: Option<u64>) {
        let read = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
        assert_eq!(smallest(line, read), expected, "{line}");
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let (own, above) = ("/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/a/memory.max");
        check("0::/a/b", &[(own, "max\n"), (above, "1000\n")], Some(1000));
        check("0::/a/b", &[(own, "500\n"), (above, "1000\n")], Some(500));
        check("0::/a/b", &[(own, "max\n")], None);
        check("0::/", &[("/sys/fs/cgroup/memory.max", "700\n")], Some(700));
        check("4:cpu,memory:/x", &[("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9\n")], Some(9));
        check("4:cpu:/x", &[("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9\n")], None);
    }

    #[test]
    fn this_process_has_some() {
        assert!(memory_bytes() > 16 << 20);
    }
}
