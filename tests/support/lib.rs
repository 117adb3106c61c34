//! Helpers that the tests share: hosts with chosen plugins, time limits, seeds, core files, servers.

mod elf;
mod records;
pub mod servers;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use pactio::{Device, Host};

pub use elf::{Part, core_file};
pub use records::Records;

/// The folder where cargo puts the plugins that a test or bench depends on: the `deps` folder of its build.
pub fn build_folder() -> PathBuf {
    let binary = std::env::current_exe().expect("the program has a path");
    let folder = binary.parent().expect("the program is in a folder");
    if folder.ends_with("deps") { folder.to_owned() } else { folder.join("deps") }
}

/// The shared library of a crate, such as `pactio_file` or `fixture_late`.
pub fn library(name: &str) -> PathBuf {
    let path = build_folder().join(format!(
        "{}{name}{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    ));
    assert!(path.is_file(), "{} was not built", path.display());
    path
}

/// A folder with links to libraries.
pub fn folder_of(libraries: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for name in libraries {
        let library = library(name);
        let link = folder.path().join(library.file_name().expect("a library has a name"));
        std::os::unix::fs::symlink(library, link).expect("a link can be made");
    }
    folder
}

/// A host that knows the libraries of one folder only.
pub fn host_of(folder: &Path) -> Host {
    Host::builder()
        .default_search_paths(false)
        .search_path(folder)
        .worker_threads(2)
        .build()
        .expect("a host can be built")
}

/// A host that knows these libraries only.
pub fn host(libraries: &[&str]) -> Host {
    host_of(folder_of(libraries).path())
}

/// A host and a device.
pub fn open(library: &str, url: &str) -> (Host, Device) {
    let host = host(&[library]);
    let device = host.open(url).unwrap_or_else(|error| panic!("{error}"));
    (host, device)
}

/// Runs `f`, and fails if `f` has not ended after ten minutes (thirty under a sanitizer or valgrind): after this time, `f` hangs,
/// even on a loaded machine.
pub fn in_time<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let slow = cfg!(pactio_no_pool) || std::env::var_os("PACTIO_SLOW").is_some();
    let limit = Duration::from_secs(if slow { 1800 } else { 600 });
    let (sender, receiver) = channel();
    let thread = std::thread::spawn(move || {
        let _ = sender.send(f());
    });
    match receiver.recv_timeout(limit) {
        Ok(value) => {
            // The value was sent, so the thread is about to end.
            let _ = thread.join();
            value
        }
        Err(RecvTimeoutError::Timeout) => panic!("it has not ended after {limit:?}"),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(payload) => std::panic::resume_unwind(payload),
            Ok(()) => unreachable!("the thread ended without a value"),
        },
    }
}

/// A command for another build, without the settings of the build that runs this program.
pub fn plain_cargo(program: &str) -> Command {
    let mut command = Command::new(program);
    for variable in
        ["RUSTC", "CARGO", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO_BUILD_TARGET"]
    {
        command.env_remove(variable);
    }
    command
}

/// A random number generator; its seed is printed, and taken from `PACTIO_SEED` if that is set.
pub fn random() -> fastrand::Rng {
    let seed = match std::env::var("PACTIO_SEED") {
        Ok(seed) => seed.parse().expect("PACTIO_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    println!("PACTIO_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
