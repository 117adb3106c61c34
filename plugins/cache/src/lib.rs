//! A filter that keeps blocks in memory: `file:/net/image | cache?size=256MiB&block=64KiB`.

#![forbid(unsafe_code)]

mod backend;
mod blocks;
mod device;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "cache",
    description: "keeps blocks that were read in memory",
    schemes: ["cache"],
    options: [
        OptionSpec::size("size", "memory for blocks").range("64KiB", "1TiB").default("64MiB"),
        OptionSpec::size("block", "the unit of reads: a power of two").range("512", "16MiB").default("64KiB"),
    ],
    check: "memory:?size=100KiB | cache?size=64KiB&block=4KiB",
    filter: backend::Cache,
}
