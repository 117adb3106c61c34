//! Files of the local system: `file:/path/to/file`, also relative to the current folder.
//!
//! Requests are done by a small pool of threads that all files share, with positioned system calls straight into and out
//! of the packets.

mod backend;
mod device;
mod pool;

pactio_sdk::export_plugin! {
    id: "file",
    description: "files of the local system",
    schemes: ["file"],
    check: "file:{folder}/device",
    backend: backend::Files::new(),
}
