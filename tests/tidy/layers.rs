//! The layers of the sdk and of the host: a folder uses only those below it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers of a crate from the lowest to the highest. A file or folder may use those of lower layers, and others of its own
/// line only as far as these do not use it.
struct Layers {
    source: &'static str,
    all: &'static [&'static [&'static str]],
}

const CRATES: [Layers; 2] = [
    Layers {
        source: "sdk/src",
        all: &[
            &["error", "fingerprint", "firewall", "origin", "sync"],
            &["packet"],
            &["io"],
            &["abi"],
            &["device"],
            &["plugin"],
        ],
    },
    Layers {
        source: "host/src",
        all: &[
            &["gauges", "error", "sync", "task", "url"],
            &["executor"],
            &["door"],
            &["plugin"],
            &["device"],
            &["resources", "host"],
            &["streamer"],
            &["check"],
        ],
    },
];

/// The text of a file without comments and tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(all(test") && !line.starts_with("#[cfg(test)]"));
    lines.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The words of a text: names, and the punctuation between them one character each.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = match rest.find(|c: char| !c.is_alphanumeric() && c != '_') {
            Some(0) => first.len_utf8(),
            Some(len) => len,
            None => rest.len(),
        };
        if !first.is_whitespace() {
            tokens.push(&rest[..len]);
        }
        rest = &rest[len..];
    }
    tokens
}

/// The first names behind `prefix::`: one, or those of a list in braces.
fn names<'t>(tokens: &[&'t str], prefix: &str) -> Vec<&'t str> {
    let mut names = Vec::new();
    for at in 0..tokens.len().saturating_sub(3) {
        if tokens[at] != prefix || tokens[at + 1..at + 3] != [":", ":"] {
            continue;
        }
        let mut depth = 0;
        let mut is_first = true;
        for token in &tokens[at + 3..] {
            match *token {
                "{" => depth += 1,
                "}" => depth -= 1,
                "," if depth == 1 => is_first = true,
                // Names deeper in a list belong to the first name before them.
                name if is_first && depth <= 1 => {
                    names.push(name);
                    is_first = false;
                }
                _ => {}
            }
            if depth == 0 && !is_first {
                break;
            }
        }
    }
    names
}

/// The folder or file at the top that each name of the crate's root comes from.
fn origins(root: &str, tops: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut origins = BTreeMap::new();
    for item in root.split(';').filter_map(|item| item.split_once("pub use ").map(|(_, item)| item)) {
        let tokens = tokens(item);
        let Some(top) = tokens.first().filter(|top| tops.contains(**top)) else { continue };
        for token in &tokens[1..] {
            origins.entry((*token).to_owned()).or_insert_with(|| (*top).to_owned());
        }
    }
    origins
}

#[test]
fn layers_use_only_those_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for Layers { source, all } in CRATES {
        let source = root.join(source);
        let level: BTreeMap<&str, usize> = all
            .iter()
            .enumerate()
            .flat_map(|(level, names)| names.iter().map(move |name| (*name, level)))
            .collect();
        let mut found = Vec::new();
        files(&source, &mut found);
        let top = |path: &Path| {
            let first = path.strip_prefix(&source).unwrap().components().next().unwrap();
            first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
        };
        let tops: BTreeSet<String> = found.iter().map(|path| top(path)).filter(|top| top != "lib").collect();
        let expected: BTreeSet<String> = level.keys().map(|name| (*name).to_owned()).collect();
        assert_eq!(tops, expected, "each file and folder of {} has a layer", source.display());
        let origins = origins(&code(&source.join("lib.rs")), &tops);
        // Each edge with the files that make it.
        let mut uses: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for path in found.iter().filter(|path| top(path) != "lib") {
            let from = top(path);
            for name in names(&tokens(&code(path)), "crate") {
                let to =
                    if tops.contains(name) { name } else { origins.get(name).map_or("", String::as_str) };
                if !to.is_empty() && to != from {
                    let file = path.strip_prefix(&source).unwrap().display().to_string();
                    uses.entry((from.clone(), to.to_owned())).or_default().insert(file);
                }
            }
        }
        assert!(uses.len() > tops.len(), "only {} uses were found", uses.len());
        let wrong: Vec<String> = uses
            .iter()
            .filter(|((from, to), _)| {
                let (from_level, to_level) = (level[from.as_str()], level[to.as_str()]);
                to_level > from_level
                    || to_level == from_level && uses.contains_key(&(to.clone(), from.clone()))
            })
            .map(|((from, to), files)| {
                format!("{from} uses {to}: {}", files.iter().cloned().collect::<Vec<_>>().join(", "))
            })
            .collect();
        assert!(wrong.is_empty(), "{}:\n{}", source.display(), wrong.join("\n"));
    }
}
