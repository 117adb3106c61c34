//! Pages: links lead somewhere, and files that are named exist. Comments keep their width.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Most characters of a line of comment, without tables, pictures and examples.
const MAX_COMMENT_WIDTH: usize = 130;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// All files of the tree with an extension, without build folders.
fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            if !matches!(name.to_str(), Some("target" | "frozen" | "corpus" | "artifacts" | ".git")) {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
}

fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    files(&root(), "md", &mut pages);
    assert!(pages.len() > 40, "only {} pages were found", pages.len());
    pages
}

/// Lines outside of blocks of code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// The name by which a link leads to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The targets of links in a line: `[text](target)`.
fn links(line: &str) -> Vec<&str> {
    line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)).collect()
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for line in prose(&text) {
            for link in links(line) {
                // Links of this form are in the sdk's pages, which are also the documentation of the crate.
                if link.starts_with("crate::") || link.contains("://") {
                    continue;
                }
                count += 1;
                let (path, heading) = link.split_once('#').unwrap_or((link, ""));
                let target = match path {
                    "" => page.clone(),
                    _ => page.parent().unwrap().join(path),
                };
                let exists = match heading {
                    "" => target.exists(),
                    _ => fs::read_to_string(&target).is_ok_and(|text| {
                        prose(&text).any(|line| line.starts_with('#') && anchor(line) == heading)
                    }),
                };
                if !exists {
                    wrong.push(format!("{}: {link}", page.display()));
                }
            }
        }
    }
    assert!(count > 70, "only {count} links were found");
    assert!(wrong.is_empty(), "links lead nowhere:\n{}", wrong.join("\n"));
}

/// A text in backticks that looks like a path of the tree.
fn is_path(text: &str) -> bool {
    const FOLDERS: [&str; 8] =
        ["sdk/", "host/", "plugins/", "examples/", "tests/", "docs/", ".ci/", ".github/"];
    FOLDERS.iter().any(|folder| text.starts_with(folder))
        // A path with a placeholder names no file.
        && !text.contains("NAME")
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
}

#[test]
fn files_that_pages_name_exist() {
    let root = root();
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let named = prose(&text).flat_map(|line| line.split('`').skip(1).step_by(2));
        // A command begins with its program.
        for path in named.filter_map(|text| text.split(' ').next()).filter(|text| is_path(text)) {
            count += 1;
            // The pages of the sdk are read in its folder.
            if !root.join(path).exists() && !root.join("sdk").join(path).exists() {
                wrong.push(format!("{}: {path}", page.display()));
            }
        }
    }
    assert!(count > 60, "only {count} names were found");
    assert!(wrong.is_empty(), "files that do not exist are named:\n{}", wrong.join("\n"));
}

/// The tests that the sdk's guide names for each rule, and the rules that tests name.
#[test]
fn tests_that_the_guide_names_exist() {
    let root = root();
    let guide = fs::read_to_string(root.join("sdk/docs/guide.md")).unwrap();
    let mut sources = Vec::new();
    for folder in ["sdk", "tests", "host"] {
        files(&root.join(folder), "rs", &mut sources);
    }
    let tests: BTreeSet<String> = sources
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            let names: Vec<String> = text
                .split("fn ")
                .skip(1)
                .filter_map(|rest| Some(rest.split_once(['(', '<'])?.0.to_owned()))
                .collect();
            names
        })
        .collect();
    let named = prose(&guide).flat_map(|line| line.split('`').skip(1).step_by(2));
    let named: Vec<&str> = named.filter(|name| name.starts_with("rule_")).collect();
    assert!(named.len() > 60, "only {} tests are named", named.len());
    let missing: Vec<_> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(missing.is_empty(), "tests that do not exist are named: {missing:?}");
    let rules = fs::read_to_string(root.join("docs/rules.md")).unwrap();
    for rule in 1..=24 {
        assert!(rules.contains(&format!("| **P{rule}** |")), "rule {rule} is not in docs/rules.md");
        let is_held = guide.contains(&format!("\n| {rule} "));
        assert!(is_held, "the guide names no test of rule {rule}");
    }
}

#[test]
fn comments_keep_their_width() {
    let mut sources = Vec::new();
    files(&root(), "rs", &mut sources);
    let mut wrong = Vec::new();
    for path in sources {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
            let is_picture = comment.contains('|')
                || comment.contains(['─', '►', '◄', '├', '└'])
                || comment.contains("](");
            if !is_picture && line.chars().count() > MAX_COMMENT_WIDTH {
                wrong.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "comments of more than {MAX_COMMENT_WIDTH} characters:\n{}", wrong.join("\n"));
}

#[test]
fn the_readme_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= 180, "the README has {lines} lines");
}
