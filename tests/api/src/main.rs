//! Compares the public API of each library with its snapshot: a change of the API is a change of a file, which a review sees.
//!
//! ```sh
//! cargo run --manifest-path tests/api/Cargo.toml              # compare
//! cargo run --manifest-path tests/api/Cargo.toml -- --update  # write the snapshots anew
//! ```

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use public_api::Builder;

/// The libraries that others build on, by their folders.
const LIBRARIES: [&str; 6] = ["host", "host/nbd", "sdk", "sdk/kit/blocks", "sdk/kit/pool", "sdk/kit/schedule"];

/// A public API, one item in a line, without the implementations that every type has.
fn api(root: &Path, library: &str) -> Result<String, Box<dyn std::error::Error>> {
    let json = rustdoc_json::Builder::default()
        .toolchain("nightly")
        .manifest_path(root.join(library).join("Cargo.toml"))
        .target_dir(root.join("target/api"))
        .quiet(true)
        .build()?;
    let api = Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    Ok(api.to_string())
}

fn main() -> ExitCode {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2).expect("the crate lies two folders below the root");
    let update = env::args().nth(1).is_some_and(|argument| argument == "--update");
    let mut differs = false;
    for library in LIBRARIES {
        let snapshot = here.join(library.replace('/', "-")).with_extension("txt");
        let now = match api(root, library) {
            Ok(now) => now,
            Err(error) => {
                eprintln!("cannot list the API of '{library}': {error}");
                return ExitCode::from(2);
            }
        };
        if update {
            if let Err(error) = fs::write(&snapshot, &now) {
                eprintln!("cannot write '{}': {error}", snapshot.display());
                return ExitCode::from(2);
            }
            continue;
        }
        let before = fs::read_to_string(&snapshot).unwrap_or_default();
        for line in now.lines().filter(|line| !before.lines().any(|other| other == *line)) {
            println!("{library}: + {line}");
            differs = true;
        }
        for line in before.lines().filter(|line| !now.lines().any(|other| other == *line)) {
            println!("{library}: - {line}");
            differs = true;
        }
        println!("{library}: {} public items", now.lines().count());
    }
    if differs {
        println!("if the change is intended: cargo run --manifest-path tests/api/Cargo.toml -- --update");
    }
    ExitCode::from(u8::from(differs))
}
