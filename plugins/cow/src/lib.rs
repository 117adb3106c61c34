//! A filter that keeps writes in memory: `file:/data/image | cow?limit=64MiB`.
//!
//! Writes are kept in memory and are seen by reads; the device below is only read.

#![forbid(unsafe_code)]

mod backend;
mod device;
mod overlay;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "cow",
    description: "keeps writes in memory and the device below as it is",
    schemes: ["cow"],
    options: [OptionSpec::size("limit", "how much may be written over").range("1", "1TiB").default("1GiB")],
    below_read_only: true,
    filter: backend::Cow,
}
