//! What a compile box may not do. Its resource limits hold on every kernel, and one of them, on open files, already keeps
//! files and sockets away. The filter of system calls is the second wall, against machine code that hostile WebAssembly
//! smuggles into the compiler; where the kernel has no seccomp, or a supervisor of the
//! engine forbids it, the engine's log says that it is missing.

use std::collections::BTreeMap;
use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::limits::compile_box::MEMORY_BYTES_MAX;
use crate::priority::compute_in_background;

/// Closes what the engine inherited from its own parent. What the engine opened itself is closed already.
pub(super) fn close_inherited() {
    #[expect(unsafe_code, reason = "nothing in this process has opened anything yet")]
    // A kernel without this call leaves them open: nothing in here uses them.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// Limits CPU time and memory, and lowers the priority. Threads that start later inherit it.
pub(super) fn limit(cpu_seconds: u64) -> io::Result<()> {
    compute_in_background();
    // Under memory pressure the kernel ends this process before the engine. Without `/proc` it chooses by size.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let at_most = |limit| Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::Core, at_most(0))?;
    setrlimit(Resource::As, at_most(MEMORY_BYTES_MAX))?;
    // The signal of the first limit says why the process ended; the second one cannot be caught.
    setrlimit(Resource::Cpu, Rlimit { current: Some(cpu_seconds), maximum: Some(cpu_seconds + 1) })?;
    Ok(())
}

/// Takes away everything that compiling does not need. The inner error says why there is no filter of system calls: the
/// resource limits hold without it.
pub(super) fn close() -> io::Result<Result<(), String>> {
    // The three pipes stay open; nothing else can be opened.
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: Some(0) })?;
    let filter = filter().map_err(io::Error::other)?;
    Ok(seccompiler::apply_filter_all_threads(&filter).map_err(|error| error.to_string()))
}

/// The system calls of a process that computes, allocates, and reads and writes its pipes. All others fail.
fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    const FREE: [i64; 26] = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_fstat,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_getrandom,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_tgkill,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    // Machine code is written to a pipe and never run here, so no memory has to be executable.
    let not_executable = |call| {
        let is_set = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
        let condition = SeccompCondition::new(2, SeccompCmpArgLen::Dword, is_set, 0)?;
        Ok::<_, seccompiler::BackendError>((call, vec![SeccompRule::new(vec![condition])?]))
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = FREE.into_iter().map(|call| (call, Vec::new())).collect();
    rules.extend([not_executable(libc::SYS_mmap)?, not_executable(libc::SYS_mprotect)?]);
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, denied, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?.try_into()
}
