//! A filter that shows the files in an archive as a tree: `file:base.zip | archive | /maps/e1.bsp`.
//!
//! ```text
//!  zip · pak · vpk ──► names ──► Archive: list, open by name
//!                                  ├─ stored:     ranges of the storage, handed on; checked: version, check sum
//!                                  └─ compressed: packed ── whole files at once ──► codec
//!                                                     └──── long ones in blocks ──► blocks
//! ```

#![forbid(unsafe_code)]

mod backend;
mod block;
mod checked;
mod checkpoints;
mod codec;
mod compressed;
mod content;
mod cursor;
mod decoding;
mod device;
mod failure;
mod names;
mod pak;
mod reader;
mod storage;
mod stored;
mod streaming;
mod vpk;
mod whole;
mod zip;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "archive",
    description: "the files in zip, PAK and VPK archives",
    schemes: ["archive"],
    options: [
        OptionSpec::text("file", "the name of the archive, if the device below is a folder"),
        OptionSpec::size("cache", "memory for decompressed bytes").default("64MiB").range("0", "1TiB"),
        OptionSpec::flag("strict", "refuse an archive with an entry that would be hidden"),
    ],
    check: "file:{folder}/tree.zip | archive | /deflated",
    below_read_only: true,
    filter: backend::Archives,
}
