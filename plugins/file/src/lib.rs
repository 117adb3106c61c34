//! Files of the local system: `file:/path/to/file`, also relative to the current folder; and folders, which are trees.
//!
//! A read first takes the bytes that are in the page cache, on the caller's thread. The rest, and writes, go through a queue of
//! the kernel (`io_uring`); the host's executor sleeps on its descriptor. Where no such queue exists, they go through a few
//! threads that all files share. Bytes go straight into and out of the packets.

mod backend;
#[cfg(target_os = "linux")]
mod batch;
mod cached;
mod copying;
mod device;
mod engine;
mod explained;
mod folder;
mod job;
#[cfg(target_os = "linux")]
mod mapped;
mod pipe;
mod registered;
mod replacement;
#[cfg(target_os = "linux")]
mod ring;
mod watching;
#[cfg(target_os = "linux")]
mod zero;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "file",
    description: "files of the local system",
    schemes: ["file"],
    options: [
        OptionSpec::flag("direct", "go around the page cache, in blocks of 4 KiB"),
        OptionSpec::choice("io", "how I/O is performed that the page cache cannot serve", &["auto", "ring", "threads"]).default("auto"),
        OptionSpec::flag("map", "maps the file into memory; if another program makes the file shorter, the system may end this process"),
    ],
    check: "file:{folder}/device",
    backend: backend::Files::default(),
}
