//! The language rule of `docs/style.md`, counted over all comments, pages, help texts and messages.

mod dependencies;
mod layers;
mod pages;
mod unsafety;

use std::fs;
use std::path::{Path, PathBuf};

/// Turns of phrase that hide the subject of a sentence, and the number of them that is allowed per 1,000 words. A limit may only
/// be lowered: the test fails as well if a limit is more than [`SLACK`] above the count.
const LIMITS: [(&str, &[&str], f64); 4] = [
    ("what", &["what", "whatever"], 0.95),
    ("who", &["who", "whoever", "whom"], 0.05),
    ("nobody", &["nobody", "somebody", "anybody", "everybody"], 0.05),
    ("so many", &["so many", "so much"], 0.05),
];

const SLACK: f64 = 0.1;

/// Prose of the tree: words in lower case, one text per file.
#[derive(Default)]
struct Prose {
    files: Vec<(PathBuf, Vec<String>)>,
}

fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

impl Prose {
    fn read(root: &Path) -> Self {
        let mut prose = Self::default();
        for folder in ["sdk", "host", "plugins", "examples", "tests", "docs"] {
            prose.folder(&root.join(folder));
        }
        for file in ["README.md", "CHANGELOG.md"] {
            prose.file(&root.join(file));
        }
        prose
    }

    fn folder(&mut self, folder: &Path) {
        let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for entry in entries {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            if entry.is_dir() && !matches!(name.as_str(), "target" | "frozen" | "corpus" | "artifacts") {
                self.folder(&entry);
            } else if entry.is_file() {
                self.file(&entry);
            }
        }
    }

    fn file(&mut self, path: &Path) {
        let text = match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => comments_and_messages(&fs::read_to_string(path).unwrap()),
            Some("md") => without_code(&fs::read_to_string(path).unwrap()),
            _ => return,
        };
        self.files.push((path.to_owned(), words(&text).collect()));
    }

    fn len(&self) -> usize {
        self.files.iter().map(|(_, words)| words.len()).sum()
    }

    /// The number of occurrences of some turns, and the files with the most of them.
    fn count(&self, turns: &[&str]) -> (usize, Vec<(usize, &Path)>) {
        let in_file = |all: &[String]| -> usize {
            turns
                .iter()
                .map(|turn| {
                    let turn: Vec<&str> = turn.split(' ').collect();
                    all.windows(turn.len()).filter(|window| window.iter().eq(turn.iter())).count()
                })
                .sum()
        };
        let mut files: Vec<_> =
            self.files.iter().map(|(path, words)| (in_file(words), path.as_path())).collect();
        files.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        (files.iter().map(|(count, _)| count).sum(), files)
    }
}

/// Comments of a source file, and its string literals of at least three words.
fn comments_and_messages(source: &str) -> String {
    let mut text = String::new();
    let mut in_example = false;
    for line in source.lines() {
        let line = line.trim_start();
        if let Some(comment) = ["///", "//!", "//"].iter().find_map(|mark| line.strip_prefix(mark)) {
            if comment.trim_start().starts_with("```") {
                in_example = !in_example;
            } else if !in_example {
                text.push_str(comment);
                text.push('\n');
            }
            continue;
        }
        in_example = false;
        for literal in line.split('"').skip(1).step_by(2).filter(|literal| words(literal).count() >= 3) {
            text.push_str(literal);
            text.push('\n');
        }
    }
    text
}

/// A page without its blocks of code.
fn without_code(page: &str) -> String {
    let mut in_code = false;
    let mut text = String::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[test]
fn turns_that_hide_the_subject_become_fewer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let prose = Prose::read(&root);
    let total = prose.len();
    assert!(total > 50_000, "only {total} words were found");
    let mut wrong = Vec::new();
    for (name, turns, limit) in LIMITS {
        let (count, files) = prose.count(turns);
        let rate = count as f64 * 1000.0 / total as f64;
        println!("{name}: {count} in {total} words, {rate:.2} per 1,000; the limit is {limit}");
        let most: Vec<_> = files
            .iter()
            .take(5)
            .map(|(count, path)| format!("{count} in {}", path.strip_prefix(&root).unwrap_or(path).display()))
            .collect();
        if rate > limit {
            wrong.push(format!(
                "'{name}': {rate:.2} per 1,000 words, more than {limit}; docs/style.md says how to write instead ({})",
                most.join(", ")
            ));
        } else if rate < limit - SLACK {
            wrong.push(format!("'{name}': only {rate:.2} per 1,000 words: lower the limit of {limit}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn prose_is_what_is_counted() {
    let source = "/// What it does.\n/// ```\n/// let what = 1;\n/// ```\nlet x = \"what a long message\"; // nobody\nlet y = \"what\";";
    let text = comments_and_messages(source);
    assert_eq!(words(&text).filter(|word| word == "what").count(), 2);
    assert_eq!(words(&without_code("who\n```sh\nwho\n```\nwho")).count(), 2);
}
