//! Makes a module of each block of Rust code in the README and the book.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../..");
    let mut pages: Vec<PathBuf> =
        fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.push(root.join("README.md"));
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    println!("cargo:rerun-if-changed={}", root.join("docs").display());
    let (mut modules, mut calls) = (String::new(), String::new());
    for page in pages {
        println!("cargo:rerun-if-changed={}", page.display());
        let name = page.file_stem().unwrap().to_str().unwrap().to_lowercase().replace('-', "_");
        let text = fs::read_to_string(&page).unwrap();
        for (index, block) in text.split("\n```rust\n").skip(1).enumerate() {
            let code = block.split_once("\n```").expect("a block ends").0;
            let module = format!("{name}_{}", index + 1);
            let _ = write!(modules, "mod {module} {{\n{code}\n}}\n");
            if code.contains("fn main()") {
                // Visible to the test.
                modules = modules.replace("\nfn main()", "\npub fn main()");
                let _ = writeln!(
                    calls,
                    "    (\"{module}\", || {module}::main().map_err(|error| error.to_string())),"
                );
            }
        }
    }
    let main = format!(
        "{modules}\n/// Runs a block.\ntype Block = fn() -> Result<(), String>;\n\nconst BLOCKS: &[(&str, Block)] = &[\n{calls}];\n"
    );
    fs::write(Path::new(&env::var_os("OUT_DIR").unwrap()).join("blocks.rs"), main).unwrap();
}
