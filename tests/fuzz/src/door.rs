//! A plugin in C that answers as it likes, and in ways that the contract forbids, harms no request but those that it answers.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use pactio::Host;

#[path = "../../c/random.rs"]
mod random;

/// A host with the plugin `random.c`, in the folder that a variable names.
fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let folder = std::env::var_os("PACTIO_FUZZ_PLUGINS").expect("run.sh names the folder of the plugin");
        Host::builder().default_search_paths(false).search_path(folder).worker_threads(1).build().unwrap()
    })
}

fuzz_target!(|input: &[u8]| random::call(host(), &input[..input.len().min(200)]));
