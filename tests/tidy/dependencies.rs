//! Licences of dependencies, crates that are not used, and what each published crate brings with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, LicenseItem, ParseMode};

/// Licences that a program with other terms can be distributed with.
const LICENCES: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Crates with another licence, and why they are used all the same.
const EXCEPTIONS: [(&str, &str); 1] = [(
    "generational-arena",
    "abi_stable needs it, only with the feature layout-check; MPL-2.0 applies to its own files alone",
)];

/// Crates that no published crate may depend on, and why.
const BANNED: [(&str, &str); 4] = [
    ("async-std", "it is no longer maintained; smol is its successor"),
    ("native-tls", "TLS is rustls, so that a plugin needs no library of the system"),
    ("openssl-sys", "TLS is rustls, so that a plugin needs no library of the system"),
    ("time", "std has SystemTime"),
];

/// Most crates that a plugin gets by the sdk with its default features: authors pay for each.
const MAX_SDK_CRATES: usize = 30;

struct Graph {
    /// The packages by their IDs.
    packages: BTreeMap<String, Value>,
    /// The normal and build dependencies of each package, for this system.
    edges: BTreeMap<String, Vec<String>>,
}

impl Graph {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let host = rustc_host();
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &host])
            .current_dir(root)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let graph: Value = serde_json::from_slice(&output.stdout).unwrap();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let packages = list(&graph["packages"]);
        let packages = packages.into_iter().map(|package| (text(&package["id"]), package)).collect();
        let needed = |dependency: &Value| {
            list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].as_str() != Some("dev"))
        };
        let edges = list(&graph["resolve"]["nodes"])
            .iter()
            .map(|node| {
                let all = list(&node["deps"]);
                let needed = all.iter().filter(|dependency| needed(dependency));
                (text(&node["id"]), needed.map(|dependency| text(&dependency["pkg"])).collect())
            })
            .collect();
        Self { packages, edges }
    }

    /// The packages of this workspace that are published.
    fn published(&self) -> Vec<&Value> {
        let is_published = |package: &&Value| package["source"].is_null() && package["publish"].is_null();
        self.packages.values().filter(is_published).collect()
    }

    /// A package and everything that it needs.
    fn needed<'g>(&'g self, package: &'g Value) -> BTreeSet<&'g str> {
        let (mut found, mut open) = (BTreeSet::new(), vec![package["id"].as_str().unwrap()]);
        while let Some(id) = open.pop() {
            if found.insert(id) {
                open.extend(self.edges[id].iter().map(String::as_str));
            }
        }
        found
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn rustc_host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

fn is_free(expression: &str) -> bool {
    let expression = Expression::parse_mode(expression, ParseMode::LAX).unwrap();
    expression.evaluate(|requirement| match &requirement.license {
        LicenseItem::Spdx { id, .. } => LICENCES.contains(&id.name),
        LicenseItem::Other { .. } => false,
    })
}

#[test]
fn licences_of_dependencies_are_permissive_and_no_crate_is_banned() {
    let graph = Graph::read();
    let published = graph.published();
    assert!(published.len() > 20, "only {} published crates were found", published.len());
    let mut wrong = BTreeSet::new();
    for package in published {
        let of = text(&package["name"]);
        for id in graph.needed(package) {
            let (name, licence) = (text(&graph.packages[id]["name"]), text(&graph.packages[id]["license"]));
            let is_exception = EXCEPTIONS.iter().any(|(exception, _)| *exception == name);
            if !is_exception && !is_free(&licence) {
                wrong.insert(format!("{name}: the licence '{licence}' is not in the list"));
            }
            if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
                wrong.insert(format!("{of} needs {name}: {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn licences_are_read_as_expressions() {
    for free in ["MIT", "GPL-3.0-only OR MIT", "MIT/Apache-2.0", "Apache-2.0 WITH LLVM-exception OR MIT"] {
        assert!(is_free(free), "{free}");
    }
    for other in ["GPL-3.0-only", "MIT AND LGPL-2.1-only", "MPL-2.0"] {
        assert!(!is_free(other), "{other}");
    }
}

#[test]
fn published_crates_have_texts_and_keywords() {
    for package in Graph::read().published() {
        let name = text(&package["name"]);
        let manifest = text(&package["manifest_path"]);
        let folder = Path::new(&manifest).parent().unwrap();
        for file in ["LICENSE-MIT", "LICENSE-APACHE"] {
            assert!(folder.join(file).exists(), "{name} has no {file}");
        }
        let readme = text(&package["readme"]);
        assert!(!readme.is_empty() && folder.join(&readme).exists(), "{name} has no page");
        for field in ["keywords", "categories"] {
            assert!(!package[field].as_array().unwrap().is_empty(), "{name} has no {field}");
        }
        assert!(!package["description"].is_null(), "{name} has no description");
    }
}

#[test]
fn an_author_pays_for_few_crates() {
    // Features of other crates of the workspace do not count here.
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "-p", "pactio-plugin-memory", "-e", "normal,build", "--prefix", "none"])
        .args(["--format", "{p}"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<_> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    // Without the plugin itself.
    let count = crates.len() - 1;
    println!("author_crates={count}");
    assert!(count <= MAX_SDK_CRATES && count > 5, "{count} crates: {crates:#?}");
}
