//! Trees mounted over each other: `mount:game.toml | /maps/e1.bsp`. A name is served by the source with the highest priority that
//! has it.

#![forbid(unsafe_code)]

mod backend;
mod case;
mod device;
mod plan;
mod sources;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "mount",
    description: "trees mounted over each other",
    schemes: ["mount"],
    options: [OptionSpec::flag("ignore-case", "find names also in upper case for lower case")],
    requires: ["open"],
    check: "mount:file:{folder};file:{folder}/tree.zip%7Carchive | /deflated",
    backend: backend::Mounts,
}
