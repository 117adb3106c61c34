//! Trees mounted over each other: `mount:game.toml | /maps/e1.bsp`. A name is served by the source with the highest priority that
//! has it.

mod backend;
mod device;
mod plan;
mod sources;

pactio_sdk::plugin! {
    id: "mount",
    description: "trees mounted over each other",
    schemes: ["mount"],
    options: [],
    requires: ["open"],
    check: "mount:file:{folder};file:{folder}/tree.zip%7Carchive | /deflated",
    backend: backend::Mounts,
}
