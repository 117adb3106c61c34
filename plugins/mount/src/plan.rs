//! The sources of a mount: a file in TOML, or URLs.
//!
//! ```toml
//! [[source]]
//! name = "base"
//! url = "file:{folder}/base.zip | archive"
//!
//! [[source]]
//! name = "hats"
//! url = "file:{folder}/mods/hats"
//! priority = 10
//! at = "textures"
//! ```

use std::path::Path;
use std::{fs, io};

use pactio_sdk::{Code, IoError, OpenError};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "source")]
    sources: Vec<Source>,
}

/// One tree.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    /// The name; the URL if no name is given.
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) url: String,
    /// A higher priority hides a lower one; of two equal ones, the later source hides the earlier.
    #[serde(default)]
    pub(crate) priority: i64,
    /// The folder of the mount that is the root of the tree.
    #[serde(default)]
    pub(crate) at: String,
    /// If the source cannot be opened, the mount opens without it.
    #[serde(default)]
    pub(crate) optional: bool,
}

/// Reads the sources of a mount, in the order in which they are looked up.
pub(crate) fn of(target: &str) -> Result<Vec<Source>, OpenError> {
    if target.is_empty() {
        return Err(OpenError::invalid_input(
            "nothing is mounted; write mount:FILE.toml, or mount:URL;URL with the later over the earlier",
        ));
    }
    let sources = if is_url(target) { urls(target) } else { file(target)? };
    order(sources).map_err(|what| OpenError::invalid_input(format!("{target}: {what}")))
}

/// `target` begins with a scheme.
fn is_url(target: &str) -> bool {
    let scheme = target.split_once(':').map_or("", |(scheme, _)| scheme);
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn urls(target: &str) -> Vec<Source> {
    let source = |url: &str| Source {
        name: String::new(),
        url: url.trim().to_owned(),
        priority: 0,
        at: String::new(),
        optional: false,
    };
    target.split(';').map(source).collect()
}

fn file(path: &str) -> Result<Vec<Source>, OpenError> {
    let text = fs::read_to_string(path).map_err(|error| {
        let text = match error.kind() {
            io::ErrorKind::NotFound => format!("there is no file {path} with the sources of the mount"),
            _ => format!("{path} cannot be read: {error}"),
        };
        OpenError::new(error.into(), text)
    })?;
    let parsed: File = toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        OpenError::new(
            IoError::from_code(Code::INVALID_INPUT),
            format!("{path}, line {line}: {}", error.message()),
        )
    })?;
    let folder = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or(".".into(), |folder| folder.to_string_lossy());
    let mut sources = parsed.sources;
    for source in &mut sources {
        source.url = source.url.replace("{folder}", &escaped(&folder));
    }
    Ok(sources)
}

/// A path as a part of a URL.
fn escaped(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3F").replace('|', "%7C")
}

/// Checks sources, and puts them into the order in which they are looked up.
fn order(mut sources: Vec<Source>) -> Result<Vec<Source>, String> {
    if sources.is_empty() {
        return Err("it mounts nothing; a source is a table [[source]] with url = \"...\"".to_owned());
    }
    for (index, source) in sources.iter_mut().enumerate() {
        source.at = source.at.trim_matches('/').to_owned();
        if source.url.is_empty() {
            return Err(format!("the URL of source {} is empty", index + 1));
        }
        if !source.at.is_empty() && source.at.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("'at' of source {} is no folder: '{}'", index + 1, source.at));
        }
        if source.name.is_empty() {
            source.name.clone_from(&source.url);
        }
    }
    sources.reverse();
    // The sort is stable: sources of the same priority keep their order.
    sources.sort_by_key(|source| std::cmp::Reverse(source.priority));
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_priorities_come_first_and_of_equal_ones_the_later() {
        let text = r#"
            [[source]]
            url = "a:"
            [[source]]
            url = "b:"
            priority = 5
            [[source]]
            url = "c:"
            [[source]]
            url = "d:"
            priority = -1
        "#;
        let parsed: File = toml::from_str(text).unwrap();
        let names: Vec<String> =
            order(parsed.sources).unwrap().into_iter().map(|source| source.name).collect();
        assert_eq!(names, ["b:", "c:", "a:", "d:"]);
        let urls: Vec<String> = of("x:1 | y;z:2").unwrap().into_iter().map(|source| source.url).collect();
        assert_eq!(urls, ["z:2", "x:1 | y"]);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let folder = std::env::temp_dir().join(format!("pactio-mount-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("m?.toml");
        for (text, what) in [
            ("", ": it mounts nothing; a source is a table [[source]] with url = \"...\""),
            ("[[source]]\nname = \"x\"", ", line 1: missing field `url`"),
            (
                "[[source]]\nurl = \"a:\"\n\nprio = 1",
                ", line 4: unknown field `prio`, expected one of `name`, `url`, `priority`, `at`, `optional`",
            ),
            ("[[source]]\nurl = \"a:\"\nat = \"../x\"", ": 'at' of source 1 is no folder: '../x'"),
            ("[[source]]\nurl = \"\"", ": the URL of source 1 is empty"),
        ] {
            fs::write(&path, text).unwrap();
            let error = of(path.to_str().unwrap()).unwrap_err();
            assert_eq!(error.message(), format!("{}{what}", path.display()));
        }
        fs::write(&path, "[[source]]\nurl = \"file:{folder}/x\"").unwrap();
        assert_eq!(of(path.to_str().unwrap()).unwrap()[0].url, format!("file:{}/x", folder.display()));
        fs::remove_dir_all(&folder).unwrap();
        assert!(of("/no/such.toml").unwrap_err().message().starts_with("there is no file /no/such.toml"));
    }
}
