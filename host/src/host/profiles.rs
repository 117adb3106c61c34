//! Devices that are described in a file and opened by name: `profile:assets`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Deserialize;

use crate::plugin::similar;
use crate::{Error, ErrorKind, Url};

/// The scheme of URLs that name a profile.
pub(crate) const SCHEME: &str = "profile";

/// Environment variable with the file of profiles.
const VARIABLE: &str = "PACTIO_PROFILES";

/// The file of profiles.
#[derive(Clone, Debug)]
pub(crate) struct Profiles(Option<PathBuf>);

/// One profile: a URL in parts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    scheme: String,
    #[serde(default)]
    target: String,
    #[serde(default)]
    options: BTreeMap<String, toml::Value>,
}

impl Profiles {
    /// The given file, or that of the environment, or that of the user.
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let configuration = || set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
        Self(file.or_else(|| set(VARIABLE)).or_else(|| Some(configuration()?.join("pactio/profiles.toml"))))
    }

    /// The URL that a profile stands for. Options of `url` come on top of the profile's.
    pub(crate) fn resolve(&self, url: &Url) -> Result<Url, Error> {
        let name = url.target();
        let wrong = |message: String| Error::new(ErrorKind::InvalidProfile, message);
        let Some(file) = &self.0 else {
            return Err(wrong(format!(
                "the profile '{name}' cannot be looked up: this user has no home folder"
            ))
            .with_hint(format!("name the file of profiles in {VARIABLE}")));
        };
        let shown = file.display();
        let text = fs::read_to_string(file).map_err(|error| {
            let message = match error.kind() {
                io::ErrorKind::NotFound => {
                    format!("the profile '{name}' is not there: {shown} does not exist")
                }
                _ => format!("the profile '{name}' cannot be looked up: {shown} cannot be read: {error}"),
            };
            wrong(message).with_hint(format!("{EXAMPLE}, or name another file in {VARIABLE}"))
        })?;
        let mut tables: BTreeMap<String, toml::Value> = toml::from_str(&text)
            .map_err(|error| wrong(format!("{shown} is not TOML: {}", one_line(&error, &text))))?;
        let Some(table) = tables.remove(name) else {
            let names: Vec<&str> = tables.keys().map(String::as_str).collect();
            let meant = similar(name, names.iter().copied());
            let meant = meant.map(|meant| format!("; did you mean '{meant}'?")).unwrap_or_default();
            let error = wrong(format!("{shown} has no profile '{name}'{meant}"));
            return Err(match names.as_slice() {
                [] => error.with_hint(EXAMPLE),
                names => error.with_hint(format!("its profiles are: {}", names.join(", "))),
            });
        };
        let profile: Profile = table.try_into().map_err(|error: toml::de::Error| {
            wrong(format!("the profile '{name}' in {shown}: {}", error.message()))
        })?;
        profile.into_url(url).map_err(|message| wrong(format!("the profile '{name}' in {shown}: {message}")))
    }
}

/// A hint that shows the form of a profile.
const EXAMPLE: &str = "a profile is a table such as [scratch] with scheme = \"memory\", target = \"\" and options = { size = \
                       \"64MiB\" }";

/// The line and the message of an error, without the text of the file, which may have secrets.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.matches('\n').count() + 1, error.message())
}

impl Profile {
    fn into_url(self, asked: &Url) -> Result<Url, String> {
        if self.scheme == SCHEME {
            return Err("a profile cannot stand for another one".to_owned());
        }
        let mut url = Url::new(&self.scheme, &self.target).map_err(|error| error.to_string())?;
        for (key, value) in &self.options {
            let value = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(flag) => flag.to_string(),
                _ => {
                    return Err(format!(
                        "the option '{key}' is neither text, a whole number, nor true or false"
                    ));
                }
            };
            url = url.with_option(key, &value);
        }
        let url = asked.options().iter().fold(url, |url, (key, value)| url.with_option(key, value));
        Ok(asked.filters().iter().fold(url, |url, filter| url.with_filter(filter.clone())))
    }
}

/// Whether a URL names a profile.
pub(crate) fn is_profile(url: &Url) -> bool {
    url.scheme() == SCHEME
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str, url: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("profiles.toml");
        fs::write(&file, text).unwrap();
        Profiles::new(Some(file.clone()))
            .resolve(&url.parse().unwrap())
            .map(|url| url.reveal())
            .map_err(|error| error.to_string().replace(&file.display().to_string(), "FILE"))
    }

    const ASSETS: &str = "[assets]\nscheme = \"file\"\ntarget = \"/data/a b?c\"\noptions = { direct = true, depth = 4, name = \"x&y\" }\n";

    #[test]
    fn a_profile_is_a_url_in_parts() {
        assert_eq!(
            resolve(ASSETS, "profile:assets").unwrap(),
            "file:/data/a b%3Fc?depth=4&direct=true&name=x%26y"
        );
        let resolved = resolve(ASSETS, "profile:assets?depth=9").unwrap();
        assert!(
            resolved.ends_with("?depth=4&direct=true&name=x%26y&depth=9"),
            "the last value counts: {resolved}"
        );
    }

    #[test]
    fn errors_say_where_and_show_no_values() {
        for (text, url, message) in [
            (ASSETS, "profile:asets", "FILE has no profile 'asets'; did you mean 'assets'?"),
            ("", "profile:a", "FILE has no profile 'a'"),
            (
                "[a]\n\ntoken = hunter2",
                "profile:a",
                "FILE is not TOML: line 3: string values must be quoted, expected literal string",
            ),
            ("[a]\ntarget = \"x\"", "profile:a", "the profile 'a' in FILE: missing field `scheme`"),
            (
                "[a]\nscheme = \"file\"\noption = {}",
                "profile:a",
                "the profile 'a' in FILE: unknown field `option`, expected one of `scheme`, `target`, `options`",
            ),
            (
                "[a]\nscheme = \"profile\"",
                "profile:a",
                "the profile 'a' in FILE: a profile cannot stand for another one",
            ),
            ("[a]\nscheme = \"7\"", "profile:a", "the profile 'a' in FILE: '7' is not a URL scheme"),
            (
                "[a]\nscheme = \"file\"\noptions = { x = [1] }",
                "profile:a",
                "the profile 'a' in FILE: the option 'x' is neither text, a whole number, nor true or false",
            ),
        ] {
            assert_eq!(resolve(text, url).unwrap_err(), message);
        }
        let error = Profiles::new(Some("/nowhere/at/all.toml".into()))
            .resolve(&"profile:a".parse().unwrap())
            .unwrap_err();
        assert_eq!(error.to_string(), "the profile 'a' is not there: /nowhere/at/all.toml does not exist");
        assert!(error.hint().unwrap().contains("PACTIO_PROFILES"));
    }
}
