//! Trees of all operations on a view, made from a fuzzer's bytes; see the crate `pactio-trees`.
#![no_main]

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use pactio_trees::{Workers, case};

fuzz_target!(|bytes: &[u8]| {
    static WORKERS: OnceLock<Arc<Workers>> = OnceLock::new();
    let workers = WORKERS.get_or_init(|| Arc::new(Workers::new(1)));
    let mut bytes = bytes;
    case(&mut bytes, workers);
});
