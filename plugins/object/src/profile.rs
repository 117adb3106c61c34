//! Credentials and settings in the files of the providers' own tools: `~/.aws/credentials`, `~/.aws/config`, `~/.azure/config`.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ini::{Ini, ParseOption};
use pactio_sdk::{OpenError, OpenRequest};

/// The values of a profile, as far as they are used.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// The option `profile` names it: its credentials come before those of the environment.
    pub(crate) is_of_option: bool,
    pub(crate) key_id: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) account: Option<String>,
    pub(crate) sas_token: Option<String>,
}

impl Profile {
    /// The profile that applies to a request.
    ///
    /// # Errors
    ///
    /// If a profile is named that does not exist, or that has its credentials from a service that is not supported here.
    pub(crate) fn of(request: &OpenRequest<'_>) -> Result<Self, OpenError> {
        let name = request.option("profile");
        match request.scheme() {
            "s3" => Self::aws(name),
            "az" => Ok(Self::azure()),
            _ => Ok(Self::default()),
        }
    }

    /// The profile of the option, or else that of `AWS_PROFILE`, or else `default`. Only that of the option comes before the
    /// environment.
    fn aws(option: Option<&str>) -> Result<Self, OpenError> {
        let variable = env::var("AWS_PROFILE").ok().filter(|name| !name.is_empty());
        let requested = option.or(variable.as_deref());
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
        let config = file("AWS_CONFIG_FILE", ".aws/config");
        Self::of_files(option.is_some(), requested, credentials.as_deref(), config.as_deref())
    }

    /// The profile `requested`, or else `default`, put together from both files. Only a requested profile is refused if it
    /// is missing, cannot be read, or gets its keys in a way that is not supported.
    fn of_files(
        is_of_option: bool,
        requested: Option<&str>,
        credentials: Option<&Path>,
        config: Option<&Path>,
    ) -> Result<Self, OpenError> {
        let name = requested.unwrap_or("default");
        let files = [
            (credentials, name.to_owned()),
            // Only the default profile goes without the word.
            (config, if name == "default" { name.to_owned() } else { format!("profile {name}") }),
        ];
        let (mut profile, mut exists, mut source) = (Self { is_of_option, ..Self::default() }, false, None);
        for (path, section) in files {
            let Some(path) = path else { continue };
            let ini = match read(path) {
                Ok(Some(ini)) => ini,
                Ok(None) => continue,
                Err(why) if requested.is_some() => return Err(OpenError::invalid_input(why)),
                Err(why) => {
                    tracing::warn!("{why}");
                    continue;
                }
            };
            let Some(section) = ini.section(Some(section)) else { continue };
            exists = true;
            let value = |key: &str| section.get(key).map(str::to_owned);
            // A pair of keys is taken from one file.
            if profile.key_id.is_none() {
                profile.key_id = value("aws_access_key_id");
                profile.key = value("aws_secret_access_key");
                profile.token = value("aws_session_token");
            }
            profile.region = profile.region.or_else(|| value("region"));
            profile.endpoint = profile.endpoint.or_else(|| value("endpoint_url"));
            // The settings by which the tools of AWS get keys in other ways.
            let other = ["sso_session", "sso_start_url", "credential_process", "role_arn", "login_session"];
            source = source.or_else(|| other.into_iter().find(|key| section.contains_key(*key)));
        }
        let Some(name) = requested else { return Ok(profile) };
        if !exists {
            let files = [credentials, config].into_iter().flatten().map(|path| path.display().to_string());
            let files = files.collect::<Vec<_>>().join(" or ");
            return Err(OpenError::invalid_input(format!("there is no profile '{name}' in {files}")));
        }
        match source {
            Some(key) if profile.key_id.is_none() => Err(OpenError::invalid_input(format!(
                "the profile '{name}' has no keys but '{key}', which is not supported; \
                 `aws configure export-credentials --profile {name} --format env` prints keys for the environment"
            ))),
            _ => Ok(profile),
        }
    }

    /// The settings in the configuration of Azure's tools, if there is one.
    fn azure() -> Self {
        let folder = env::var_os("AZURE_CONFIG_DIR").map(PathBuf::from);
        let Some(folder) = folder.or_else(|| Some(env::home_dir()?.join(".azure"))) else {
            return Self::default();
        };
        Self::of_azure(&folder.join("config"))
    }

