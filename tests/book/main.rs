//! The Rust code of the README and the book compiles and runs. The commands of these pages are run by the tests of the command.

#[allow(dead_code, reason = "some blocks show a part of a program")]
mod blocks {
    include!(concat!(env!("OUT_DIR"), "/blocks.rs"));

    pub fn run() {
        for (name, block) in BLOCKS {
            println!("{name}");
            if let Err(error) = block() {
                panic!("{name}: {error}");
            }
        }
        assert!(BLOCKS.len() >= 5, "only {} programs were found", BLOCKS.len());
    }
}

#[test]
fn the_programs_of_the_pages_run() {
    // Their paths are those of a reader in the folder of the repository. This is the only test of its process.
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap();
    blocks::run();
}
