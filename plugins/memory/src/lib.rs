//! Devices in memory: `memory:?size=64MiB` or `memory:scratch?size=4096&fill=255`.
//!
//! Requests are answered at once, on the thread that submits them. The bytes are gone when the device is closed. Requests
//! that overlap and run at the same time see each other's bytes in any mixture, as on a disk.
//!
//! With a slash at the end of its name, `memory:scratch/?size=64MiB` is a tree of files, folders and any number of names.

mod backend;
mod cells;
mod device;
mod file;
mod tree;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "memory",
    description: "devices in memory",
    schemes: ["memory"],
    options: [
        OptionSpec::size("size", "the size of the device").required(),
        OptionSpec::integer("fill", "the value of each byte").range("0", "255").default("0"),
    ],
    check: "memory:?size=100000",
    backend: backend::Memory,
}
