//! Which threads go first: those that move requests and executions before those that compute for long. The kernel gives a
//! thread the core in slices; since Linux 6.12, one that wakes up with a short slice interrupts one that has a long slice,
//! while the shares of both stay what their priorities make them. Earlier kernels and other systems know the priority alone.

/// How much lower the priority of threads is that compute for long. Next to a busy thread, one of them gets a tenth of a core.
const NICENESS: i32 = 10;
/// The slice of a thread that computes for long.
const LONG_SLICE_NS: u64 = 20_000_000;
/// The slice of a thread that works for others who wait.
const SHORT_SLICE_NS: u64 = 200_000;

/// Lets this thread go after those that work for others who wait. Threads that it starts inherit that.
pub fn compute_in_background() {
    // Without the permission to lower it, the thread runs at normal priority.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
    ask_for_slice(LONG_SLICE_NS);
}

/// Lets this thread interrupt those that compute for long. Threads that it starts inherit that.
pub fn work_promptly() {
    ask_for_slice(SHORT_SLICE_NS);
}

#[cfg(target_os = "linux")]
fn ask_for_slice(slice_ns: u64) {
    /// The policy of the thread stays as it is.
    const KEEP_POLICY: u64 = 0x08;
    let Ok(nice) = rustix::process::getpriority_process(Some(rustix::thread::gettid())) else { return };
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0),
        sched_policy: 0,
        sched_flags: KEEP_POLICY,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: slice_ns,
        sched_deadline: 0,
        sched_period: 0,
    };
    #[expect(unsafe_code, reason = "the kernel only reads the attributes")]
    // A kernel that refuses them leaves the thread as it is.
    let _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_slice(_: u64) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The slice and the niceness of this thread.
    fn now() -> (u64, i32) {
        #[expect(unsafe_code, reason = "numbers of which every value is valid")]
        let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::sched_attr>();
        #[expect(unsafe_code, reason = "the kernel writes at most so many bytes")]
        let answer = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
        assert_eq!(answer, 0);
        (attributes.sched_runtime, attributes.sched_nice)
    }

    #[test]
    fn a_thread_in_the_background_has_a_low_priority_and_where_the_kernel_knows_it_a_long_slice() {
        let of = |set: fn()| std::thread::spawn(move || (set(), now()).1).join().unwrap();
        let usual = of(|| {});
        let (prompt, background) = (of(work_promptly), of(compute_in_background));
        assert_eq!(background.1, usual.1.max(NICENESS));
        assert_eq!(prompt.1, usual.1);
        // Earlier kernels keep the slice for themselves.
        if usual.0 > 0 {
            assert_eq!((prompt.0, background.0), (SHORT_SLICE_NS, LONG_SLICE_NS));
        }
    }
}
