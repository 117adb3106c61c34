//! Finds a process, and checks the permission to access its memory.

use std::fs;
use std::os::fd::OwnedFd;

use pactio_sdk::{Code, IoError, OpenError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A process.
pub(crate) struct Target {
    pid: Pid,
    /// Tells whether the number still means this process; `None` where no such descriptor is available.
    alive: Option<OwnedFd>,
}

impl Target {
    /// Finds a process by its number or its name, or this one by `self`.
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
            || OpenError::new(IoError::from_code(Code::NOT_FOUND), format!("there is no process {text}"));
        let pid = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw).ok_or_else(no_such)?;
        let alive = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => Some(descriptor),
            Err(rustix::io::Errno::SRCH) => return Err(no_such()),
            Err(rustix::io::Errno::INVAL) => {
                return Err(OpenError::invalid_input(format!("{text} is a thread; name its process")));
            }
            // A kernel without such descriptors, or a sandbox that forbids them.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => None,
            Err(error) => {
                let text = format!("nothing that tells whether process {text} lives can be had: {error}");
                return Err(OpenError::new(std::io::Error::from(error).into(), text));
            }
        };
        Ok(Self { pid, alive })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// Identifies the process among all since the system started: its number and the time at which it began.
    pub(crate) fn identity(&self) -> String {
        let pid = self.pid();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, which is in parentheses, may have any character in it; the time is the 20th word behind it.
        let began = stat.rsplit(')').next().and_then(|words| words.split_whitespace().nth(19));
        format!("{pid} since {}", began.unwrap_or("unknown"))
    }

    pub(crate) fn is_self(&self) -> bool {
        self.pid() == std::process::id() as i32
    }

    /// Whether the process has not ended. After its end, another process may have its number.
    pub(crate) fn is_alive(&self) -> bool {
        let Some(descriptor) = &self.alive else { return true };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            match poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&now)) {
                Err(rustix::io::Errno::INTR) => {}
                polled => return polled == Ok(0),
            }
        }
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
        [] => {
            Err(OpenError::new(IoError::from_code(Code::NOT_FOUND), format!("no process is called '{name}'")))
        }
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
    // The kernel's name of a process has at most 15 bytes; the link to the executable is not available for all processes.
    let is = |text: Option<String>| text.is_some_and(|text| text == name);
    is(fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|text| text.trim_end().to_owned()))
        || is(fs::read_link(format!("/proc/{pid}/exe"))
            .ok()
            .and_then(|path| Some(path.file_name()?.to_str()?.to_owned())))
}

/// Checks that the system permits the access; the error states the reason and a remedy.
pub(crate) fn check_permission(target: &Target) -> Result<(), OpenError> {
    let mut byte = 0u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 1 };
    // SAFETY: at most one byte is written, to `byte`. Nothing is mapped at address zero, and the system checks the permission
    // first.
    let read = unsafe { libc::process_vm_readv(target.pid(), &raw const local, 1, &raw const remote, 1, 0) };
    let error = std::io::Error::last_os_error();
    let error = error.raw_os_error().filter(|_| read < 0);
    let refused = |code, text: &str| Err(OpenError::new(IoError::from_code(code), text));
    match error {
        Some(libc::ESRCH) if target.is_alive() => refused(
            Code::UNSUPPORTED,
            "it has no memory of its own: it is a thread of the kernel, or its main thread has ended",
        ),
        Some(libc::ENOSYS) => refused(
            Code::UNSUPPORTED,
            "the system call process_vm_readv is not there: the kernel was built without it, or a sandbox takes it away",
        ),
        Some(libc::EPERM | libc::EACCES) => refused(Code::PERMISSION_DENIED, why_forbidden(target)),
        // The expected failure is that nothing is mapped at that address: the access is permitted. Requests report any other
        // failure.
        _ => Ok(()),
    }
}

/// The reason why a process may not be read, and a remedy.
fn why_forbidden(target: &Target) -> &'static str {
    if user(&target.pid().to_string()) != user("self") {
        return "it belongs to another user; run as that user or as root, or give the program the capability CAP_SYS_PTRACE";
    }
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    match scope.trim() {
        "1" => {
            "the kernel forbids it: with kernel.yama.ptrace_scope=1 only a parent may; run as root, give the program \
             the capability CAP_SYS_PTRACE, or set kernel.yama.ptrace_scope to 0"
        }
        "2" => {
            "the kernel forbids it: with kernel.yama.ptrace_scope=2 it takes the capability CAP_SYS_PTRACE; run as root"
        }
        "3" => "the kernel forbids it to all users: kernel.yama.ptrace_scope is 3, until the next boot",
        _ => {
            "it has more rights than this program, or has forbidden access to itself, or a sandbox forbids it; run \
             as root, or give the program the capability CAP_SYS_PTRACE"
        }
    }
}

/// The line with the users of a process.
fn user(process: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find(|line| line.starts_with("Uid:")).map(str::to_owned)
}
