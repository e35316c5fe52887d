//! Confines the process that decodes: it may compute, read and write what is open, and exit.
//!
//! A process can only be confined by itself without unsafe code, so this happens at its beginning, before the first byte of a
//! file is read. What it cannot have is refused, and nothing is decoded without it.

use std::{collections::BTreeMap, fs, io};

use libc::{
    PROT_EXEC, SYS_brk, SYS_clock_gettime, SYS_clock_nanosleep, SYS_close, SYS_exit,
    SYS_exit_group, SYS_futex, SYS_getpid, SYS_getrandom, SYS_gettid, SYS_madvise, SYS_membarrier,
    SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_nanosleep, SYS_read, SYS_readv,
    SYS_restart_syscall, SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_sched_getaffinity, SYS_sched_yield, SYS_sigaltstack, SYS_tgkill, SYS_write, SYS_writev,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::Limits;

/// Calls that are allowed with any arguments. None opens, connects, starts or changes anything outside the process.
const ALLOWED: [i64; 27] = [
    SYS_brk,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_close,
    SYS_exit,
    SYS_exit_group,
    SYS_futex,
    SYS_getpid,
    SYS_getrandom,
    SYS_gettid,
    SYS_madvise,
    SYS_membarrier,
    SYS_mremap,
    SYS_munmap,
    SYS_nanosleep,
    SYS_read,
    SYS_readv,
    SYS_restart_syscall,
    SYS_rseq,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sched_getaffinity,
    SYS_sched_yield,
    SYS_sigaltstack,
    SYS_write,
    SYS_writev,
];

/// Memory of the program itself that may still be taken, in bytes.
const SLACK: u64 = 64 * 1024 * 1024;

/// Bytes of a page, which the kernel counts in.
const PAGE: u64 = 4096;

/// Gives up every right that a decoder does not need, permanently.
///
/// # Errors
///
/// The kernel does not do it; what the process can still do is more than it may.
pub(super) fn enter(limits: Limits) -> io::Result<()> {
    // Where memory runs out, this process goes before the one that serves. A kernel that does not do it has its own order.
    fs::write("/proc/self/oom_score_adj", "1000").ok();
    let memory = virtual_size()? + limits.memory + SLACK;
    for (resource, current, maximum) in [
        (Resource::As, memory, memory),
        // Reaching the first one ends it by its own signal.
        (Resource::Cpu, limits.cpu, limits.cpu + 1),
        (Resource::Fsize, 0, 0),
        (Resource::Core, 0, 0),
    ] {
        let limit = Rlimit {
            current: Some(current),
            maximum: Some(maximum),
        };
        setrlimit(resource, limit)?;
    }
    let filter = filter().map_err(io::Error::other)?;
    seccompiler::apply_filter_all_threads(&filter).map_err(io::Error::other)
}

fn virtual_size() -> io::Result<u64> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    let pages = pages.split_ascii_whitespace().next();
    let pages: Option<u64> = pages.and_then(|it| it.parse().ok());
    let pages = pages.ok_or_else(|| io::Error::other("/proc/self/statm has no number"))?;
    Ok(pages * PAGE)
}

/// What is not allowed fails with `EPERM`.
fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.into_iter().map(|call| (call, Vec::new())).collect();
    // Memory, but none that can be executed.
    let no_code = SeccompCmpOp::MaskedEq(PROT_EXEC.unsigned_abs().into());
    for call in [SYS_mmap, SYS_mprotect] {
        rules.insert(call, when(2, no_code.clone(), 0)?);
    }
    // An abort is a signal to itself.
    let own = u64::from(std::process::id());
    rules.insert(SYS_tgkill, when(0, SeccompCmpOp::Eq, own)?);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, refused, SeccompAction::Allow, arch)?.try_into()
}

/// A rule that allows a call if an argument is so.
fn when(
    argument: u8,
    is: SeccompCmpOp,
    value: u64,
) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value)?;
    Ok(vec![SeccompRule::new(vec![condition])?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_reaches_beyond_the_process_is_allowed() {
        for call in [
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_openat,
            libc::SYS_execve,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_kill,
            libc::SYS_ptrace,
            libc::SYS_prctl,
            libc::SYS_prlimit64,
            libc::SYS_unlinkat,
            libc::SYS_io_uring_setup,
        ] {
            assert!(!ALLOWED.contains(&call), "{call}");
        }
        assert!(filter().is_ok());
        assert!(virtual_size().is_ok_and(|size| size > 1024 * 1024));
    }
}
