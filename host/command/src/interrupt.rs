//! Signals that end the command: the first one is waited for, so that nothing is left behind; the second one ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::failure::Failure;

/// Signals within this time are one.
const ONE_SIGNAL: Duration = Duration::from_millis(500);

/// The first signal of this process.
pub(super) struct Interrupt(async_channel::Receiver<i32>);

impl Interrupt {
    /// From now on, the first SIGINT, SIGTERM or SIGHUP does not end the process. Signals that the process was started to ignore,
    /// as `nohup` does, stay ignored.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = || {
            let wanted: Vec<i32> =
                [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal)).collect();
            let is_second = Arc::new(AtomicBool::new(false));
            for &signal in &wanted {
                flag::register_conditional_shutdown(signal, 128 + signal, is_second.clone())?;
            }
            // The limit for the size of a file: writes report it.
            flag::register(SIGXFSZ, Arc::default())?;
            let mut signals = Signals::new(wanted)?;
            let (sender, receiver) = async_channel::bounded(1);
            thread::Builder::new().name("pactio-signals".to_owned()).spawn(move || {
                for signal in signals.forever() {
                    // A second one has ended the process.
                    let _ = sender.try_send(signal);
                    // Some programs send each signal twice, to a process and to its group.
                    thread::sleep(ONE_SIGNAL);
                    // Ordering: Relaxed. The handler of the signal reads it, and nothing else.
                    is_second.store(true, Ordering::Relaxed);
                }
            })?;
            Ok(Self(receiver))
        };
        listen().map_err(|error: std::io::Error| Failure::new(format!("cannot wait for signals: {error}")))
    }

    /// Waits for the first signal, and gives its number.
    pub(super) async fn wait(&self) -> i32 {
        match self.0.recv().await {
            Ok(signal) => signal,
            Err(_) => std::future::pending().await,
        }
    }
}

/// Whether the process was started to ignore a signal; `false` where the system does not say so.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}
