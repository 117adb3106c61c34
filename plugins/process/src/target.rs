//! Which process it is, and whether we may.

use std::fs;
use std::os::fd::OwnedFd;

use pactio_sdk::{Code, Error, OpenError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A process.
pub(crate) struct Target {
    pid: Pid,
    /// Tells whether the number still means it; `None` on kernels that have no such descriptors.
    alive: Option<OwnedFd>,
}

impl Target {
    /// By number, by name, or `self`.
    pub(crate) fn find(text: &str) -> Result<Self, OpenError> {
        let pid = match text {
            "" => {
                return Err(OpenError::invalid_input(
                    "no process is given; write process:PID or process:NAME",
                ));
            }
            "self" => std::process::id() as i32,
            _ => match text.parse::<i32>() {
                Ok(pid) => pid,
                Err(_) => by_name(text)?,
            },
        };
        let no_such =
            || OpenError::new(Error::from_code(Code::NotFound), format!("there is no process {text}"));
        let pid = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw).ok_or_else(no_such)?;
        let alive = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => Some(descriptor),
            Err(rustix::io::Errno::SRCH) => return Err(no_such()),
            Err(rustix::io::Errno::INVAL) => {
                return Err(OpenError::invalid_input(format!("{text} is a thread; name its process")));
            }
            Err(_) => None,
        };
        Ok(Self { pid, alive })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    pub(crate) fn is_self(&self) -> bool {
        self.pid() == std::process::id() as i32
    }

    /// It has not ended. After that its number may be another's.
    pub(crate) fn is_alive(&self) -> bool {
        let Some(descriptor) = &self.alive else { return true };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        !matches!(poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&now)), Ok(1..))
    }
}

/// The one process of that name.
fn by_name(name: &str) -> Result<i32, OpenError> {
    let all = fs::read_dir("/proc").map_err(OpenError::from)?;
    let mut found: Vec<i32> = all
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| is_named(*pid, name))
        .collect();
    found.sort_unstable();
    match found[..] {
        [] => Err(OpenError::new(Error::from_code(Code::NotFound), format!("no process is called '{name}'"))),
        [pid] => Ok(pid),
        _ => {
            let pids: Vec<_> = found.iter().take(10).map(i32::to_string).collect();
            let more = if found.len() > 10 { " and more" } else { "" };
            Err(OpenError::invalid_input(format!(
                "{} processes are called '{name}'; name one by its number: {}{more}",
                found.len(),
                pids.join(", ")
            )))
        }
    }
}

fn is_named(pid: i32, name: &str) -> bool {
    // What the kernel calls it has at most 15 bytes; what it was started from is not there for all.
    let is = |text: Option<String>| text.is_some_and(|text| text == name);
    is(fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|text| text.trim_end().to_owned()))
        || is(fs::read_link(format!("/proc/{pid}/exe"))
            .ok()
            .and_then(|path| Some(path.file_name()?.to_str()?.to_owned())))
}

/// The system lets us, or why it does not and what would help.
pub(crate) fn check_permission(target: &Target) -> Result<(), OpenError> {
    let mut byte = 0u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 1 };
    // SAFETY: at most one byte is written, to `byte`. Nothing is at address zero; permission is asked for first.
    let read = unsafe { libc::process_vm_readv(target.pid(), &raw const local, 1, &raw const remote, 1, 0) };
    let error = std::io::Error::last_os_error();
    if read >= 0 || !matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS)) {
        return Ok(());
    }
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let text = match scope.trim() {
        "1" => {
            "the kernel forbids it: with kernel.yama.ptrace_scope=1 only a parent may; run as root, give the program \
             the capability CAP_SYS_PTRACE, or set kernel.yama.ptrace_scope to 0"
        }
        "2" => {
            "the kernel forbids it: with kernel.yama.ptrace_scope=2 it takes the capability CAP_SYS_PTRACE; run as root"
        }
        "3" => "the kernel forbids it to everybody: kernel.yama.ptrace_scope is 3, until the next boot",
        _ => {
            "it belongs to somebody else or has more rights; run as its user or as root, or give the program the \
             capability CAP_SYS_PTRACE"
        }
    };
    Err(OpenError::new(Error::from_code(Code::PermissionDenied), text))
}
