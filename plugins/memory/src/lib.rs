//! Devices in memory: `memory:?size=64MiB` or `memory:scratch?size=4096&fill=255`.
//!
//! Requests are answered at once, on the thread that submits them. The bytes are gone when the device is closed. Requests
//! that overlap and run at the same time see each other's bytes in any mixture, as on a disk.

mod backend;
mod cells;
mod device;

pactio_sdk::export_plugin! {
    id: "memory",
    description: "devices in memory",
    schemes: ["memory"],
    backend: backend::Memory,
}
