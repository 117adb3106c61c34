//! Stops the threads of a process for the time of a dump, and reads their registers.
//!
//! The threads run on when the value is dropped, and when this process ends in any way.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::{user_fpregs_struct, user_regs_struct};
use nix::sys::ptrace;
use nix::sys::ptrace::regset::{NT_PRFPREG, NT_PRSTATUS};
use nix::unistd::Pid;
use rustix::process::{WaitOptions, waitpid};

use super::failure::Failure;

/// Time for a thread to stop. A thread in the kernel may need longer, for example while it waits for a file server.
const PATIENCE: Duration = Duration::from_secs(10);

const PRSTATUS: u32 = 1;
const FPREGSET: u32 = 2;

/// Bytes of a note with the registers of a thread.
const PRSTATUS_BYTES: usize = 336;

pub(super) struct Stopped {
    threads: Vec<Thread>,
}

struct Thread {
    id: Pid,
    /// The number of a signal that the thread had received and not handled, or 0. It handles the signal when it runs on.
    signal: i32,
    registers: Option<(user_regs_struct, user_fpregs_struct)>,
}

impl Stopped {
    /// Stops all threads of a process.
    ///
    /// # Errors
    ///
    /// If one cannot be stopped. All run on then.
    pub(super) fn stop(process: &str) -> Result<Self, Failure> {
        let cannot = |error: io::Error| Failure::new(format!("cannot stop process {process}: {error}"));
        let mut stopped = Self { threads: Vec::new() };
        // A thread that runs may start others.
        loop {
            let before = stopped.threads.len();
            for task in fs::read_dir(format!("/proc/{process}/task")).map_err(cannot)? {
                let name = task.map_err(cannot)?.file_name();
                let Some(id) = name.to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw) else {
                    continue;
                };
                if stopped.threads.iter().any(|thread| thread.id == id) || has_ended(process, id) {
                    continue;
                }
                match stopped.add(id) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(Errno::EPERM) if has_ended(process, id) => {}
                    Err(Errno::EPERM) => {
                        return Err(cannot(Errno::EPERM.into())
                            .with_hint("a debugger may trace the process already; or run as root"));
                    }
                    Err(Errno::ETIMEDOUT) => {
                        return Err(cannot(io::Error::other(format!(
                            "its thread {id} does not stop, since it waits in the kernel"
                        ))));
                    }
                    Err(error) => return Err(cannot(error.into())),
                }
            }
            if stopped.threads.len() == before {
                break;
            }
        }
        match stopped.threads.is_empty() {
            true => Err(cannot(io::Error::other("it has ended"))),
            false => Ok(stopped),
        }
    }

    fn add(&mut self, id: Pid) -> nix::Result<()> {
        ptrace::seize(id, ptrace::Options::empty())?;
        let mut thread = Thread { id, signal: 0, registers: None };
        let waited = thread.wait();
        // Also if it did not stop: it is to run on without this process.
        self.threads.push(thread);
        waited
    }

    /// Type and content of the notes with the registers.
    pub(super) fn notes(&self) -> Vec<(u32, Vec<u8>)> {
        let registers = self.threads.iter().filter_map(|thread| Some((thread, thread.registers.as_ref()?)));
        registers
            .flat_map(|(thread, (general, float))| {
                [(PRSTATUS, status(thread, general)), (FPREGSET, floats(float))]
            })
            .collect()
    }
}

impl Thread {
    /// Waits until the thread has stopped, and reads its registers.
    fn wait(&mut self) -> nix::Result<()> {
        ptrace::interrupt(self.id)?;
        let begun = Instant::now();
        // Not by nix, which knows no numbers of real-time signals: such a signal would be lost.
        let id = rustix::process::Pid::from_raw(self.id.as_raw());
        let options = WaitOptions::NOHANG | WaitOptions::from_bits_retain(libc::__WALL.cast_unsigned());
        let status = loop {
            match waitpid(id, options).map_err(|error| Errno::from_raw(error.raw_os_error()))? {
                Some((_, status)) => break status,
                None if begun.elapsed() > PATIENCE => return Err(Errno::ETIMEDOUT),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let signal = status.stopping_signal().ok_or(Errno::ESRCH)?;
        // A stop with an event is the one that was asked for; the others are the delivery of a signal.
        if status.as_raw().cast_unsigned() >> 16 == 0 {
            self.signal = signal;
        }
        let general = ptrace::getregset::<NT_PRSTATUS>(self.id)?;
        self.registers = Some((general, ptrace::getregset::<NT_PRFPREG>(self.id)?));
        Ok(())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for thread in &self.threads {
            // SAFETY: the request reads and writes no memory of this process. It fails if the thread has ended.
            unsafe {
                libc::ptrace(libc::PTRACE_DETACH, thread.id.as_raw(), 0_usize, thread.signal as libc::c_long);
            }
        }
    }
}

/// Whether a thread is gone, or only its exit code is left.
fn has_ended(process: &str, id: Pid) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/task/{id}/stat")) else { return true };
    // The name in front may have any characters.
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// The note `NT_PRSTATUS`: of the kernel's `elf_prstatus`, signal, number and registers of the thread.
fn status(thread: &Thread, registers: &user_regs_struct) -> Vec<u8> {
    let mut note = vec![0; PRSTATUS_BYTES];
    let mut put = |at: usize, bytes: &[u8]| note[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &thread.signal.to_le_bytes());
    put(12, &(thread.signal as i16).to_le_bytes());
    put(32, &thread.id.as_raw().to_le_bytes());
    let r = registers;
    let all = [
        r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx, r.rdx, r.rsi,
        r.rdi, r.orig_rax, r.rip, r.cs, r.eflags, r.rsp, r.ss, r.fs_base, r.gs_base, r.ds, r.es, r.fs, r.gs,
    ];
    put(112, &all.map(u64::to_le_bytes).concat());
    // The registers of the other note are valid.
    put(328, &1i32.to_le_bytes());
    note
}

/// The note `NT_FPREGSET`, in the form of the instruction `fxsave`.
fn floats(registers: &user_fpregs_struct) -> Vec<u8> {
    let r = registers;
    let mut note = [r.cwd, r.swd, r.ftw, r.fop].map(u16::to_le_bytes).concat();
    note.extend([r.rip, r.rdp].map(u64::to_le_bytes).concat());
    note.extend([r.mxcsr, r.mxcr_mask].map(u32::to_le_bytes).concat());
    note.extend(r.st_space.iter().chain(&r.xmm_space).flat_map(|word| word.to_le_bytes()));
    note.resize(512, 0);
    note
}