    /// The account and its keys in a configuration file of Azure's tools; none of them if the file cannot be read.
    fn of_azure(path: &Path) -> Self {
        let ini = read(path).unwrap_or_else(|why| {
            tracing::warn!("{why}");
            None
        });
        let Some(storage) = ini.as_ref().and_then(|ini| ini.section(Some("storage"))) else {
            return Self::default();
        };
        let value = |key: &str| storage.get(key).map(str::to_owned);
        Self {
            account: value("account"),
            key: value("key"),
            sas_token: value("sas_token"),
            ..Self::default()
        }
    }
}

/// The file that a variable names, or the usual one below the home folder.
fn file(variable: &str, usual: &str) -> Option<PathBuf> {
    match env::var_os(variable).filter(|path| !path.is_empty()) {
        Some(path) => Some(path.into()),
        None => Some(env::home_dir()?.join(usual)),
    }
}

/// Reads a file of sections; `None` if it does not exist.
fn read(path: &Path) -> Result<Option<Ini>, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    // Keys may have any characters.
    let options = ParseOption { enabled_quote: false, enabled_escape: false, ..ParseOption::default() };
    // The error of the library would show the line, which may be a secret.
    let parsed = Ini::load_from_str_opt(&text, options);
    parsed.map(Some).map_err(|error| {
        format!("cannot read {}: no sections and values near line {}", path.display(), error.line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(name: Option<&str>, credentials: &str, config: &str) -> Result<Profile, String> {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["credentials", "config"].map(|name| folder.path().join(name));
        fs::write(&paths[0], credentials).unwrap();
        fs::write(&paths[1], config).unwrap();
        Profile::of_files(false, name, Some(&paths[0]), Some(&paths[1])).map_err(|error| error.to_string())
    }

    const CREDENTIALS: &str = "# made by hand\n[default]\naws_access_key_id = AKIA1\naws_secret_access_key=a/b+c\\d=\n\n\
                               [work]\naws_access_key_id=AKIA2\naws_secret_access_key=\"x\"\naws_session_token=t#1\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1\ns3 =\n  max_concurrent_requests = 20\n\
                          [profile work]\nregion=us-east-2\nendpoint_url = http://127.0.0.1:9000\n[profile one]\nsso_session = x\n";

    #[test]
    fn a_profile_is_put_together_of_both_files() {
        let Ok(found) = profile(None, CREDENTIALS, CONFIG) else { panic!("no default profile") };
        assert_eq!(found.key_id.as_deref(), Some("AKIA1"));
        assert_eq!(found.key.as_deref(), Some("a/b+c\\d="));
        assert_eq!(found.region.as_deref(), Some("eu-west-1"));
        let Ok(found) = profile(Some("work"), CREDENTIALS, CONFIG) else { panic!("no profile 'work'") };
        assert_eq!(found.key.as_deref(), Some("\"x\""));
        assert_eq!(found.token.as_deref(), Some("t#1"));
        assert_eq!(found.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
    }

    #[test]
    fn profiles_that_cannot_be_used_are_refused_with_the_remedy() {
        let why = profile(Some("none"), CREDENTIALS, CONFIG).err().unwrap();
        assert!(why.contains("there is no profile 'none' in "), "{why}");
        let why = profile(Some("one"), CREDENTIALS, CONFIG).err().unwrap();
        assert!(why.contains("export-credentials --profile one"), "{why}");
        let why = profile(Some("work"), "[work]\nmy secret line\n", "").err().unwrap();
        assert!(why.contains("near line") && !why.contains("secret"), "{why}");
        assert!(profile(None, "no section", "").is_ok(), "the default profile need not be readable");
        assert!(Profile::of_files(false, None, Some(Path::new("/nonexistent/x")), None).is_ok());
    }

    #[test]
    fn the_settings_of_azure_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        fs::write(&path, "[cloud]\nname = AzureCloud\n[storage]\naccount = mine\nkey = a+b==\n").unwrap();
        let found = Profile::of_azure(&path);
        assert_eq!((found.account.as_deref(), found.key.as_deref()), (Some("mine"), Some("a+b==")));
    }
}
