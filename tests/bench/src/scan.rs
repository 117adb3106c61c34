//! The time to find many plugins.

use std::fs;
use std::time::Instant;

use pactio_tests::{host_of, library};

/// Prints the time that a host needs for a folder of `count` plugins: the first host in this process, and the later ones.
pub(crate) fn scan(count: usize) {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("a folder cannot be made: {error}"));
    for index in 0..count {
        // The copies are different files with the same id: the host reads all of them, and refuses all but one as duplicates.
        let path = folder.path().join(format!("lib{index}.so"));
        fs::copy(library("pactio_memory"), path)
            .unwrap_or_else(|error| panic!("no copy can be made: {error}"));
    }
    for which in ["first", "again"] {
        let begun = Instant::now();
        let host = host_of(folder.path());
        let time = begun.elapsed();
        assert_eq!(host.candidates().len(), count);
        println!("scan_{which} plugins={count} milliseconds={:.2}", time.as_secs_f64() * 1e3);
    }
}
