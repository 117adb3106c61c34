//! A filter that shows the memory in a core file or memory dump at its addresses: `file:core.1234 | core`.

#![forbid(unsafe_code)]

mod avml;
mod backend;
mod blocks;
mod device;
mod elf;
mod files;
mod formats;
mod kdump;
mod lime;
mod local;
mod map;
mod seekable;
mod segments;
mod source;
mod unpack;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "core",
    description: "memory in core files, dumps of LiME, AVML and kdump, and raw images, at its addresses",
    schemes: ["core"],
    options: [
        OptionSpec::text("files", "folder of the files that a process had mapped, to read the pages that its core leaves out: files=/"),
        OptionSpec::choice("address", "which addresses of an ELF file are meant", &["virtual", "physical"])
            .default("virtual"),
        OptionSpec::text("at", "for a raw image: the address that it begins at, in hexadecimal"),
        OptionSpec::text("map", "for a raw image: a file with lines START-END OFFSET [NAME], in hexadecimal"),
    ],
    check: "memory:?size=256KiB&fill=7 | core?at=0",
    filter: backend::Core,
}
