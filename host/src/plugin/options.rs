//! The options of a URL, checked against the plugin's manifest.

use std::fs;

use super::manifest::Manifest;
use super::spec::{HIDDEN, OptionKind, PluginOption, check, similar};
use crate::{Error, ErrorKind, Url};

/// The options of a URL, checked, with defaults and secrets filled in.
pub(crate) struct Options {
    /// The options as the plugin gets them.
    pub(crate) values: Vec<(String, String)>,
    /// The URL as it may be shown.
    pub(crate) shown: String,
}

impl Options {
    /// Checks the options of `url`. The plugin need not be loaded for that.
    pub(crate) fn of(url: &Url, manifest: &Manifest) -> Result<Self, Error> {
        let mut shown = url.hiding_of_layer(|key| spec(manifest, key).is_none_or(|spec| spec.secret), HIDDEN);
        if manifest.filter {
            // A filter is written without the colon.
            shown = shown.replacen(':', "", 1);
        }
        let invalid = |message: String| Error::new(ErrorKind::InvalidOption, format!("'{shown}': {message}"));
        let help = || format!("`pactio help {}` lists the options", url.scheme());
        let mut values: Vec<(String, String)> = Vec::new();
        for (key, value) in url.options() {
            let Some(spec) = spec(manifest, key) else {
                let (message, hint) = unknown(url.scheme(), key, manifest);
                return Err(invalid(message).with_hint(hint));
            };
            let value = if spec.secret { secret(key, value).map_err(invalid)? } else { value.clone() };
            check(spec, &value).map_err(|message| invalid(message).with_hint(help()))?;
            if let Some(instead) = &spec.deprecated {
                tracing::warn!(
                    option = key.as_str(),
                    url = shown.as_str(),
                    "the option is deprecated: {instead}"
                );
            }
            // The last value of an option counts.
            values.retain(|(earlier, _)| earlier != key);
            values.push((key.clone(), value));
        }
        for spec in &manifest.options {
            if values.iter().any(|(key, _)| *key == spec.name) {
                continue;
            }
            match &spec.default {
                Some(default) => values.push((spec.name.clone(), default.clone())),
                None if spec.required => {
                    let joint = if url.options().is_empty() { '?' } else { '&' };
                    let (name, example) = (&spec.name, example(spec));
                    return Err(invalid(format!("the option '{name}' is missing: {}", spec.help))
                        .with_hint(format!("write {shown}{joint}{name}={example}")));
                }
                None => {}
            }
        }
        Ok(Self { values, shown })
    }
}

fn spec<'m>(manifest: &'m Manifest, key: &str) -> Option<&'m PluginOption> {
    manifest.options.iter().find(|spec| spec.name == key)
}

/// The message and the hint for an option that does not exist.
fn unknown(scheme: &str, key: &str, manifest: &Manifest) -> (String, String) {
    let owner = if manifest.filter { format!("the filter '{scheme}'") } else { format!("'{scheme}:'") };
    let names: Vec<&str> = manifest.options.iter().map(|spec| spec.name.as_str()).collect();
    if names.is_empty() {
        return (format!("{owner} has no option '{key}'"), "it has no options at all".to_owned());
    }
    let list = format!("its options are: {}; `pactio help {scheme}` explains them", names.join(", "));
    match similar(key, names) {
        Some(name) => (format!("{owner} has no option '{key}'; did you mean '{name}'?"), list),
        None => (format!("{owner} has no option '{key}'"), list),
    }
}

