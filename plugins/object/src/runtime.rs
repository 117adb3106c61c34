//! The runtime of this plugin, which is private to the plugin: the host has its own or none.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// Two threads that wait for the network, for all devices.
pub(crate) fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let started = Builder::new_multi_thread()
        .worker_threads(2)
        // For local folders, whose system calls block.
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_millis(300))
        .thread_name("pactio-object")
        .enable_all()
        .build()?;
    Ok(RUNTIME.get_or_init(|| started))
}
