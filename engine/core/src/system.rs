//! What is asked of the system for the whole process.

/// Let this process hold as many open files as it may: thousands of connections need them.
pub fn raise_open_files() {
    #[cfg(unix)]
    // SAFETY: both calls only read and write the struct that is passed to them.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max.min(1 << 20);
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Of 19: what people wait for goes first, and what is done here still comes to an end.
#[cfg(target_os = "linux")]
const LATER: i32 = 15;

/// Let this process come after others for the processor, as what nobody waits for should; to be
/// called before it starts threads.
pub fn give_way() {
    #[cfg(target_os = "linux")]
    // SAFETY: the call takes numbers alone. Where it is refused, nothing has changed.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, LATER);
    }
}