/// Reads a secret from the place that `value` names; a value that names no place is the secret itself.
fn secret(key: &str, value: &str) -> Result<String, String> {
    let text = if let Some(name) = value.strip_prefix("env:") {
        std::env::var(name).map_err(|_| {
            format!("the secret '{key}' is to be in the environment variable {name}, which is not set")
        })?
    } else if let Some(path) = value.strip_prefix("file:") {
        fs::read_to_string(path)
            .map_err(|error| format!("the secret '{key}' cannot be read from {path}: {error}"))?
    } else if let Some(number) = value.strip_prefix("fd:") {
        // The descriptor is read through its name in `/dev/fd`, so that this code need not claim to own the descriptor.
        let number: u32 =
            number.parse().map_err(|_| format!("the secret '{key}': '{number}' is not a descriptor"))?;
        fs::read_to_string(format!("/dev/fd/{number}"))
            .map_err(|error| format!("the secret '{key}' cannot be read from fd:{number}: {error}"))?
    } else {
        value.to_owned()
    };
    // Editors and `echo` end files with a line break.
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// An example of a value.
fn example(spec: &PluginOption) -> &str {
    match spec.kind {
        OptionKind::Flag => "true",
        OptionKind::Integer => spec.least.as_deref().unwrap_or("1"),
        OptionKind::Size => "64MiB",
        OptionKind::Duration => "250ms",
        OptionKind::Text if spec.secret => "env:NAME",
        OptionKind::Text => "TEXT",
        OptionKind::Choice => spec.choices.first().map_or("", String::as_str),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(options: &str) -> Manifest {
        let text = format!(
            r#"{{"id":"x","version":"1","description":"","schemes":["x"],"abi":"","fingerprint":"","options":[{options}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn said(manifest: &Manifest, url: &str) -> (String, String) {
        match Options::of(&url.parse().unwrap(), manifest) {
            Ok(options) => (format!("{:?}", options.values), options.shown),
            Err(error) => (error.to_string(), error.hint().unwrap_or_default().to_owned()),
        }
    }

    #[test]
    fn every_kind_is_checked_and_every_error_says_what_to_write() {
        let manifest = manifest(
            r#"{"name":"size","type":"size","required":true,"help":"how large","most":"1GiB"},
               {"name":"n","type":"integer","least":"-3","most":"9"},
               {"name":"wait","type":"duration","least":"1ms"},
               {"name":"mode","type":"choice","choices":["direct","cached"],"default":"cached"},
               {"name":"quiet","type":"flag"}"#,
        );
        for (url, message, hint) in [
            ("x:?size=1KiB&n=-3&wait=1.5s&quiet=true", "", ""),
            ("x:?n=1", "'x:?n=1': the option 'size' is missing: how large", "write x:?n=1&size=64MiB"),
            (
                "x:t?sise=1",
                "'x:t?sise=***': 'x:' has no option 'sise'; did you mean 'size'?",
                "its options are: size, n, wait, mode, quiet; `pactio help x` explains them",
            ),
            (
                "x:?size=big",
                "'x:?size=big': option 'size' is 'big', but must be a size such as 4096, 64KiB or 1.5GiB",
                "`pactio help x` lists the options",
            ),
            (
                "x:?size=2GiB",
                "'x:?size=2GiB': option 'size' is 2GiB, but must be at most 1GiB",
                "`pactio help x` lists the options",
            ),
            (
                "x:?size=1&n=10",
                "'x:?size=1&n=10': option 'n' is 10, but must be -3 to 9",
                "`pactio help x` lists the options",
            ),
            (
                "x:?size=1&wait=0.1ms",
                "'x:?size=1&wait=0.1ms': option 'wait' is 0.1ms, but must be 1ms or more",
                "`pactio help x` lists the options",
            ),
            (
                "x:?size=1&wait=5",
                "'x:?size=1&wait=5': option 'wait' is '5', but must be a time such as 250ms, 1.5s or 2min",
                "`pactio help x` lists the options",
            ),
            (
                "x:?size=1&mode=cahced",
                "'x:?size=1&mode=cahced': option 'mode' is 'cahced', but must be one of: direct, cached; did you mean 'cached'?",
                "`pactio help x` lists the options",
            ),
            (
                "x:?size=1&quiet=yes",
                "'x:?size=1&quiet=yes': option 'quiet' is 'yes', but must be true or false",
                "`pactio help x` lists the options",
            ),
        ] {
            let (found, also) = said(&manifest, url);
            if message.is_empty() {
                assert_eq!(
                    found,
                    r#"[("size", "1KiB"), ("n", "-3"), ("wait", "1.5s"), ("quiet", "true"), ("mode", "cached")]"#
                );
            } else {
                assert_eq!((found.as_str(), also.as_str()), (message, hint));
            }
        }
        assert_eq!(said(&manifest, "x:?size=1&size=2").0, r#"[("size", "2"), ("mode", "cached")]"#);
    }

    #[test]
    fn secrets_are_read_from_where_they_are_and_shown_nowhere() {
        let manifest = manifest(r#"{"name":"token","type":"text","secret":true}"#);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "hunter2\n").unwrap();
        let from_file = format!("x:?token=file:{}", path.display());
        assert_eq!(
            said(&manifest, &from_file),
            (r#"[("token", "hunter2")]"#.to_owned(), "x:?token=***".to_owned())
        );
        assert_eq!(said(&manifest, "x:?token=hunter2").1, "x:?token=***");
        #[cfg(unix)]
        {
            use std::os::fd::AsRawFd;
            let open = fs::File::open(&path).unwrap();
            let from_descriptor = format!("x:?token=fd:{}", open.as_raw_fd());
            assert_eq!(said(&manifest, &from_descriptor).0, r#"[("token", "hunter2")]"#);
        }
        assert_eq!(
            said(&manifest, "x:?token=env:PACTIO_NO_SUCH_VARIABLE").0,
            "'x:?token=***': the secret 'token' is to be in the environment variable PACTIO_NO_SUCH_VARIABLE, which is not set"
        );
        assert!(
            said(&manifest, "x:?token=fd:-1").0.ends_with("the secret 'token': '-1' is not a descriptor")
        );
        assert!(
            said(&manifest, "x:?token=file:/nowhere/at/all")
                .0
                .contains("cannot be read from /nowhere/at/all: No such file")
        );
        // A secret under a wrong name is a secret, too.
        assert!(!said(&manifest, "x:?tokem=hunter2").0.contains("hunter2"));
    }
}
