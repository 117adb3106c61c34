//! The Rust code of the README and the book compiles and runs. The tests of the command run the commands on these pages.

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
    // The paths in the blocks are relative to the folder of the repository. No other test runs in this process.
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap();
    blocks::run();
}
