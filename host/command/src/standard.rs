//! Standard output belongs to the command alone, and the process ends when the command does.
//!
//! Plugins run in the same process. Their prints go to standard error, and a plugin that calls `exit` is reported: an output that
//! is cut off must not look complete.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio::{dup2_stdout, stderr, stdout};

static OUTPUT: OnceLock<File> = OnceLock::new();

/// The command has come to its end by itself.
static ENDED: AtomicBool = AtomicBool::new(false);

/// Exit code after a plugin has ended the process.
const ENDED_BY_PLUGIN: i32 = 70;

/// While this value lives, the process belongs to plugins, too. Its drop is the end of the command, also by a panic.
pub(super) struct Claimed(());

impl Drop for Claimed {
    fn drop(&mut self) {
        // Ordering: Relaxed. The thread that ends the process reads it.
        ENDED.store(true, Ordering::Relaxed);
    }
}

/// Takes standard output, before a plugin is loaded, if the command prints data.
pub(super) fn claim(has_output: bool) -> io::Result<Claimed> {
    if has_output {
        let own: OwnedFd = fcntl_dupfd_cloexec(stdout(), 3)?;
        dup2_stdout(stderr())?;
        OUTPUT.get_or_init(|| own.into());
    }
    // SAFETY: the function needs nothing but statics, which live as long as the process.
    if unsafe { libc::atexit(at_exit) } != 0 {
        return Err(io::Error::other("the system takes no function for the end of the process"));
    }
    Ok(Claimed(()))
}

/// Prints a line to standard error. If standard error is closed or full, the line is lost, and nothing else.
pub(super) fn say(line: impl fmt::Display) {
    // A name in the text of a plugin may have characters that control a terminal.
    let is_plain = |character: &char| !character.is_control() || matches!(character, '\n' | '\t');
    let line: String = line.to_string().chars().map(|c| if is_plain(&c) { c } else { '\u{fffd}' }).collect();
    let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Standard output.
pub(super) fn output() -> io::Result<File> {
    match OUTPUT.get() {
        Some(output) => output.try_clone(),
        None => stdout().as_fd().try_clone_to_owned().map(File::from),
    }
}

extern "C" fn at_exit() {
    if ENDED.load(Ordering::Relaxed) {
        return;
    }
    match pactio::device_in_call() {
        Some(url) => {
            say(format_args!("pactio: the plugin of '{url}' has ended the process; the output is incomplete"))
        }
        None => say("pactio: a plugin has ended the process; the output is incomplete"),
    }
    // SAFETY: the process ends here, and no other function runs.
    unsafe { libc::_exit(ENDED_BY_PLUGIN) }
}
