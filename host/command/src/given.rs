//! URLs as they were given on the command line.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use pactio::{Device, Error, Host, OpenOptions, Opening, Url};

/// A URL that was given. It may hold secrets, so that it is printed without the values of its options; a device that was opened
/// knows which of them are secret, and shows the others.
#[derive(Clone)]
pub(super) struct GivenUrl(String);

impl FromStr for GivenUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl GivenUrl {
    /// Opens the device to be read.
    pub(super) fn open(&self, host: &Host) -> Result<Device, Error> {
        host.open(&self.0)
    }

    pub(super) fn open_with(&self, host: &Host, options: OpenOptions) -> Result<Device, Error> {
        host.open_with(&self.0, options)
    }

    pub(super) fn opening(&self, host: &Host, options: OpenOptions) -> Opening {
        host.opening(&self.0, options)
    }

    /// The same URL with a slash at its end, which says that it is a folder; `None` if it names no path.
    pub(super) fn as_folder(&self) -> Option<Self> {
        let url =
            self.0.parse::<Url>().ok().filter(|url| url.filters().is_empty() && url.name().is_none())?;
        let target = format!("{}/", url.target().trim_end_matches('/'));
        let folder = Url::new(url.scheme(), &target).ok()?;
        let with = |folder: Url, (key, value): &(String, String)| folder.with_option(key, value);
        Some(Self(url.options().iter().fold(folder, with).reveal()))
    }

    /// The same URL with an option, if its plugin has that option, and the URL does not set it and names one device.
    pub(super) fn with_default(&self, host: &Host, key: &str, value: &str) -> Self {
        let url = self.0.parse::<Url>().ok().filter(|url| url.filters().is_empty() && url.name().is_none());
        let url = url.filter(|url| url.options().iter().all(|(given, _)| given != key));
        let has_option = |url: &Url| {
            let plugin = host.plugin_with_scheme(url.scheme());
            plugin.is_ok_and(|plugin| plugin.manifest().options.iter().any(|option| option.name == key))
        };
        url.filter(has_option).map_or_else(|| self.clone(), |url| Self(url.with_option(key, value).reveal()))
    }

    /// The text with its secrets, for another process or a part of it.
    pub(super) fn secret_text(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GivenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.parse::<Url>() {
            Ok(url) => fmt::Display::fmt(&url, f),
            Err(_) => f.write_str("(no URL)"),
        }
    }
}

impl fmt::Debug for GivenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
