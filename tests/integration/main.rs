//! Tests of a host with really loaded plugins, by situation. Tests that concern only one crate are in that crate.

mod answers;
mod archives;
mod blocks;
mod caching;
mod capabilities;
mod cores;
mod describing;
mod drops;
mod executors;
mod extensions;
mod files;
mod filters;
mod frozen;
mod loading;
mod memory;
mod mounts;
mod objects;
mod pacing;
mod panics;
mod processes;
mod records;
mod replacing;
mod streaming;
mod stuck;
mod toolchains;
mod trees;
