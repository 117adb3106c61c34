//! The memory of a process while it runs: `process:1234`, `process:name`, `process:self`. Positions are addresses.

mod backend;
mod calls;
mod content;
mod device;
mod files;
mod gather;
mod holes;
mod maps;
mod pages;
mod regions;
mod scatter;
mod target;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "process",
    description: "memory of running processes",
    schemes: ["process"],
    options: [
        OptionSpec::size("own", "with process:self, memory that is made for this device, and nothing else")
            .range("1", "1GiB"),
    ],
    check: "process:self?own=256KiB",
    backend: backend::Processes,
}
